// A faster AES-128-GCM for 1-RTT packets, where the machine has it: Intel's multi-buffer library uses VAES
// and AVX-512, which the GnuTLS of Debian 12 does not. The handshake, other ciphers and other processors
// stay with GnuTLS.
//
// The library is loaded at run time. What it makes is told from GnuTLS's handles by the lowest bit of the
// pointer.
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

#include "internal.h"

#if __has_include(<intel-ipsec-mb.h>)
#include <intel-ipsec-mb.h>

enum { KEY_COUNT = 16, IV_COUNT = 12, TAG_COUNT = 16, SAMPLE_COUNT = 16, SECRET_COUNT = 32 };

static IMB_MGR *manager;
static pthread_once_t manager_once = PTHREAD_ONCE_INIT;

/// A key has a table while its connection is busy: to make one takes a tenth of the time that a packet takes, and
/// most connections are idle. The next keys, which the library makes as soon as it has the current ones, have none.
struct packet_key {
    uint8_t key[KEY_COUNT];
    struct table *table;  // NULL for none
    cq_workspace *workspace;
};

struct table {
    struct gcm_key_data data;
    union {
        struct packet_key *owner;
        struct table *next_free;
    };
    bool is_used;  // since the hand passed
};

/// Those of the 128 connections of an endpoint that were busy last, in a quarter of a MiB.
enum { MOST_TABLES = 256 };

struct cq_key_tables {
    size_t count;
    size_t hand;  // of a clock, which takes the tables that were not used in its last round
    struct table *free;
    struct table *all[MOST_TABLES];
};

struct header_key {
    // 11 round keys of AES-128.
    _Alignas(16) uint8_t encrypting[11 * 16];
};

static bool is_ours(const void *handle) { return ((uintptr_t)handle & 1) != 0; }
static void *tagged(void *key) { return (void *)((uintptr_t)key | 1); }
static void *untagged(const void *handle) { return (void *)((uintptr_t)handle & ~(uintptr_t)1); }

static void release(void *key, size_t count) {
    if (key == NULL) return;
    gnutls_memset(key, 0, count);
    free(key);
}

static void *allocate(size_t count) {
    void *bytes = NULL;
    return posix_memalign(&bytes, 64, count) == 0 ? bytes : NULL;
}

// MARK: Choice

/// Whether it encrypts as GnuTLS does: a library that does not is worse than none.
static bool agrees_with_gnutls(IMB_MGR *candidate) {
    uint8_t key[KEY_COUNT], iv[IV_COUNT], header[13], text[1400];
    gnutls_rnd(GNUTLS_RND_NONCE, key, sizeof key);
    gnutls_rnd(GNUTLS_RND_NONCE, iv, sizeof iv);
    gnutls_rnd(GNUTLS_RND_NONCE, header, sizeof header);
    gnutls_rnd(GNUTLS_RND_NONCE, text, sizeof text);
    gnutls_datum_t datum = {key, sizeof key};
    gnutls_aead_cipher_hd_t reference;
    if (gnutls_aead_cipher_init(&reference, GNUTLS_CIPHER_AES_128_GCM, &datum) != 0) return false;
    struct gcm_key_data *packet = allocate(sizeof *packet);
    bool agrees = packet != NULL;
    if (agrees) IMB_AES128_GCM_PRE(candidate, key, packet);
    static const size_t counts[] = {0, 1, 15, 16, 17, 64, 255, 1200, 1400};
    for (size_t i = 0; agrees && i < sizeof counts / sizeof counts[0]; i++) {
        uint8_t theirs[sizeof text + TAG_COUNT], ours[sizeof text + TAG_COUNT];
        size_t written = sizeof theirs;
        struct gcm_context_data state;
        if (gnutls_aead_cipher_encrypt(reference, iv, sizeof iv, header, sizeof header, TAG_COUNT, text,
                                       counts[i], theirs, &written) != 0)
            agrees = false;
        IMB_AES128_GCM_ENC(candidate, packet, &state, ours, text, counts[i], iv, header,
                           sizeof header, ours + counts[i], TAG_COUNT);
        agrees = agrees && written == counts[i] + TAG_COUNT && memcmp(ours, theirs, written) == 0;
    }
    release(packet, sizeof *packet);
    gnutls_aead_cipher_deinit(reference);
    return agrees;
}

