#include "copenssl.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <string.h>
#include <time.h>

void co_ignore_sigpipe(void) { signal(SIGPIPE, SIG_IGN); }

size_t co_take_errors(char *text, size_t capacity) {
    size_t used = 0;
    const char *data;
    int flags;
    unsigned long code;
    while ((code = ERR_get_error_all(NULL, NULL, NULL, &data, &flags)) != 0) {
        char line[512];
        ERR_error_string_n(code, line, sizeof line);
        size_t length = strlen(line);
        if ((flags & ERR_TXT_STRING) && data != NULL && *data != 0 && length + 3 < sizeof line) {
            line[length++] = ':';
            line[length++] = ' ';
            size_t extra = strlen(data);
            if (extra > sizeof line - length) extra = sizeof line - length;
            memcpy(line + length, data, extra);
            length += extra;
        }
        if (used > 0 && used < capacity) text[used++] = '\n';
        if (length > capacity - used) length = capacity - used;
        memcpy(text + used, line, length);
        used += length;
    }
    return used;
}

// MARK: Contexts

/// Without this OpenSSL would ask for the pass phrase of an encrypted key on the terminal.
static int no_passphrase(char *buffer, int size, int writing, void *user) {
    (void)buffer, (void)size, (void)writing, (void)user;
    return -1;
}

struct ssl_ctx_st *co_context_new(bool server) {
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    if (context == NULL) return NULL;
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    // Resumption was measured to be no cheaper than a P-256 handshake, so no tickets are given out.
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
                                     SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(context, 0);
    SSL_CTX_set_default_passwd_cb(context, no_passphrase);
    return context;
}

void co_context_free(struct ssl_ctx_st *context) { SSL_CTX_free(context); }

static int use_chain(SSL_CTX *context, BIO *source) {
    X509 *leaf = PEM_read_bio_X509_AUX(source, NULL, no_passphrase, NULL);
    if (leaf == NULL) return 0;
    int ok = SSL_CTX_use_certificate(context, leaf);
    X509_free(leaf);
    if (ok != 1 || SSL_CTX_clear_chain_certs(context) != 1) return 0;
    X509 *next;
    while ((next = PEM_read_bio_X509(source, NULL, no_passphrase, NULL)) != NULL) {
        if (SSL_CTX_add0_chain_cert(context, next) != 1) {
            X509_free(next);
            return 0;
        }
    }
    // The end of the text shows as "no start line"; anything else is a broken certificate.
    if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) return 0;
    ERR_clear_error();
    return 1;
}

int co_context_use_identity(struct ssl_ctx_st *context, const void *chain, size_t chain_count,
                            const void *key, size_t key_count) {
    ERR_clear_error();
    BIO *chain_source = BIO_new_mem_buf(chain, (int)chain_count);
    BIO *key_source = BIO_new_mem_buf(key, (int)key_count);
    int ok = 0;
    if (chain_source != NULL && key_source != NULL && use_chain(context, chain_source)) {
        EVP_PKEY *private_key = PEM_read_bio_PrivateKey(key_source, NULL, no_passphrase, NULL);
        if (private_key != NULL) {
            ok = SSL_CTX_use_PrivateKey(context, private_key) == 1 && SSL_CTX_check_private_key(context) == 1;
            EVP_PKEY_free(private_key);
        }
    }
    BIO_free(chain_source);
    BIO_free(key_source);
    return ok;
}

int co_context_trust(struct ssl_ctx_st *context, const void *pem, size_t count, bool name_to_clients) {
    ERR_clear_error();
    BIO *source = BIO_new_mem_buf(pem, (int)count);
    if (source == NULL) return 0;
    X509_STORE *store = SSL_CTX_get_cert_store(context);
    int trusted = 0;
    int ok = 1;
    X509 *certificate;
    while (ok && (certificate = PEM_read_bio_X509_AUX(source, NULL, no_passphrase, NULL)) != NULL) {
        ok = X509_STORE_add_cert(store, certificate) == 1 &&
             (!name_to_clients || SSL_CTX_add_client_CA(context, certificate) == 1);
        X509_free(certificate);
        trusted++;
    }
    BIO_free(source);
    if (!ok) return 0;
    if (trusted == 0 || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) return 0;
    ERR_clear_error();
    return 1;
}

int co_context_trust_system(struct ssl_ctx_st *context) {
    ERR_clear_error();
    return SSL_CTX_set_default_verify_paths(context);
}

void co_context_verify_peer(struct ssl_ctx_st *context) {
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
}

struct protocol_list {
    size_t count;
    uint8_t wire[];
};

static void free_protocols(void *parent, void *value, CRYPTO_EX_DATA *data, int index, long number,
                           void *pointer) {
    (void)parent, (void)data, (void)index, (void)number, (void)pointer;
    OPENSSL_free(value);
}

