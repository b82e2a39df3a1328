// Credentials, TLS sessions, and what a client accepts as its peer.
#include <arpa/inet.h>
#include <stdio.h>

#include "internal.h"

// AES-128-GCM comes first and the server's order counts: GnuTLS's ChaCha20-Poly1305 costs ten times as much
// a packet. Middlebox compatibility mode is forbidden in QUIC (RFC 9001 section 8.4).
#define PRIORITIES(ciphers)                                                                       \
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:" ciphers                                          \
    ":-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1:%SERVER_PRECEDENCE"              \
    ":%DISABLE_TLS13_COMPAT_MODE"
static const char priorities[] = PRIORITIES("+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305");
static const char chacha20_priorities[] = PRIORITIES("+CHACHA20-POLY1305");

static cq_credentials *credentials_new(char *error, size_t error_capacity) {
    cq_credentials *credentials = gnutls_calloc(1, sizeof *credentials);
    if (credentials == NULL) return NULL;
    int result = gnutls_certificate_allocate_credentials(&credentials->certificates);
    if (result == 0) result = gnutls_priority_init2(&credentials->priorities, priorities, NULL, 0);
    if (result == 0) return credentials;
    snprintf(error, error_capacity, "%s", gnutls_strerror(result));
    cq_credentials_free(credentials);
    return NULL;
}

cq_credentials *cq_server_credentials_new(const uint8_t *certificate, size_t certificate_count,
                                          const uint8_t *key, size_t key_count, char *error,
                                          size_t error_capacity) {
    cq_credentials *credentials = credentials_new(error, error_capacity);
    if (credentials == NULL) return NULL;
    gnutls_datum_t chain = {(unsigned char *)certificate, (unsigned)certificate_count};
    gnutls_datum_t private_key = {(unsigned char *)key, (unsigned)key_count};
    int result = gnutls_certificate_set_x509_key_mem(credentials->certificates, &chain, &private_key,
                                                     GNUTLS_X509_FMT_PEM);
    if (result >= 0) return credentials;
    snprintf(error, error_capacity, "%s", gnutls_strerror(result));
    cq_credentials_free(credentials);
    return NULL;
}

cq_credentials *cq_client_credentials_new(int trust, const uint8_t *authorities, size_t count, char *error,
                                          size_t error_capacity) {
    cq_credentials *credentials = credentials_new(error, error_capacity);
    if (credentials == NULL) return NULL;
    int result = 0;
    if (trust == CQ_TRUST_SYSTEM) {
        result = gnutls_certificate_set_x509_system_trust(credentials->certificates);
    } else if (trust == CQ_TRUST_PEM) {
        gnutls_datum_t pem = {(unsigned char *)authorities, (unsigned)count};
        result = gnutls_certificate_set_x509_trust_mem(credentials->certificates, &pem, GNUTLS_X509_FMT_PEM);
        if (result == 0) {
            snprintf(error, error_capacity, "no certificate found");
            result = -1;
        } else if (result < 0) {
            snprintf(error, error_capacity, "%s", gnutls_strerror(result));
        }
    }
    if (result >= 0) return credentials;
    cq_credentials_free(credentials);
    return NULL;
}

void cq_credentials_free(cq_credentials *credentials) {
    if (credentials == NULL) return;
    if (credentials->certificates != NULL) gnutls_certificate_free_credentials(credentials->certificates);
    if (credentials->priorities != NULL) gnutls_priority_deinit(credentials->priorities);
    gnutls_free(credentials);
}

bool cq_certificate_sha256(const uint8_t *certificate, size_t count, uint8_t digest[32]) {
    gnutls_x509_crt_t *chain = NULL;
    unsigned size = 0;
    gnutls_datum_t pem = {(unsigned char *)certificate, (unsigned)count};
    if (gnutls_x509_crt_list_import2(&chain, &size, &pem, GNUTLS_X509_FMT_PEM, 0) < 0 || size == 0)
        return false;
    size_t digest_count = 32;
    bool done = gnutls_x509_crt_get_fingerprint(chain[0], GNUTLS_DIG_SHA256, digest, &digest_count) == 0;
    for (unsigned i = 0; i < size; i++) gnutls_x509_crt_deinit(chain[i]);
    gnutls_free(chain);
    return done;
}

// MARK: Verification

static bool matches_pin(const cq_connection *connection, gnutls_session_t session) {
    if (!connection->has_pin) return false;
    unsigned count = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
    if (chain == NULL || count == 0) return false;
    uint8_t digest[32];
    if (gnutls_hash_fast(GNUTLS_DIG_SHA256, chain[0].data, chain[0].size, digest) != 0) return false;
    return gnutls_memcmp(digest, connection->pin, sizeof digest) == 0;
}