static void choose(void) {
    void *library = dlopen("libIPSec_MB.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) return;
    unsigned (*version)(void) = (unsigned (*)(void))dlsym(library, "imb_get_version");
    IMB_MGR *(*make)(uint64_t) = (IMB_MGR * (*)(uint64_t)) dlsym(library, "alloc_mb_mgr");
    void (*start)(IMB_MGR *, IMB_ARCH *) =
        (void (*)(IMB_MGR *, IMB_ARCH *))dlsym(library, "init_mb_mgr_auto");
    if (version == NULL || make == NULL || start == NULL) return;
    // The manager's layout may differ between versions; patches change no layout.
    if (version() >> 8 != IMB_VERSION_NUM >> 8) return;
    IMB_MGR *candidate = make(0);
    if (candidate == NULL) return;
    IMB_ARCH architecture = IMB_ARCH_NONE;
    start(candidate, &architecture);
    // Older instruction sets were not measured to gain anything.
    bool is_fast = architecture == IMB_ARCH_AVX512 && (candidate->features & IMB_FEATURE_VAES) != 0;
    // What is not taken stays allocated: it happens once, and the library stays loaded too.
    if (is_fast && agrees_with_gnutls(candidate)) manager = candidate;
}

bool cq_has_fast_aead(void) {
    pthread_once(&manager_once, choose);
    return manager != NULL;
}

// MARK: Keys

/// HKDF-Expand-Label (RFC 8446 section 7.1) with an empty context.
static int expand(const uint8_t *secret, const char *label, uint8_t *bytes, size_t count) {
    uint8_t info[32];
    size_t label_count = strlen(label);
    info[0] = 0;
    info[1] = (uint8_t)count;
    info[2] = (uint8_t)(6 + label_count);
    memcpy(info + 3, "tls13 ", 6);
    memcpy(info + 9, label, label_count);
    info[9 + label_count] = 0;
    gnutls_datum_t key = {(unsigned char *)secret, SECRET_COUNT};
    gnutls_datum_t datum = {info, (unsigned)(10 + label_count)};
    return gnutls_hkdf_expand(GNUTLS_MAC_SHA256, &key, &datum, bytes, count);
}

static void *make_packet_key(cq_workspace *workspace, const uint8_t *key) {
    struct packet_key *packet = calloc(1, sizeof *packet);
    if (packet == NULL) return NULL;
    memcpy(packet->key, key, sizeof packet->key);
    packet->workspace = workspace;
    return tagged(packet);
}

static void release_packet_key(struct packet_key *packet) {
    struct table *table = packet->table;
    if (table != NULL) {
        struct cq_key_tables *tables = packet->workspace->key_tables;
        gnutls_memset(&table->data, 0, sizeof table->data);
        table->next_free = tables->free;
        tables->free = table;
    }
    release(packet, sizeof *packet);
}

/// A table that no key has any more; NULL without memory.
static struct table *take_table(cq_workspace *workspace) {
    if (workspace->key_tables == NULL) workspace->key_tables = calloc(1, sizeof *workspace->key_tables);
    struct cq_key_tables *tables = workspace->key_tables;
    if (tables == NULL) return NULL;
    struct table *table = tables->free;
    if (table != NULL) {
        tables->free = table->next_free;
        return table;
    }
    table = tables->count < MOST_TABLES ? allocate(sizeof *table) : NULL;
    if (table != NULL) return tables->all[tables->count++] = table;
    while (tables->count > 0) {
        table = tables->all[tables->hand];
        tables->hand = (tables->hand + 1) % tables->count;
        if (!table->is_used) {
            table->owner->table = NULL;
            return table;
        }
        table->is_used = false;
    }
    return NULL;
}

/// NULL without memory. Until the next call.
static const struct gcm_key_data *expanded(const ngtcp2_crypto_aead_ctx *context) {
    struct packet_key *packet = untagged(context->native_handle);
    if (packet->table == NULL) {
        struct table *table = take_table(packet->workspace);
        if (table == NULL) return NULL;
        IMB_AES128_GCM_PRE(manager, packet->key, &table->data);
        table->owner = packet;
        packet->table = table;
    }
    packet->table->is_used = true;
    return &packet->table->data;
}

void cq_free_key_tables(struct cq_key_tables *tables) {
    if (tables == NULL) return;
    for (size_t i = 0; i < tables->count; i++) release(tables->all[i], sizeof *tables->all[i]);
    free(tables);
}

static int install(cq_connection *connection, const uint8_t *secret, bool receives) {
    uint8_t key[KEY_COUNT], iv[IV_COUNT], mask[KEY_COUNT];
    int result = expand(secret, "quic key", key, sizeof key);
    if (result == 0) result = expand(secret, "quic iv", iv, sizeof iv);
    if (result == 0) result = expand(secret, "quic hp", mask, sizeof mask);
    struct header_key *header = result == 0 ? malloc(sizeof *header) : NULL;
    ngtcp2_crypto_aead_ctx packet = {header != NULL ? make_packet_key(connection->workspace, key) : NULL};
    if (packet.native_handle == NULL) {
        result = -1;
    } else {
        _Alignas(16) uint8_t decrypting[sizeof header->encrypting];
        IMB_AES_KEYEXP_128(manager, mask, header->encrypting, decrypting);
        gnutls_memset(decrypting, 0, sizeof decrypting);
        ngtcp2_crypto_cipher_ctx protection = {tagged(header)};
        int (*install_key)(ngtcp2_conn *, const uint8_t *, size_t, const ngtcp2_crypto_aead_ctx *,
                           const uint8_t *, size_t, const ngtcp2_crypto_cipher_ctx *) =
            receives ? ngtcp2_conn_install_rx_key : ngtcp2_conn_install_tx_key;
        result = install_key(connection->conn, secret, SECRET_COUNT, &packet, iv, sizeof iv, &protection);
    }
    if (result != 0) {
        release(header, sizeof *header);
        if (packet.native_handle != NULL) release_packet_key(untagged(packet.native_handle));
    }
    gnutls_memset(key, 0, sizeof key);
    gnutls_memset(mask, 0, sizeof mask);
    return result;
}

/// Installs the secrets of 1-RTT packets in our way, all others as the helper does.
static int on_secret(gnutls_session_t session, gnutls_record_encryption_level_t level, const void *receiving,
                     const void *sending, size_t count) {
    ngtcp2_crypto_conn_ref *reference = gnutls_session_get_ptr(session);
    cq_connection *connection = reference->user_data;
    ngtcp2_conn *conn = connection->conn;
    cq_level theirs = ngtcp2_crypto_gnutls_from_gnutls_record_encryption_level(level);
    bool is_ours = level == GNUTLS_ENCRYPTION_LEVEL_APPLICATION && count == SECRET_COUNT &&
                   gnutls_cipher_get(session) == GNUTLS_CIPHER_AES_128_GCM;
    if (receiving != NULL) {
        int result = is_ours ? install(connection, receiving, true)
                             : ngtcp2_crypto_derive_and_install_rx_key(conn, NULL, NULL, NULL, theirs,
                                                                       receiving, count);
        if (result != 0) return -1;
    }
    if (sending != NULL) {
        int result = is_ours ? install(connection, sending, false)
                             : ngtcp2_crypto_derive_and_install_tx_key(conn, NULL, NULL, NULL, theirs,
                                                                       sending, count);
        if (result != 0) return -1;
    }
    return 0;
}

void cq_use_fast_aead(gnutls_session_t session) {
    gnutls_handshake_set_secret_function(session, on_secret);
}

/// Puts a key of ours in the place of the helper's.
static int replace(cq_workspace *workspace, ngtcp2_crypto_aead_ctx *context, const uint8_t *key) {
    void *packet = make_packet_key(workspace, key);
    if (packet == NULL) return -1;
    ngtcp2_crypto_aead_ctx_free(context);
    context->native_handle = packet;
    return 0;
}

int cq_update_key(ngtcp2_conn *conn, uint8_t *rx_secret, uint8_t *tx_secret, ngtcp2_crypto_aead_ctx *rx,
                  uint8_t *rx_iv, ngtcp2_crypto_aead_ctx *tx, uint8_t *tx_iv,
                  const uint8_t *current_rx_secret, const uint8_t *current_tx_secret, size_t count,
                  void *user_data) {
    uint8_t rx_key[64], tx_key[64];
    int result = ngtcp2_crypto_update_key(conn, rx_secret, tx_secret, rx, rx_key, rx_iv, tx, tx_key, tx_iv,
                                          current_rx_secret, current_tx_secret, count);
    const cq_connection *connection = user_data;
    // ChaCha20-Poly1305 has secrets and tags of the same lengths. The helper's handle of an AEAD is GnuTLS's number.
    const ngtcp2_crypto_aead *aead = &ngtcp2_conn_get_crypto_ctx(conn)->aead;
    if (result == 0 && connection->has_fast_aead && count == SECRET_COUNT &&
        (intptr_t)aead->native_handle == GNUTLS_CIPHER_AES_128_GCM) {
        // A key that can't be replaced for want of memory works as it is.
        (void)replace(connection->workspace, rx, rx_key);
        (void)replace(connection->workspace, tx, tx_key);
    }
    gnutls_memset(rx_key, 0, sizeof rx_key);
    gnutls_memset(tx_key, 0, sizeof tx_key);
    return result == 0 ? 0 : NGTCP2_ERR_CALLBACK_FAILURE;
}

// MARK: Packets

int cq_encrypt(uint8_t *bytes, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *context,
               const uint8_t *plaintext, size_t count, const uint8_t *nonce, size_t nonce_count,
               const uint8_t *header, size_t header_count) {
    if (!is_ours(context->native_handle))
        return ngtcp2_crypto_encrypt_cb(bytes, aead, context, plaintext, count, nonce, nonce_count, header,
                                        header_count);
    const struct gcm_key_data *key = expanded(context);
    if (key == NULL) return NGTCP2_ERR_CALLBACK_FAILURE;
    struct gcm_context_data state;
    IMB_AES128_GCM_ENC(manager, key, &state, bytes, plaintext, count, nonce, header, header_count,
                       bytes + count, TAG_COUNT);
    return 0;
}

int cq_open(uint8_t *bytes, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *context,
            const uint8_t *ciphertext, size_t count, const uint8_t *nonce, size_t nonce_count,
            const uint8_t *header, size_t header_count) {
    if (!is_ours(context->native_handle))
        return ngtcp2_crypto_decrypt_cb(bytes, aead, context, ciphertext, count, nonce, nonce_count, header,
                                        header_count);
    if (count < TAG_COUNT) return NGTCP2_ERR_DECRYPT;
    const struct gcm_key_data *key = expanded(context);
    if (key == NULL) return NGTCP2_ERR_CALLBACK_FAILURE;
    uint8_t received[TAG_COUNT], tag[TAG_COUNT];
    // In place, the plaintext may run over the tag.
    memcpy(received, ciphertext + count - TAG_COUNT, sizeof received);
    struct gcm_context_data state;
    IMB_AES128_GCM_DEC(manager, key, &state, bytes, ciphertext, count - TAG_COUNT, nonce, header,
                       header_count, tag, TAG_COUNT);
    return gnutls_memcmp(tag, received, sizeof tag) == 0 ? 0 : NGTCP2_ERR_DECRYPT;
}

int cq_header_mask(uint8_t *mask, const ngtcp2_crypto_cipher *cipher, const ngtcp2_crypto_cipher_ctx *context,
                   const uint8_t *sample) {
    if (!is_ours(context->native_handle)) return ngtcp2_crypto_hp_mask_cb(mask, cipher, context, sample);
    const struct header_key *key = untagged(context->native_handle);
    static const uint8_t zeros[SAMPLE_COUNT];
    uint8_t block[SAMPLE_COUNT];
    // One block of CFB over zeros is the block cipher itself: AES-ECB of the sample (RFC 9001 section 5.4.3).
    IMB_AES128_CFB_ONE(manager, block, zeros, sample, key->encrypting, sizeof block);
    memcpy(mask, block, NGTCP2_HP_MASKLEN);
    return 0;
}

void cq_delete_packet_key(ngtcp2_conn *conn, ngtcp2_crypto_aead_ctx *context, void *user_data) {
    if (!is_ours(context->native_handle))
        return ngtcp2_crypto_delete_crypto_aead_ctx_cb(conn, context, user_data);
    release_packet_key(untagged(context->native_handle));
    context->native_handle = NULL;
}

void cq_delete_header_key(ngtcp2_conn *conn, ngtcp2_crypto_cipher_ctx *context, void *user_data) {
    if (!is_ours(context->native_handle))
        return ngtcp2_crypto_delete_crypto_cipher_ctx_cb(conn, context, user_data);
    release(untagged(context->native_handle), sizeof(struct header_key));
    context->native_handle = NULL;
}

#else

// Without the library's header all stays with GnuTLS.

bool cq_has_fast_aead(void) { return false; }

void cq_free_key_tables(struct cq_key_tables *tables) { (void)tables; }

void cq_use_fast_aead(gnutls_session_t session) { (void)session; }

int cq_update_key(ngtcp2_conn *conn, uint8_t *rx_secret, uint8_t *tx_secret, ngtcp2_crypto_aead_ctx *rx,
                  uint8_t *rx_iv, ngtcp2_crypto_aead_ctx *tx, uint8_t *tx_iv,
                  const uint8_t *current_rx_secret, const uint8_t *current_tx_secret, size_t count,
                  void *user_data) {
    return ngtcp2_crypto_update_key_cb(conn, rx_secret, tx_secret, rx, rx_iv, tx, tx_iv, current_rx_secret,
                                       current_tx_secret, count, user_data);
}

int cq_encrypt(uint8_t *bytes, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *context,
               const uint8_t *plaintext, size_t count, const uint8_t *nonce, size_t nonce_count,
               const uint8_t *header, size_t header_count) {
    return ngtcp2_crypto_encrypt_cb(bytes, aead, context, plaintext, count, nonce, nonce_count, header,
                                    header_count);
}

int cq_open(uint8_t *bytes, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *context,
            const uint8_t *ciphertext, size_t count, const uint8_t *nonce, size_t nonce_count,
            const uint8_t *header, size_t header_count) {
    return ngtcp2_crypto_decrypt_cb(bytes, aead, context, ciphertext, count, nonce, nonce_count, header,
                                    header_count);
}

int cq_header_mask(uint8_t *mask, const ngtcp2_crypto_cipher *cipher, const ngtcp2_crypto_cipher_ctx *context,
                   const uint8_t *sample) {
    return ngtcp2_crypto_hp_mask_cb(mask, cipher, context, sample);
}

void cq_delete_packet_key(ngtcp2_conn *conn, ngtcp2_crypto_aead_ctx *context, void *user_data) {
    ngtcp2_crypto_delete_crypto_aead_ctx_cb(conn, context, user_data);
}

void cq_delete_header_key(ngtcp2_conn *conn, ngtcp2_crypto_cipher_ctx *context, void *user_data) {
    ngtcp2_crypto_delete_crypto_cipher_ctx_cb(conn, context, user_data);
}

#endif