static int protocols_index = -1;
static CRYPTO_ONCE protocols_once = CRYPTO_ONCE_STATIC_INIT;

static void make_protocols_index(void) {
    protocols_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_protocols);
}

static int select_protocol(SSL *session, const unsigned char **chosen, unsigned char *chosen_count,
                           const unsigned char *offered, unsigned int offered_count, void *user) {
    (void)session;
    const struct protocol_list *own = user;
    unsigned char *match;
    if (SSL_select_next_proto(&match, chosen_count, own->wire, (unsigned int)own->count, offered,
                              offered_count) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *chosen = match;
    return SSL_TLSEXT_ERR_OK;
}

int co_context_set_protocols(struct ssl_ctx_st *context, bool server, const uint8_t *wire, size_t count) {
    ERR_clear_error();
    if (!server) return SSL_CTX_set_alpn_protos(context, wire, (unsigned int)count) == 0;
    CRYPTO_THREAD_run_once(&protocols_once, make_protocols_index);
    struct protocol_list *list = OPENSSL_malloc(sizeof *list + count);
    if (list == NULL || protocols_index < 0) {
        OPENSSL_free(list);
        return 0;
    }
    list->count = count;
    memcpy(list->wire, wire, count);
    if (SSL_CTX_set_ex_data(context, protocols_index, list) != 1) {
        OPENSSL_free(list);
        return 0;
    }
    SSL_CTX_set_alpn_select_cb(context, select_protocol, list);
    return 1;
}

// MARK: Sessions

struct ssl_st *co_session_new(struct ssl_ctx_st *context, int fd, bool server) {
    ERR_clear_error();
    SSL *session = SSL_new(context);
    if (session == NULL) return NULL;
    if (SSL_set_fd(session, fd) != 1) {
        SSL_free(session);
        return NULL;
    }
    if (server) {
        SSL_set_accept_state(session);
    } else {
        SSL_set_connect_state(session);
    }
    return session;
}

void co_session_free(struct ssl_st *session) { SSL_free(session); }

int co_session_expect_name(struct ssl_st *session, const char *name, bool verify) {
    ERR_clear_error();
    if (SSL_set_tlsext_host_name(session, name) != 1) return 0;
    if (!verify) return 1;
    SSL_set_hostflags(session, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return X509_VERIFY_PARAM_set1_host(SSL_get0_param(session), name, strlen(name));
}

int co_session_expect_ip(struct ssl_st *session, const uint8_t *ip, size_t count) {
    ERR_clear_error();
    return X509_VERIFY_PARAM_set1_ip(SSL_get0_param(session), ip, count);
}

/// What stands behind a result that is not success; to be called right after the failed call.
static int classify(SSL *session, int result, int *error_number) {
    int saved = errno;
    switch (SSL_get_error(session, result)) {
    case SSL_ERROR_WANT_READ: return CO_WANT_READ;
    case SSL_ERROR_WANT_WRITE: return CO_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN: return CO_CLOSED;
    case SSL_ERROR_SYSCALL:
        if (ERR_peek_error() != 0) return CO_FAILED;
        *error_number = saved;
        return saved == 0 ? CO_TRUNCATED : CO_SYSTEM;
    default:
        if (ERR_GET_LIB(ERR_peek_error()) == ERR_LIB_SSL &&
            ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
            ERR_clear_error();
            return CO_TRUNCATED;
        }
        return CO_FAILED;
    }
}

int co_handshake(struct ssl_st *session, int *error_number) {
    ERR_clear_error();
    errno = 0;
    int result = SSL_do_handshake(session);
    return result == 1 ? 1 : classify(session, result, error_number);
}

long co_read(struct ssl_st *session, void *bytes, size_t count, int *error_number) {
    ERR_clear_error();
    errno = 0;
    size_t done = 0;
    int result = SSL_read_ex(session, bytes, count, &done);
    return result == 1 ? (long)done : classify(session, result, error_number);
}

long co_write(struct ssl_st *session, const void *bytes, size_t count, int *error_number) {
    ERR_clear_error();
    errno = 0;
    size_t done = 0;
    int result = SSL_write_ex(session, bytes, count, &done);
    return result == 1 ? (long)done : classify(session, result, error_number);
}

int co_close_notify(struct ssl_st *session, int *error_number) {
    ERR_clear_error();
    errno = 0;
    int result = SSL_shutdown(session);
    // 0: sent, and the peer's is not here yet.
    return result >= 0 ? 1 : classify(session, result, error_number);
}

long co_verify_result(struct ssl_st *session) { return SSL_get_verify_result(session); }

const char *co_verify_text(long verify_result) { return X509_verify_cert_error_string(verify_result); }

size_t co_selected_protocol(struct ssl_st *session, const uint8_t **bytes) {
    unsigned int count = 0;
    SSL_get0_alpn_selected(session, bytes, &count);
    return count;
}

const char *co_version(struct ssl_st *session) { return SSL_get_version(session); }

/// The size of `certificate` in DER, written when `capacity` suffices. Takes the reference over.
static size_t write_der(X509 *certificate, uint8_t *der, size_t capacity) {
    if (certificate == NULL) return 0;
    int count = i2d_X509(certificate, NULL);
    if (count > 0 && (size_t)count <= capacity) i2d_X509(certificate, &der);
    X509_free(certificate);
    return count > 0 ? (size_t)count : 0;
}

size_t co_peer_certificate(struct ssl_st *session, uint8_t *der, size_t capacity) {
    return write_der(SSL_get1_peer_certificate(session), der, capacity);
}

// MARK: Certificates

size_t co_certificate_from_pem(const void *pem, size_t count, uint8_t *der, size_t capacity) {
    ERR_clear_error();
    BIO *source = BIO_new_mem_buf(pem, (int)count);
    if (source == NULL) return 0;
    X509 *certificate = PEM_read_bio_X509_AUX(source, NULL, no_passphrase, NULL);
    BIO_free(source);
    return write_der(certificate, der, capacity);
}

bool co_scrypt(const void *password, size_t password_count, const void *salt, size_t salt_count, uint64_t cost,
               uint64_t block_size, uint64_t parallelism, uint8_t *key, size_t key_count) {
    ERR_clear_error();
    // An empty password is one, and NULL is none.
    const char *text = password_count == 0 ? "" : password;
    return EVP_PBE_scrypt(text, password_count, salt, salt_count, cost, block_size, parallelism, 512u << 20, key,
                          key_count) == 1;
}

void co_sha256(const void *bytes, size_t count, uint8_t digest[32]) {
    EVP_Digest(bytes, count, digest, NULL, EVP_sha256(), NULL);
}

static X509 *from_der(const uint8_t *der, size_t count) {
    ERR_clear_error();
    return d2i_X509(NULL, &der, (long)count);
}

size_t co_certificate_subject(const uint8_t *der, size_t count, char *text, size_t capacity) {
    X509 *certificate = from_der(der, count);
    if (certificate == NULL) return 0;
    size_t used = 0;
    BIO *sink = BIO_new(BIO_s_mem());
    if (sink != NULL && X509_NAME_print_ex(sink, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253) >= 0) {
        int got = BIO_read(sink, text, (int)capacity);
        if (got > 0) used = (size_t)got;
    }
    BIO_free(sink);
    X509_free(certificate);
    return used;
}

size_t co_certificate_common_name(const uint8_t *der, size_t count, char *text, size_t capacity) {
    X509 *certificate = from_der(der, count);
    if (certificate == NULL) return 0;
    size_t used = 0;
    X509_NAME *subject = X509_get_subject_name(certificate);
    int index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (index >= 0) {
        unsigned char *utf8 = NULL;
        int length = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index)));
        // A name with a 0 inside would be read as a shorter one elsewhere.
        if (length > 0 && (size_t)length <= capacity && memchr(utf8, 0, (size_t)length) == NULL) {
            memcpy(text, utf8, (size_t)length);
            used = (size_t)length;
        }
        OPENSSL_free(utf8);
    }
    X509_free(certificate);
    return used;
}

