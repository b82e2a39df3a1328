// ngtcp2 with its GnuTLS helper, behind names of our own. ngtcp2's entry points are versioned macros and
// its structures differ between 0.12 (Debian 12, Ubuntu 24.04) and 1.x (Debian 13, backports), so none of
// its headers is seen from here: everything that depends on the version is in the .c files.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "clinux.h"

/// "0.12.1" and the like: the version of the library that is loaded.
const char *cq_library_version(void);
/// Whether the machine has a faster AES-128-GCM than GnuTLS's. The first call looks for it.
bool cq_has_fast_aead(void);

// MARK: Results

/// What a call answers instead of the library's error numbers, which differ between its versions.
enum {
    CQ_OK = 0,
    CQ_STREAM_BLOCKED = -1,      // flow control of the stream or the connection
    CQ_STREAM_SHUT = -2,         // the stream's sending part is closed
    CQ_STREAM_GONE = -3,         // no such stream
    CQ_WRITE_MORE = -4,          // the frame is in the packet, which has room for another one
    CQ_NO_STREAM_CREDIT = -5,
    CQ_NO_CONNECTION_ID = -6,    // the peer has not given a spare connection id
    CQ_DRAINING = -7,            // the peer has closed, or sent a stateless reset
    CQ_DROP = -8,                // forget the connection without a packet
    CQ_IDLE = -9,
    CQ_HANDSHAKE_TIMEOUT = -10,
    CQ_VERSION_NEGOTIATION = -11,
    CQ_TLS = -12,                // the TLS handshake failed
    CQ_REFUSED = -13,            // invalid in the connection's state
    CQ_FAILED = -14,             // any other error: close the connection
};

// MARK: Connection ids

/// A connection id of at most 20 bytes, zero padded, in memory order.
struct cq_cid {
    uint64_t first;
    uint64_t second;
    uint32_t third;
    uint32_t length;
};

// MARK: Paths

/// A local and a remote address in the form that the library wants.
typedef struct cq_path cq_path;
cq_path *cq_path_new(void);
void cq_path_free(cq_path *path);
void cq_path_set(cq_path *path, const struct cl_address *local, const struct cl_address *peer);

// MARK: Packets outside of a connection

enum { CQ_HEADER_KNOWN = 0, CQ_HEADER_OTHER_VERSION = 1, CQ_HEADER_INVALID = -1 };

struct cq_header {
    struct cq_cid dcid;
    struct cq_cid scid;   // long headers only
    uint32_t version;     // 0 for a short header
};

/// Decodes the version-independent part (RFC 8999); short headers have connection ids of `short_length`.
int cq_decode_header(const uint8_t *packet, size_t count, size_t short_length, struct cq_header *header);

/// An Initial packet of a client that may open a connection.
struct cq_initial {
    struct cq_cid dcid;
    struct cq_cid scid;
    uint32_t version;
    const uint8_t *token;  // inside the packet
    size_t token_count;
};

/// Whether `packet` is an Initial that a server may answer.
bool cq_accept(const uint8_t *packet, size_t count, struct cq_initial *initial);
/// A Version Negotiation packet that offers QUIC v1; its length or below 0.
ssize_t cq_write_version_negotiation(uint8_t *bytes, size_t capacity, const struct cq_header *header);
/// A Retry packet whose token binds the client's address; its length or below 0.
ssize_t cq_write_retry(uint8_t *bytes, size_t capacity, const struct cq_initial *initial,
                       const struct cq_cid *scid, const cq_path *path, const uint8_t *secret,
                       size_t secret_count, uint64_t now);
/// Whether the token is a Retry token (RFC 9000 section 8.1.1) by its first byte.
bool cq_is_retry_token(const struct cq_initial *initial);
/// Checks a Retry token; the client's first destination connection id goes to `original`.
bool cq_verify_retry_token(const struct cq_initial *initial, const cq_path *path, const uint8_t *secret,
                           size_t secret_count, uint64_t timeout, uint64_t now, struct cq_cid *original);
/// A CONNECTION_CLOSE in an Initial packet, without state; its length or below 0.
ssize_t cq_write_initial_close(uint8_t *bytes, size_t capacity, const struct cq_initial *initial,
                               uint64_t code);
enum { CQ_RESET_TOKEN_COUNT = 16 };
void cq_stateless_reset_token(uint8_t *token, const uint8_t *secret, size_t secret_count,
                              const struct cq_cid *cid);
ssize_t cq_write_stateless_reset(uint8_t *bytes, size_t capacity, const uint8_t *token);

// MARK: Credentials

typedef struct cq_credentials cq_credentials;

