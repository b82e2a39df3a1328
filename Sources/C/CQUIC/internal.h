// What the files of this room share; the only place that includes the libraries' headers.
#pragma once

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <netinet/in.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>
#include <string.h>

#include "cquic.h"

#if NGTCP2_VERSION_NUM >= 0x010000
#define CQ_NGTCP2_1 1
typedef ngtcp2_ccerr cq_ccerr;
#define cq_ccerr_default ngtcp2_ccerr_default
#define cq_ccerr_set_liberr ngtcp2_ccerr_set_liberr
#define cq_ccerr_set_tls_alert ngtcp2_ccerr_set_tls_alert
#define cq_ccerr_set_application_error ngtcp2_ccerr_set_application_error
typedef ngtcp2_encryption_level cq_level;
#else
#define CQ_NGTCP2_1 0
typedef ngtcp2_connection_close_error cq_ccerr;
#define cq_ccerr_default ngtcp2_connection_close_error_default
#define cq_ccerr_set_liberr ngtcp2_connection_close_error_set_transport_error_liberr
#define cq_ccerr_set_tls_alert ngtcp2_connection_close_error_set_transport_error_tls_alert
#define cq_ccerr_set_application_error ngtcp2_connection_close_error_set_application_error
typedef ngtcp2_crypto_level cq_level;
#endif

struct cq_path {
    ngtcp2_path_storage storage;
};

struct cq_credentials {
    gnutls_certificate_credentials_t certificates;
    gnutls_priority_t priorities;
};

enum { CQ_MAX_STOPS = 32 };
struct cq_stop {
    int64_t id;
    uint64_t code;
};
struct cq_stops {
    uint32_t count;
    struct cq_stop all[CQ_MAX_STOPS];
};

struct cq_workspace {
    size_t holders;  // the endpoint and its connections
    ngtcp2_mem memory;
    bool has_memory;     // whether the library takes `memory`
    uint8_t *plaintext;  // of the packet at hand; NULL before the first
    struct cq_key_tables *key_tables;  // NULL before the first
    ngtcp2_path_storage packet_path;   // of the packet just written
};

struct cq_connection {
    ngtcp2_conn *conn;
    cq_workspace *workspace;
    const struct cq_callbacks *callbacks;
    void *context;
    gnutls_session_t session;  // NULL once freed
    ngtcp2_crypto_conn_ref reference;
    ngtcp2_path_storage last_path;  // of the packet before the one just written
    int last_error;
    bool is_server;
    bool skips_verification;
    bool has_pin;
    bool has_fast_aead;
    bool is_chacha20_only;
    uint8_t pin[32];
    char *host;
    char protocol[32];
    char *text;  // why the peer's certificate was refused, or NULL
    // STOP_SENDING frames of the packet at hand.
    struct cq_stops *stops;  // NULL between packets
};

static inline ngtcp2_cid cq_to_cid(const struct cq_cid *cid) {
    ngtcp2_cid result;
    ngtcp2_cid_init(&result, (const uint8_t *)cid, cid->length);
    return result;
}

static inline struct cq_cid cq_from_bytes(const uint8_t *bytes, size_t count) {
    struct cq_cid result = {0};
    if (count > NGTCP2_MAX_CIDLEN) count = NGTCP2_MAX_CIDLEN;
    if (count > 0) memcpy(&result, bytes, count);
    result.length = (uint32_t)count;
    return result;
}

static inline struct cq_cid cq_from_cid(const ngtcp2_cid *cid) {
    return cq_from_bytes(cid->data, cid->datalen);
}

/// Holds it until one more cq_workspace_free.
cq_workspace *cq_workspace_hold(cq_workspace *workspace);
/// Where a connection's memory comes from; NULL for the library's own way.
const ngtcp2_mem *cq_memory(cq_workspace *workspace);
/// NULL is allowed.
void cq_free_key_tables(struct cq_key_tables *tables);

/// Makes the TLS session of a connection whose other members are set.
int cq_tls_start(struct cq_connection *connection, const cq_credentials *credentials);
/// The connection whose packets are being read on this thread; NULL for none.
void cq_reading(struct cq_connection *connection);
/// Decrypts, and notes the STOP_SENDING frames found.
int cq_decrypt(uint8_t *bytes, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *context,
               const uint8_t *ciphertext, size_t count, const uint8_t *nonce, size_t nonce_count,
               const uint8_t *header, size_t header_count);
/// Has the secrets of 1-RTT packets installed as keys of the faster AEAD.
void cq_use_fast_aead(gnutls_session_t session);
/// The callbacks that take keys of either AEAD.
int cq_encrypt(uint8_t *bytes, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *context,
               const uint8_t *plaintext, size_t count, const uint8_t *nonce, size_t nonce_count,
               const uint8_t *header, size_t header_count);
int cq_open(uint8_t *bytes, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *context,
            const uint8_t *ciphertext, size_t count, const uint8_t *nonce, size_t nonce_count,
            const uint8_t *header, size_t header_count);
int cq_header_mask(uint8_t *mask, const ngtcp2_crypto_cipher *cipher, const ngtcp2_crypto_cipher_ctx *context,
                   const uint8_t *sample);
int cq_update_key(ngtcp2_conn *conn, uint8_t *rx_secret, uint8_t *tx_secret, ngtcp2_crypto_aead_ctx *rx,
                  uint8_t *rx_iv, ngtcp2_crypto_aead_ctx *tx, uint8_t *tx_iv, const uint8_t *current_rx_secret,
                  const uint8_t *current_tx_secret, size_t count, void *user_data);
void cq_delete_packet_key(ngtcp2_conn *conn, ngtcp2_crypto_aead_ctx *context, void *user_data);
void cq_delete_header_key(ngtcp2_conn *conn, ngtcp2_crypto_cipher_ctx *context, void *user_data);
/// What the library's error number means to our callers; it is kept for cq_write_error_close.
int cq_result(struct cq_connection *connection, int error);