static void set_text(cq_connection *connection, const char *text) {
    gnutls_free(connection->text);
    connection->text = gnutls_strdup(text);
}

/// Answers 0 to accept: the certificate verifies for the host, or is the pinned one.
static int verify_peer(gnutls_session_t session) {
    ngtcp2_crypto_conn_ref *reference = gnutls_session_get_ptr(session);
    cq_connection *connection = reference->user_data;
    if (connection->skips_verification || matches_pin(connection, session)) return 0;
    if (connection->host == NULL) {
        set_text(connection, "certificate is not the pinned one");
        return -1;
    }
    unsigned status = 0;
    int result = gnutls_certificate_verify_peers3(session, connection->host, &status);
    if (result == 0 && status == 0) return 0;
    gnutls_datum_t text = {NULL, 0};
    if (result != 0) {
        set_text(connection, gnutls_strerror(result));
    } else if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) == 0) {
        set_text(connection, (const char *)text.data);
        gnutls_free(text.data);
    }
    return -1;
}

// MARK: Sessions

static ngtcp2_conn *conn_of(ngtcp2_crypto_conn_ref *reference) {
    return ((cq_connection *)reference->user_data)->conn;
}

static bool is_address(const char *host) {
    uint8_t address[16];
    return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

static int configure(cq_connection *connection, const cq_credentials *credentials) {
    gnutls_session_t session = connection->session;
    int result = connection->is_chacha20_only
                     ? gnutls_priority_set_direct(session, chacha20_priorities, NULL)
                     : gnutls_priority_set(session, credentials->priorities);
    if (result == 0)
        result = gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials->certificates);
    if (result == 0)
        result = connection->is_server ? ngtcp2_crypto_gnutls_configure_server_session(session)
                                       : ngtcp2_crypto_gnutls_configure_client_session(session);
    if (result == 0 && connection->has_fast_aead) cq_use_fast_aead(session);
    gnutls_datum_t protocol = {(unsigned char *)connection->protocol, (unsigned)strlen(connection->protocol)};
    if (result == 0) result = gnutls_alpn_set_protocols(session, &protocol, 1, GNUTLS_ALPN_MANDATORY);
    if (result == 0 && !connection->is_server) {
        gnutls_session_set_verify_function(session, verify_peer);
        const char *host = connection->host;
        // A server name is a DNS name; addresses are not sent (RFC 6066 section 3).
        if (host != NULL && !is_address(host))
            result = gnutls_server_name_set(session, GNUTLS_NAME_DNS, host, strlen(host));
    }
    return result;
}

int cq_tls_start(cq_connection *connection, const cq_credentials *credentials) {
    // Without tickets nothing follows the handshake, so the session can be freed after it.
    unsigned flags = GNUTLS_NO_TICKETS | GNUTLS_NO_AUTO_SEND_TICKET;
    flags |= connection->is_server ? GNUTLS_SERVER : GNUTLS_CLIENT;
    int result = gnutls_init(&connection->session, flags);
    if (result != 0) {
        connection->session = NULL;
        return result;
    }
    connection->reference.get_conn = conn_of;
    connection->reference.user_data = connection;
    gnutls_session_set_ptr(connection->session, &connection->reference);
    return configure(connection, credentials);
}

void cq_free_tls(cq_connection *connection) {
    if (connection->session == NULL) return;
    ngtcp2_conn_set_tls_native_handle(connection->conn, NULL);
    gnutls_deinit(connection->session);
    connection->session = NULL;
}

bool cq_protocol_matches(cq_connection *connection) {
    gnutls_datum_t chosen;
    if (connection->session == NULL ||
        gnutls_alpn_get_selected_protocol(connection->session, &chosen) != 0)
        return false;
    return chosen.size == strlen(connection->protocol) &&
           memcmp(chosen.data, connection->protocol, chosen.size) == 0;
}

void cq_error_text(cq_connection *connection, char *text, size_t capacity) {
    uint8_t alert = ngtcp2_conn_get_tls_alert(connection->conn);
    const char *name = alert != 0 ? gnutls_alert_get_strname((gnutls_alert_description_t)alert) : NULL;
    const char *what = connection->last_error != 0 ? ngtcp2_strerror(connection->last_error) : "";
    if (connection->text != NULL)
        snprintf(text, capacity, "%s", connection->text);
    else if (name != NULL)
        snprintf(text, capacity, "%s (TLS alert %s)", what, name);
    else
        snprintf(text, capacity, "%s", what);
}