/// A certificate chain and its key, both PEM. NULL on failure with a text in `error`.
cq_credentials *cq_server_credentials_new(const uint8_t *certificate, size_t certificate_count,
                                          const uint8_t *key, size_t key_count, char *error,
                                          size_t error_capacity);
enum { CQ_TRUST_NONE, CQ_TRUST_SYSTEM, CQ_TRUST_PEM };
/// The authorities that a client trusts.
cq_credentials *cq_client_credentials_new(int trust, const uint8_t *authorities, size_t count, char *error,
                                          size_t error_capacity);
void cq_credentials_free(cq_credentials *credentials);
/// SHA-256 of the first certificate's DER in a PEM text, what a pin is compared with.
bool cq_certificate_sha256(const uint8_t *certificate, size_t count, uint8_t digest[32]);

// MARK: Connections

typedef struct cq_connection cq_connection;
typedef struct cq_workspace cq_workspace;

/// `connection` and `stream` are the values given at creation, opening, or by cq_set_stream_context.
struct cq_callbacks {
    void (*stream_opened)(void *connection, int64_t id);
    void (*stream_data)(void *connection, void *stream, const uint8_t *bytes, size_t count, bool fin);
    /// All bytes before `offset` are acknowledged; their memory is free.
    void (*stream_acknowledged)(void *stream, uint64_t offset);
    void (*stream_reset)(void *stream, uint64_t code);
    /// STOP_SENDING for a stream that may be closed or unknown.
    void (*stream_stop_sending)(void *connection, int64_t id, uint64_t code);
    void (*stream_credit)(void *stream);
    void (*stream_closed)(void *connection, void *stream, int64_t id);
    void (*stream_limit)(void *connection);
    void (*handshake_completed)(void *connection);
    void (*path_validated)(void *connection);
    void (*datagram)(void *connection, const uint8_t *bytes, size_t count);
    /// Of a datagram of `count` bytes.
    void (*datagram_acknowledged)(void *connection, uint64_t count);
    void (*datagram_lost)(void *connection, uint64_t count);
    void (*stateless_reset)(void *connection);
    /// Makes and registers a connection id and its reset token.
    void (*new_cid)(void *connection, struct cq_cid *cid, uint8_t *token);
    /// A token by which the peer may reset the connection statelessly has come into use, or out of it.
    void (*peer_reset_token)(void *connection, const uint8_t *token, bool is_active);
    void (*remove_cid)(void *connection, const struct cq_cid *cid);
};

/// What path MTU discovery looks for at most: jumbo frames of 9,000 bytes, less the headers of IPv6 and UDP.
enum { CQ_LARGEST_UDP_PAYLOAD = 8952 };

enum { CQ_CONGESTION_CUBIC, CQ_CONGESTION_BBR };

struct cq_settings {
    uint64_t now;
    int congestion;
    uint64_t max_idle_timeout;  // nanoseconds, as all durations here; 0 for none
    uint64_t handshake_timeout;
    uint64_t initial_max_data;
    uint64_t initial_max_stream_data;
    uint64_t initial_max_streams;
    uint64_t max_window;
    uint64_t max_stream_window;
    uint64_t fixed_udp_payload; // without path MTU discovery; 0 for discovery
    uint64_t max_datagram_frame;
    bool fast_aead;             // if cq_has_fast_aead()
    bool chacha20_only;         // no AES: as a peer without it
};

/// What the connections of one endpoint share: they are all used on one thread. NULL without memory.
cq_workspace *cq_workspace_new(void);
/// It goes when the connections made with it have gone, too.
void cq_workspace_free(cq_workspace *workspace);

/// A server's connection for an accepted Initial. `scid` is ours; `original` is the client's first
/// destination connection id after a Retry, NULL without one.
cq_connection *cq_server_new(cq_workspace *workspace, const struct cq_callbacks *callbacks, void *context,
                             const struct cq_settings *settings, const cq_credentials *credentials,
                             const char *protocol, const cq_path *path, const struct cq_initial *initial,
                             const struct cq_cid *scid, const struct cq_cid *original,
                             const uint8_t *reset_token);

struct cq_verification {
    bool skip;              // any certificate will do
    const char *host;       // NULL: only the pin counts
    const uint8_t *pin;     // SHA-256 of the leaf's DER, or NULL
};

cq_connection *cq_client_new(cq_workspace *workspace, const struct cq_callbacks *callbacks, void *context,
                             const struct cq_settings *settings, const cq_credentials *credentials,
                             const struct cq_verification *verification, const char *protocol,
                             const cq_path *path, const struct cq_cid *dcid, const struct cq_cid *scid);
void cq_free(cq_connection *connection);
/// Frees the TLS session; only after the handshake. CRYPTO data that a client still sends is refused.
void cq_free_tls(cq_connection *connection);
/// The protocol chosen by ALPN is the one given at creation; only while the TLS session lives.
bool cq_protocol_matches(cq_connection *connection);

