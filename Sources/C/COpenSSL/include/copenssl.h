// OpenSSL as the TLS room needs it. Most setters are macros over SSL_CTX_ctrl and the stacks are
// macro-generated, so Swift can import neither; and a call is only right together with ERR_clear_error
// before and the error queue after it, which these functions keep together.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ssl_ctx_st;
struct ssl_st;

/// What a call on a session came to, when it is not a number of bytes.
enum {
    CO_WANT_READ = -1,
    CO_WANT_WRITE = -2,
    CO_CLOSED = -3,     // the peer's close_notify
    CO_TRUNCATED = -4,  // FIN without close_notify
    CO_SYSTEM = -5,     // the socket failed: errno
    CO_FAILED = -6,     // the error queue says why
};

/// Ignores SIGPIPE: OpenSSL writes without MSG_NOSIGNAL.
void co_ignore_sigpipe(void);

/// Takes the calling thread's error queue as lines of text, oldest first, the last one cut to fit.
/// The bytes written, without a 0 at the end.
size_t co_take_errors(char *text, size_t capacity);

// MARK: Contexts. 1 for success, 0 with the error queue set.

struct ssl_ctx_st *co_context_new(bool server);
void co_context_free(struct ssl_ctx_st *context);
/// The certificate with its chain and the key, both PEM.
int co_context_use_identity(struct ssl_ctx_st *context, const void *chain, size_t chain_count,
                            const void *key, size_t key_count);
/// Trusts every certificate of a PEM text; a server also names them to clients when it asks for theirs.
int co_context_trust(struct ssl_ctx_st *context, const void *pem, size_t count, bool name_to_clients);
int co_context_trust_system(struct ssl_ctx_st *context);
/// Requires a certificate of the peer and verifies it.
void co_context_verify_peer(struct ssl_ctx_st *context);
/// ALPN: `wire` is a list of length-prefixed names. A server picks the first of its own that is offered and
/// refuses the handshake when there is none (RFC 7301 section 3.2).
int co_context_set_protocols(struct ssl_ctx_st *context, bool server, const uint8_t *wire, size_t count);

// MARK: Sessions

struct ssl_st *co_session_new(struct ssl_ctx_st *context, int fd, bool server);
void co_session_free(struct ssl_st *session);
/// Sends SNI (RFC 6066) and demands that the certificate is for `name`.
int co_session_expect_name(struct ssl_st *session, const char *name, bool verify);
/// Demands that the certificate is for an IP address of 4 or 16 bytes.
int co_session_expect_ip(struct ssl_st *session, const uint8_t *ip, size_t count);

/// 1 when done, or CO_*.
int co_handshake(struct ssl_st *session, int *error_number);
long co_read(struct ssl_st *session, void *bytes, size_t count, int *error_number);
long co_write(struct ssl_st *session, const void *bytes, size_t count, int *error_number);
/// Sends close_notify: 1 when it is sent, or CO_*.
int co_close_notify(struct ssl_st *session, int *error_number);

/// X509_V_*: 0 when the peer's certificate was accepted or none was asked for.
long co_verify_result(struct ssl_st *session);
const char *co_verify_text(long verify_result);
/// The ALPN protocol: its length and bytes, 0 for none.
size_t co_selected_protocol(struct ssl_st *session, const uint8_t **bytes);
/// "TLSv1.3" or "TLSv1.2".
const char *co_version(struct ssl_st *session);
/// The DER of the peer's certificate: its size, written when `capacity` suffices; 0 without a certificate.
size_t co_peer_certificate(struct ssl_st *session, uint8_t *der, size_t capacity);

// MARK: Certificates

/// The DER of the first certificate of a PEM text: its size, written when `capacity` suffices; 0 on failure.
size_t co_certificate_from_pem(const void *pem, size_t count, uint8_t *der, size_t capacity);
/// scrypt (RFC 7914), which may take up to 512 MiB; false when it fails.
bool co_scrypt(const void *password, size_t password_count, const void *salt, size_t salt_count, uint64_t cost,
               uint64_t block_size, uint64_t parallelism, uint8_t *key, size_t key_count);
void co_sha256(const void *bytes, size_t count, uint8_t digest[32]);
/// The subject in the form of RFC 2253; its size, 0 on failure. Cut to `capacity`.
size_t co_certificate_subject(const uint8_t *der, size_t count, char *text, size_t capacity);
/// The first common name of the subject, UTF-8; its size, 0 when there is none or it doesn't fit.
size_t co_certificate_common_name(const uint8_t *der, size_t count, char *text, size_t capacity);
/// The subject alternative names, a line each: "DNS:x", "IP:" and hexadecimal digits, "URI:x", "EMAIL:x".
/// Names with control characters or bytes above ASCII are left out. The size; lines that don't fit are left out.
size_t co_certificate_names(const uint8_t *der, size_t count, char *text, size_t capacity);
/// Seconds since 1970 at which the certificate's validity begins and ends; 1 for success.
int co_certificate_validity(const uint8_t *der, size_t count, int64_t *begins, int64_t *ends);

/// A fresh P-256 key and a certificate signed by itself. `names` is in OpenSSL's form: "DNS:x,IP:y".
/// PEM texts, cut by nothing: 0 when they don't fit or OpenSSL fails, 1 for success.
int co_self_signed(const char *common_name, const char *names, int64_t begins, int64_t ends,
                   char *certificate, size_t *certificate_count, char *key, size_t *key_count);