static bool is_printable(const uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] < 0x21 || bytes[i] > 0x7e) return false;
    }
    return count > 0;
}

struct line_buffer {
    char *text;
    size_t capacity;
    size_t used;
};

static void add_line(struct line_buffer *lines, const char *kind, const void *bytes, size_t count) {
    size_t prefix = strlen(kind);
    if (prefix + count + 1 > lines->capacity - lines->used) return;
    if (lines->used > 0) lines->text[lines->used++] = '\n';
    memcpy(lines->text + lines->used, kind, prefix);
    memcpy(lines->text + lines->used + prefix, bytes, count);
    lines->used += prefix + count;
}

static void add_ip(struct line_buffer *lines, const ASN1_OCTET_STRING *address) {
    const uint8_t *bytes = ASN1_STRING_get0_data(address);
    int count = ASN1_STRING_length(address);
    if (count != 4 && count != 16) return;
    char digits[32];
    for (int i = 0; i < count; i++) {
        digits[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        digits[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    add_line(lines, "IP:", digits, (size_t)count * 2);
}

static void add_text(struct line_buffer *lines, const char *kind, const ASN1_IA5STRING *name) {
    const uint8_t *bytes = ASN1_STRING_get0_data(name);
    size_t count = (size_t)ASN1_STRING_length(name);
    if (is_printable(bytes, count)) add_line(lines, kind, bytes, count);
}

size_t co_certificate_names(const uint8_t *der, size_t count, char *text, size_t capacity) {
    X509 *certificate = from_der(der, count);
    if (certificate == NULL) return 0;
    struct line_buffer lines = {text, capacity, 0};
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        switch (name->type) {
        case GEN_DNS: add_text(&lines, "DNS:", name->d.dNSName); break;
        case GEN_URI: add_text(&lines, "URI:", name->d.uniformResourceIdentifier); break;
        case GEN_EMAIL: add_text(&lines, "EMAIL:", name->d.rfc822Name); break;
        case GEN_IPADD: add_ip(&lines, name->d.iPAddress); break;
        default: break;
        }
    }
    GENERAL_NAMES_free(names);
    X509_free(certificate);
    return lines.used;
}

static bool to_seconds(const ASN1_TIME *time, int64_t *seconds) {
    struct tm parts;
    if (ASN1_TIME_to_tm(time, &parts) != 1) return false;
    *seconds = (int64_t)timegm(&parts);
    return true;
}

int co_certificate_validity(const uint8_t *der, size_t count, int64_t *begins, int64_t *ends) {
    X509 *certificate = from_der(der, count);
    if (certificate == NULL) return 0;
    bool ok = to_seconds(X509_get0_notBefore(certificate), begins) &&
              to_seconds(X509_get0_notAfter(certificate), ends);
    X509_free(certificate);
    return ok;
}

static bool add_extension(X509 *certificate, int nid, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    if (extension == NULL) return false;
    bool ok = X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

static bool fill_certificate(X509 *certificate, EVP_PKEY *key, const char *common_name, const char *names,
                             int64_t begins, int64_t ends) {
    uint8_t serial[16];
    if (RAND_bytes(serial, sizeof serial) != 1) return false;
    // RFC 5280 section 4.1.2.2: a positive number of at most 20 bytes.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    BIGNUM *number = BN_bin2bn(serial, sizeof serial, NULL);
    bool has_serial = number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
    BN_free(number);
    X509_NAME *subject = X509_get_subject_name(certificate);
    // No keyUsage and not a CA: such a certificate is accepted by OpenSSL, GnuTLS, Go and rustls alike, both
    // as an end's certificate and as the only trusted one.
    return has_serial && X509_set_version(certificate, X509_VERSION_3) == 1 &&
           ASN1_TIME_set(X509_getm_notBefore(certificate), (time_t)begins) != NULL &&
           ASN1_TIME_set(X509_getm_notAfter(certificate), (time_t)ends) != NULL &&
           X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8,
                                      (const unsigned char *)common_name, -1, -1, 0) == 1 &&
           X509_set_issuer_name(certificate, subject) == 1 && X509_set_pubkey(certificate, key) == 1 &&
           add_extension(certificate, NID_basic_constraints, "critical,CA:FALSE") &&
           add_extension(certificate, NID_subject_key_identifier, "hash") &&
           // Tells certificates of the same name apart, when a renewed one is trusted beside the old one.
           add_extension(certificate, NID_authority_key_identifier, "keyid:always") &&
           add_extension(certificate, NID_ext_key_usage, "serverAuth,clientAuth") &&
           add_extension(certificate, NID_subject_alt_name, names) &&
           X509_sign(certificate, key, EVP_sha256()) > 0;
}

/// Moves what `source` holds into `text`; false when it doesn't fit. Frees `source`.
static bool take_text(BIO *source, char *text, size_t *count) {
    const char *bytes;
    long length = BIO_get_mem_data(source, &bytes);
    bool fits = length > 0 && (size_t)length <= *count;
    if (fits) {
        memcpy(text, bytes, (size_t)length);
        *count = (size_t)length;
    }
    BIO_free(source);
    return fits;
}

int co_self_signed(const char *common_name, const char *names, int64_t begins, int64_t ends,
                   char *certificate, size_t *certificate_count, char *key, size_t *key_count) {
    ERR_clear_error();
    EVP_PKEY *pair = EVP_EC_gen("P-256");
    X509 *made = X509_new();
    bool ok = pair != NULL && made != NULL && fill_certificate(made, pair, common_name, names, begins, ends);
    if (ok) {
        BIO *certificate_sink = BIO_new(BIO_s_mem());
        BIO *key_sink = BIO_new(BIO_s_mem());
        ok = certificate_sink != NULL && key_sink != NULL &&
             PEM_write_bio_X509(certificate_sink, made) == 1 &&
             PEM_write_bio_PKCS8PrivateKey(key_sink, pair, NULL, NULL, 0, NULL, NULL) == 1;
        ok = take_text(certificate_sink, certificate, certificate_count) && ok;
        ok = take_text(key_sink, key, key_count) && ok;
    }
    X509_free(made);
    EVP_PKEY_free(pair);
    return ok;
}