int cq_read(cq_connection *connection, const cq_path *path, uint8_t ecn, const uint8_t *packet, size_t count,
            uint64_t now);

struct cq_written {
    int64_t taken;    // bytes of the stream that went into a packet; -1: none, not even a FIN
    uint8_t ecn;
    bool accepted;    // the datagram went into a packet
    bool new_path;    // the packet goes another way than the one before; see cq_last_path
};

/// Writes the next packet with data of stream `id` (-1: none). `first` and `second` must stay in place until
/// acknowledged. The packet's size, 0 when nothing may be sent now, or an error.
ssize_t cq_write_stream(cq_connection *connection, uint8_t *bytes, size_t capacity, int64_t id, bool fin,
                        bool more, const void *first, size_t first_count, const void *second,
                        size_t second_count, struct cq_written *written, uint64_t now);
ssize_t cq_write_datagram(cq_connection *connection, uint8_t *bytes, size_t capacity, const void *datagram,
                          size_t count, bool more, struct cq_written *written, uint64_t now);
/// Where the last packet written goes to.
void cq_last_path(cq_connection *connection, struct cl_address *local, struct cl_address *peer);
/// CONNECTION_CLOSE with an application's code.
ssize_t cq_write_application_close(cq_connection *connection, uint8_t *bytes, size_t capacity, uint64_t code,
                                   const uint8_t *reason, size_t reason_count, struct cq_written *written,
                                   uint64_t now);
/// CONNECTION_CLOSE for the error that a call has just answered.
ssize_t cq_write_error_close(cq_connection *connection, uint8_t *bytes, size_t capacity,
                             struct cq_written *written, uint64_t now);
/// Starts the pacing interval after a burst.
void cq_burst_ended(cq_connection *connection, uint64_t now);
size_t cq_send_quantum(cq_connection *connection);
/// The largest packet that the current path takes.
size_t cq_payload_limit(cq_connection *connection);
/// UINT64_MAX for never.
uint64_t cq_expiry(cq_connection *connection);
int cq_handle_expiry(cq_connection *connection, uint64_t now);

/// Whether path MTU discovery looks beyond a common Ethernet.
bool cq_finds_jumbo_frames(void);
/// The largest datagram that fits both the path, UDP payloads of `largest` bytes, and the peer's limit; 0 when the peer
/// takes none.
size_t cq_datagram_limit(cq_connection *connection, size_t largest);

int cq_open_stream(cq_connection *connection, void *context, int64_t *id);
int cq_set_stream_context(cq_connection *connection, int64_t id, void *context);
uint64_t cq_streams_left(cq_connection *connection);
int cq_reset_stream(cq_connection *connection, int64_t id, uint64_t code);
int cq_stop_sending(cq_connection *connection, int64_t id, uint64_t code);
void cq_extend_stream(cq_connection *connection, int64_t id, uint64_t count);
void cq_extend_connection(cq_connection *connection, uint64_t count);
void cq_extend_streams(cq_connection *connection, uint64_t count);
bool cq_is_local_stream(cq_connection *connection, int64_t id);
uint64_t cq_stream_credit_left(cq_connection *connection, int64_t id);
uint64_t cq_stream_loss_count(cq_connection *connection, int64_t id);

bool cq_is_handshake_completed(cq_connection *connection);
void cq_set_keep_alive(cq_connection *connection, uint64_t interval);
int cq_initiate_key_update(cq_connection *connection, uint64_t now);
/// Moves the connection to a new local address: with a fresh connection id and path validation when the
/// handshake is confirmed, as a NAT rebinding otherwise.
int cq_migrate(cq_connection *connection, const cq_path *path, uint64_t now);
/// The current path.
void cq_current_path(cq_connection *connection, struct cl_address *local, struct cl_address *peer);
uint64_t cq_probe_timeout(cq_connection *connection);

struct cq_info {
    uint64_t smoothed_rtt;
    uint64_t min_rtt;
    uint64_t congestion_window;
    uint64_t bytes_in_flight;
};
void cq_get_info(cq_connection *connection, struct cq_info *info);

enum { CQ_CLOSE_TRANSPORT, CQ_CLOSE_APPLICATION, CQ_CLOSE_OTHER };
struct cq_close {
    int kind;
    uint64_t code;
    uint32_t reason_count;
    uint8_t reason[256];
};
/// Why the peer has closed.
void cq_peer_close(cq_connection *connection, struct cq_close *close);
/// The text of the last error, with the TLS alert and what is wrong with the certificate.
void cq_error_text(cq_connection *connection, char *text, size_t capacity);
