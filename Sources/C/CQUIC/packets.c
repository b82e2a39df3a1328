// Paths, and packets that belong to no connection.
#include <arpa/inet.h>

#include "internal.h"

const char *cq_library_version(void) { return ngtcp2_version(0)->version_str; }

// MARK: Paths

cq_path *cq_path_new(void) {
    cq_path *path = gnutls_malloc(sizeof *path);
    if (path != NULL) ngtcp2_path_storage_zero(&path->storage);
    return path;
}

void cq_path_free(cq_path *path) { gnutls_free(path); }

static socklen_t to_system(const struct cl_address *address, ngtcp2_sockaddr_union *system) {
    memset(system, 0, sizeof *system);
    if (address->family == 4) {
        system->in.sin_family = AF_INET;
        system->in.sin_port = htons(address->port);
        memcpy(&system->in.sin_addr, address->ip, 4);
        return sizeof system->in;
    }
    system->in6.sin6_family = AF_INET6;
    system->in6.sin6_port = htons(address->port);
    memcpy(&system->in6.sin6_addr, address->ip, 16);
    return sizeof system->in6;
}

void cq_path_set(cq_path *path, const struct cl_address *local, const struct cl_address *peer) {
    ngtcp2_path_storage *storage = &path->storage;
    storage->path.user_data = NULL;
    storage->path.local.addr = &storage->local_addrbuf.sa;
    storage->path.local.addrlen = to_system(local, &storage->local_addrbuf);
    storage->path.remote.addr = &storage->remote_addrbuf.sa;
    storage->path.remote.addrlen = to_system(peer, &storage->remote_addrbuf);
}

// MARK: Headers

int cq_decode_header(const uint8_t *packet, size_t count, size_t short_length, struct cq_header *header) {
    ngtcp2_version_cid ids;
    int result = ngtcp2_pkt_decode_version_cid(&ids, packet, count, short_length);
    if (result != 0 && result != NGTCP2_ERR_VERSION_NEGOTIATION) return CQ_HEADER_INVALID;
    // Versions to come may have longer ids (RFC 8999); nothing of ours does.
    if (ids.dcidlen > NGTCP2_MAX_CIDLEN || ids.scidlen > NGTCP2_MAX_CIDLEN) return CQ_HEADER_INVALID;
    header->version = ids.version;
    header->dcid = cq_from_bytes(ids.dcid, ids.dcidlen);
    header->scid = cq_from_bytes(ids.scid, ids.scidlen);
    return result == 0 ? CQ_HEADER_KNOWN : CQ_HEADER_OTHER_VERSION;
}

bool cq_accept(const uint8_t *packet, size_t count, struct cq_initial *initial) {
    ngtcp2_pkt_hd header;
    if (ngtcp2_accept(&header, packet, count) != 0 || header.version != NGTCP2_PROTO_VER_V1) return false;
    initial->dcid = cq_from_cid(&header.dcid);
    initial->scid = cq_from_cid(&header.scid);
    initial->version = header.version;
#if CQ_NGTCP2_1
    initial->token = header.token;
    initial->token_count = header.tokenlen;
#else
    initial->token = header.token.base;
    initial->token_count = header.token.len;
#endif
    return true;
}

ssize_t cq_write_version_negotiation(uint8_t *bytes, size_t capacity, const struct cq_header *header) {
    // The reserved version keeps clients honest about versions they do not know (RFC 9000 section 6.3).
    const uint32_t versions[] = {NGTCP2_RESERVED_VERSION_MASK, NGTCP2_PROTO_VER_V1};
    uint8_t unused;
    gnutls_rnd(GNUTLS_RND_NONCE, &unused, sizeof unused);
    return ngtcp2_pkt_write_version_negotiation(
        bytes, capacity, unused, (const uint8_t *)&header->scid, header->scid.length,
        (const uint8_t *)&header->dcid, header->dcid.length, versions, sizeof versions / sizeof versions[0]);
}

// MARK: Retry

ssize_t cq_write_retry(uint8_t *bytes, size_t capacity, const struct cq_initial *initial,
                       const struct cq_cid *scid, const cq_path *path, const uint8_t *secret,
                       size_t secret_count, uint64_t now) {
    uint8_t token[NGTCP2_CRYPTO_MAX_RETRY_TOKENLEN];
    ngtcp2_cid ours = cq_to_cid(scid);
    ngtcp2_cid original = cq_to_cid(&initial->dcid);
    ngtcp2_cid theirs = cq_to_cid(&initial->scid);
    const ngtcp2_addr *remote = &path->storage.path.remote;
    ngtcp2_ssize count =
        ngtcp2_crypto_generate_retry_token(token, secret, secret_count, initial->version, remote->addr,
                                           remote->addrlen, &ours, &original, now);
    if (count < 0) return -1;
    return ngtcp2_crypto_write_retry(bytes, capacity, initial->version, &theirs, &ours, &original, token,
                                     (size_t)count);
}

bool cq_is_retry_token(const struct cq_initial *initial) {
    return initial->token_count > 0 && initial->token[0] == NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY;
}

bool cq_verify_retry_token(const struct cq_initial *initial, const cq_path *path, const uint8_t *secret,
                           size_t secret_count, uint64_t timeout, uint64_t now, struct cq_cid *original) {
    ngtcp2_cid found;
    ngtcp2_cid dcid = cq_to_cid(&initial->dcid);
    const ngtcp2_addr *remote = &path->storage.path.remote;
    if (ngtcp2_crypto_verify_retry_token(&found, initial->token, initial->token_count, secret, secret_count,
                                         initial->version, remote->addr, remote->addrlen, &dcid, timeout,
                                         now) != 0)
        return false;
    *original = cq_from_cid(&found);
    return true;
}

ssize_t cq_write_initial_close(uint8_t *bytes, size_t capacity, const struct cq_initial *initial,
                               uint64_t code) {
    ngtcp2_cid dcid = cq_to_cid(&initial->scid);
    ngtcp2_cid scid = cq_to_cid(&initial->dcid);
    return ngtcp2_crypto_write_connection_close(bytes, capacity, initial->version, &dcid, &scid, code, NULL,
                                                0);
}

// MARK: Stateless reset

void cq_stateless_reset_token(uint8_t *token, const uint8_t *secret, size_t secret_count,
                              const struct cq_cid *cid) {
    ngtcp2_cid id = cq_to_cid(cid);
    if (ngtcp2_crypto_generate_stateless_reset_token(token, secret, secret_count, &id) != 0)
        gnutls_rnd(GNUTLS_RND_NONCE, token, CQ_RESET_TOKEN_COUNT);
}

ssize_t cq_write_stateless_reset(uint8_t *bytes, size_t capacity, const uint8_t *token) {
    uint8_t random[64];
    if (capacity < CQ_RESET_TOKEN_COUNT + NGTCP2_MIN_STATELESS_RESET_RANDLEN) return -1;
    size_t count = capacity - CQ_RESET_TOKEN_COUNT;
    if (count > sizeof random) count = sizeof random;
    gnutls_rnd(GNUTLS_RND_NONCE, random, count);
    return ngtcp2_pkt_write_stateless_reset(bytes, capacity, token, random, count);
}
