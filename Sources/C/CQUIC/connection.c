// Connections: creation, callbacks, packets in and out.
#include <arpa/inet.h>

#include "internal.h"

int cq_result(cq_connection *connection, int error) {
    if (error == 0) return CQ_OK;
    connection->last_error = error;
    switch (error) {
    case NGTCP2_ERR_STREAM_DATA_BLOCKED: return CQ_STREAM_BLOCKED;
    case NGTCP2_ERR_STREAM_SHUT_WR: return CQ_STREAM_SHUT;
    case NGTCP2_ERR_STREAM_NOT_FOUND: return CQ_STREAM_GONE;
    case NGTCP2_ERR_WRITE_MORE: return CQ_WRITE_MORE;
    case NGTCP2_ERR_STREAM_ID_BLOCKED: return CQ_NO_STREAM_CREDIT;
    case NGTCP2_ERR_CONN_ID_BLOCKED: return CQ_NO_CONNECTION_ID;
    case NGTCP2_ERR_CLOSING:
    case NGTCP2_ERR_DRAINING: return CQ_DRAINING;
    case NGTCP2_ERR_RETRY:
    case NGTCP2_ERR_DROP_CONN: return CQ_DROP;
    case NGTCP2_ERR_IDLE_CLOSE: return CQ_IDLE;
    case NGTCP2_ERR_HANDSHAKE_TIMEOUT: return CQ_HANDSHAKE_TIMEOUT;
    case NGTCP2_ERR_RECV_VERSION_NEGOTIATION:
    case NGTCP2_ERR_VERSION_NEGOTIATION_FAILURE: return CQ_VERSION_NEGOTIATION;
    case NGTCP2_ERR_CRYPTO: return CQ_TLS;
    case NGTCP2_ERR_INVALID_STATE:
    case NGTCP2_ERR_INVALID_ARGUMENT: return CQ_REFUSED;
    default: return CQ_FAILED;
    }
}

// MARK: Callbacks

#define SELF ((cq_connection *)user_data)

static int on_crypto(ngtcp2_conn *conn, cq_level level, uint64_t offset, const uint8_t *data, size_t count,
                     void *user_data) {
    if (SELF->session != NULL) {
        return ngtcp2_crypto_recv_crypto_data_cb(conn, level, offset, data, count, user_data);
    }
    // The handshake is over. A server may send tickets, which are of no use here; a client may send nothing
    // (RFC 9001 section 6; key updates are QUIC's own).
    if (!SELF->is_server) return 0;
    ngtcp2_conn_set_tls_alert(conn, GNUTLS_A_UNEXPECTED_MESSAGE);
    return NGTCP2_ERR_CRYPTO;
}

static int on_handshake_completed(ngtcp2_conn *conn, void *user_data) {
    (void)conn;
    SELF->callbacks->handshake_completed(SELF->context);
    return 0;
}

static int on_stream_opened(ngtcp2_conn *conn, int64_t id, void *user_data) {
    (void)conn;
    SELF->callbacks->stream_opened(SELF->context, id);
    return 0;
}

static int on_stream_data(ngtcp2_conn *conn, uint32_t flags, int64_t id, uint64_t offset, const uint8_t *data,
                          size_t count, void *user_data, void *stream) {
    (void)conn, (void)id, (void)offset;
    if (stream != NULL)
        SELF->callbacks->stream_data(SELF->context, stream, data, count,
                                     (flags & NGTCP2_STREAM_DATA_FLAG_FIN) != 0);
    else
        ngtcp2_conn_extend_max_offset(conn, count);
    return 0;
}

static int on_acknowledged(ngtcp2_conn *conn, int64_t id, uint64_t offset, uint64_t count, void *user_data,
                           void *stream) {
    (void)conn, (void)id;
    if (stream != NULL) SELF->callbacks->stream_acknowledged(stream, offset + count);
    return 0;
}

static int on_stream_reset(ngtcp2_conn *conn, int64_t id, uint64_t final_size, uint64_t code, void *user_data,
                           void *stream) {
    (void)conn, (void)id, (void)final_size;
    if (stream != NULL) SELF->callbacks->stream_reset(stream, code);
    return 0;
}

static int on_stream_credit(ngtcp2_conn *conn, int64_t id, uint64_t limit, void *user_data, void *stream) {
    (void)conn, (void)id, (void)limit;
    if (stream != NULL) SELF->callbacks->stream_credit(stream);
    return 0;
}

static int on_stream_closed(ngtcp2_conn *conn, uint32_t flags, int64_t id, uint64_t code, void *user_data,
                            void *stream) {
    (void)conn, (void)flags, (void)code;
    SELF->callbacks->stream_closed(SELF->context, stream, id);
    return 0;
}

static int on_stream_limit(ngtcp2_conn *conn, uint64_t limit, void *user_data) {
    (void)conn, (void)limit;
    SELF->callbacks->stream_limit(SELF->context);
    return 0;
}

static int on_datagram(ngtcp2_conn *conn, uint32_t flags, const uint8_t *data, size_t count,
                       void *user_data) {
    (void)conn, (void)flags;
    SELF->callbacks->datagram(SELF->context, data, count);
    return 0;
}

// A datagram's id is its length.
static int on_datagram_acknowledged(ngtcp2_conn *conn, uint64_t id, void *user_data) {
    (void)conn;
    SELF->callbacks->datagram_acknowledged(SELF->context, id);
    return 0;
}

static int on_datagram_lost(ngtcp2_conn *conn, uint64_t id, void *user_data) {
    (void)conn;
    SELF->callbacks->datagram_lost(SELF->context, id);
    return 0;
}

static int on_stateless_reset(ngtcp2_conn *conn, const ngtcp2_pkt_stateless_reset *reset, void *user_data) {
    (void)conn, (void)reset;
    SELF->callbacks->stateless_reset(SELF->context);
    return 0;
}

static int on_new_cid(ngtcp2_conn *conn, ngtcp2_cid *cid, uint8_t *token, size_t count, void *user_data) {
    (void)conn;
    struct cq_cid made = {.length = (uint32_t)count};
    SELF->callbacks->new_cid(SELF->context, &made, token);
    *cid = cq_to_cid(&made);
    return 0;
}

static int on_remove_cid(ngtcp2_conn *conn, const ngtcp2_cid *cid, void *user_data) {
    (void)conn;
    struct cq_cid removed = cq_from_cid(cid);
    SELF->callbacks->remove_cid(SELF->context, &removed);
    return 0;
}

#if CQ_NGTCP2_1
static int on_peer_cid(ngtcp2_conn *conn, ngtcp2_connection_id_status_type type, uint64_t sequence,
                       const ngtcp2_cid *cid, const uint8_t *token, void *user_data) {
#else
static int on_peer_cid(ngtcp2_conn *conn, int type, uint64_t sequence, const ngtcp2_cid *cid,
                       const uint8_t *token, void *user_data) {
#endif
    (void)conn, (void)sequence, (void)cid;
    if (token != NULL)
        SELF->callbacks->peer_reset_token(SELF->context, token,
                                          type == NGTCP2_CONNECTION_ID_STATUS_TYPE_ACTIVATE);
    return 0;
}

#if CQ_NGTCP2_1
static int on_path_validation(ngtcp2_conn *conn, uint32_t flags, const ngtcp2_path *path,
                              const ngtcp2_path *old_path, ngtcp2_path_validation_result result,
                              void *user_data) {
    (void)old_path;
#else
static int on_path_validation(ngtcp2_conn *conn, uint32_t flags, const ngtcp2_path *path,
                              ngtcp2_path_validation_result result, void *user_data) {
#endif
    (void)conn, (void)flags, (void)path, (void)result;
    SELF->callbacks->path_validated(SELF->context);
    return 0;
}

static void fill_random(uint8_t *bytes, size_t count, const ngtcp2_rand_ctx *context) {
    (void)context;
    gnutls_rnd(GNUTLS_RND_NONCE, bytes, count);
}

#undef SELF

static const ngtcp2_callbacks server_callbacks = {
    .recv_client_initial = ngtcp2_crypto_recv_client_initial_cb,
    .recv_crypto_data = on_crypto,
    .handshake_completed = on_handshake_completed,
    .encrypt = cq_encrypt,
    .decrypt = cq_decrypt,
    .hp_mask = cq_header_mask,
    .recv_stream_data = on_stream_data,
    .acked_stream_data_offset = on_acknowledged,
    .stream_open = on_stream_opened,
    .stream_close = on_stream_closed,
    .recv_stateless_reset = on_stateless_reset,
    .extend_max_local_streams_bidi = on_stream_limit,
    .rand = fill_random,
    .get_new_connection_id = on_new_cid,
    .remove_connection_id = on_remove_cid,
    .update_key = cq_update_key,
    .path_validation = on_path_validation,
    .stream_reset = on_stream_reset,
    .dcid_status = on_peer_cid,
    .extend_max_stream_data = on_stream_credit,
    .delete_crypto_aead_ctx = cq_delete_packet_key,
    .delete_crypto_cipher_ctx = cq_delete_header_key,
    .recv_datagram = on_datagram,
    .ack_datagram = on_datagram_acknowledged,
    .lost_datagram = on_datagram_lost,
    .get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb,
    .version_negotiation = ngtcp2_crypto_version_negotiation_cb,
};

// MARK: Creation

bool cq_finds_jumbo_frames(void) { return NGTCP2_VERSION_NUM >= 0x010400; }

static void set_settings(ngtcp2_settings *settings, const struct cq_settings *from) {
    ngtcp2_settings_default(settings);
    settings->initial_ts = from->now;
#if CQ_NGTCP2_1
    const ngtcp2_cc_algo bbr = NGTCP2_CC_ALGO_BBR;
#else
    const ngtcp2_cc_algo bbr = NGTCP2_CC_ALGO_BBR2;
#endif
    settings->cc_algo = from->congestion == CQ_CONGESTION_BBR ? bbr : NGTCP2_CC_ALGO_CUBIC;
    settings->handshake_timeout = from->handshake_timeout;
    settings->max_window = from->max_window;
    settings->max_stream_window = from->max_stream_window;
    if (from->fixed_udp_payload != 0) {
        settings->max_tx_udp_payload_size = from->fixed_udp_payload;
        settings->no_tx_udp_payload_size_shaping = 1;
        settings->no_pmtud = 1;
        return;
    }
#if NGTCP2_VERSION_NUM >= 0x010400
    // Ethernet with tunnels in the way, PPPoE, plain Ethernet and jumbo frames, each less the headers of IPv6 and
    // UDP. The likeliest is first; what is not taken is asked for no more.
    static const uint16_t probes[] = {1406, 1342, 1232, 1444, 1452, CQ_LARGEST_UDP_PAYLOAD};
    settings->pmtud_probes = probes;
    settings->pmtud_probeslen = sizeof probes / sizeof probes[0];
    settings->max_tx_udp_payload_size = CQ_LARGEST_UDP_PAYLOAD;
#else
    settings->max_tx_udp_payload_size = NGTCP2_MAX_PMTUD_UDP_PAYLOAD_SIZE;
#endif
}

static void set_params(ngtcp2_transport_params *params, const struct cq_settings *from) {
    ngtcp2_transport_params_default(params);
    params->initial_max_stream_data_bidi_local = from->initial_max_stream_data;
    params->initial_max_stream_data_bidi_remote = from->initial_max_stream_data;
    params->initial_max_data = from->initial_max_data;
    params->initial_max_streams_bidi = from->initial_max_streams;
    params->initial_max_streams_uni = 0;
    params->max_idle_timeout = from->max_idle_timeout;
    params->max_datagram_frame_size = from->max_datagram_frame;
    // Spare ids let a peer that moves twice in a row go on without waiting for a new one.
    params->active_connection_id_limit = 4;
}

static cq_connection *connection_new(cq_workspace *workspace, const struct cq_callbacks *callbacks,
                                     void *context, const char *protocol, bool is_server) {
    cq_connection *connection = gnutls_calloc(1, sizeof *connection);
    if (connection == NULL) return NULL;
    connection->workspace = cq_workspace_hold(workspace);
    connection->callbacks = callbacks;
    connection->context = context;
    connection->is_server = is_server;
    strncpy(connection->protocol, protocol, sizeof connection->protocol - 1);
    ngtcp2_path_storage_zero(&connection->last_path);
    return connection;
}

cq_connection *cq_server_new(cq_workspace *workspace, const struct cq_callbacks *callbacks, void *context,
                             const struct cq_settings *from, const cq_credentials *credentials,
                             const char *protocol, const cq_path *path, const struct cq_initial *initial,
                             const struct cq_cid *scid, const struct cq_cid *original,
                             const uint8_t *reset_token) {
    cq_connection *connection = connection_new(workspace, callbacks, context, protocol, true);
    if (connection == NULL) return NULL;
    connection->has_fast_aead = from->fast_aead && cq_has_fast_aead();
    connection->is_chacha20_only = from->chacha20_only;
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    set_settings(&settings, from);
    set_params(&params, from);
    params.original_dcid = cq_to_cid(original != NULL ? original : &initial->dcid);
    if (original != NULL) {
        params.retry_scid = cq_to_cid(&initial->dcid);
        params.retry_scid_present = 1;
    }
#if CQ_NGTCP2_1
    params.original_dcid_present = 1;
    settings.token = initial->token;
    settings.tokenlen = initial->token_count;
    settings.token_type = original != NULL ? NGTCP2_TOKEN_TYPE_RETRY : NGTCP2_TOKEN_TYPE_UNKNOWN;
#else
    settings.token.base = (uint8_t *)initial->token;
    settings.token.len = initial->token_count;
#endif
    memcpy(params.stateless_reset_token, reset_token, CQ_RESET_TOKEN_COUNT);
    params.stateless_reset_token_present = 1;
    ngtcp2_cid dcid = cq_to_cid(&initial->scid);
    ngtcp2_cid ours = cq_to_cid(scid);
    if (ngtcp2_conn_server_new(&connection->conn, &dcid, &ours, &path->storage.path, initial->version,
                               &server_callbacks, &settings, &params, cq_memory(workspace), connection) != 0 ||
        cq_tls_start(connection, credentials) != 0) {
        cq_free(connection);
        return NULL;
    }
    ngtcp2_conn_set_tls_native_handle(connection->conn, connection->session);
    return connection;
}

cq_connection *cq_client_new(cq_workspace *workspace, const struct cq_callbacks *callbacks, void *context,
                             const struct cq_settings *from, const cq_credentials *credentials,
                             const struct cq_verification *verification, const char *protocol,
                             const cq_path *path, const struct cq_cid *dcid, const struct cq_cid *scid) {
    cq_connection *connection = connection_new(workspace, callbacks, context, protocol, false);
    if (connection == NULL) return NULL;
    connection->has_fast_aead = from->fast_aead && cq_has_fast_aead();
    connection->is_chacha20_only = from->chacha20_only;
    connection->skips_verification = verification->skip;
    connection->has_pin = verification->pin != NULL;
    if (connection->has_pin) memcpy(connection->pin, verification->pin, sizeof connection->pin);
    if (verification->host != NULL) connection->host = gnutls_strdup(verification->host);
    ngtcp2_callbacks client_callbacks = server_callbacks;
    client_callbacks.recv_client_initial = NULL;
    client_callbacks.client_initial = ngtcp2_crypto_client_initial_cb;
    client_callbacks.recv_retry = ngtcp2_crypto_recv_retry_cb;
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    set_settings(&settings, from);
    set_params(&params, from);
    ngtcp2_cid theirs = cq_to_cid(dcid);
    ngtcp2_cid ours = cq_to_cid(scid);
    if (ngtcp2_conn_client_new(&connection->conn, &theirs, &ours, &path->storage.path, NGTCP2_PROTO_VER_V1,
                               &client_callbacks, &settings, &params, cq_memory(workspace), connection) != 0 ||
        cq_tls_start(connection, credentials) != 0) {
        cq_free(connection);
        return NULL;
    }
    ngtcp2_conn_set_tls_native_handle(connection->conn, connection->session);
    return connection;
}

void cq_free(cq_connection *connection) {
    if (connection->conn != NULL) ngtcp2_conn_del(connection->conn);
    if (connection->session != NULL) gnutls_deinit(connection->session);
    gnutls_free(connection->host);
    gnutls_free(connection->text);
    cq_workspace_free(connection->workspace);
    gnutls_free(connection);
}

// MARK: Packets

int cq_read(cq_connection *connection, const cq_path *path, uint8_t ecn, const uint8_t *packet, size_t count,
            uint64_t now) {
    ngtcp2_pkt_info info = {.ecn = ecn};
    struct cq_stops stops;
    stops.count = 0;
    connection->stops = &stops;
    cq_reading(connection);
    int error = ngtcp2_conn_read_pkt(connection->conn, &path->storage.path, &info, packet, count, now);
    cq_reading(NULL);
    connection->stops = NULL;
    for (uint32_t i = 0; error == 0 && i < stops.count; i++)
        connection->callbacks->stream_stop_sending(connection->context, stops.all[i].id, stops.all[i].code);
    return error == 0 ? CQ_OK : cq_result(connection, error);
}

/// Completes `written` for a packet of `size` bytes.
static ssize_t finish_write(cq_connection *connection, ngtcp2_ssize size, const ngtcp2_pkt_info *info,
                            struct cq_written *written) {
    if (size < 0) return cq_result(connection, (int)size);
    written->ecn = (uint8_t)info->ecn;
    written->new_path = false;
    const ngtcp2_path *packet_path = &connection->workspace->packet_path.path;
    if (size > 0 && !ngtcp2_path_eq(packet_path, &connection->last_path.path)) {
        ngtcp2_path_copy(&connection->last_path.path, packet_path);
        written->new_path = true;
    }
    return size;
}

ssize_t cq_write_stream(cq_connection *connection, uint8_t *bytes, size_t capacity, int64_t id, bool fin,
                        bool more, const void *first, size_t first_count, const void *second,
                        size_t second_count, struct cq_written *written, uint64_t now) {
    ngtcp2_vec pieces[2] = {{(uint8_t *)first, first_count}, {(uint8_t *)second, second_count}};
    size_t pieces_count = second_count > 0 ? 2 : first_count > 0 ? 1 : 0;
    uint32_t flags = NGTCP2_WRITE_STREAM_FLAG_NONE;
    if (fin) flags |= NGTCP2_WRITE_STREAM_FLAG_FIN;
    if (more) flags |= NGTCP2_WRITE_STREAM_FLAG_MORE;
    ngtcp2_pkt_info info = {0};
    ngtcp2_ssize taken = -1;
    ngtcp2_path *packet_path = &connection->workspace->packet_path.path;
    ngtcp2_ssize size = ngtcp2_conn_writev_stream(connection->conn, packet_path, &info, bytes, capacity, &taken,
                                                  flags, id, pieces, pieces_count, now);
    written->taken = taken;
    return finish_write(connection, size, &info, written);
}

ssize_t cq_write_datagram(cq_connection *connection, uint8_t *bytes, size_t capacity, const void *datagram,
                          size_t count, bool more, struct cq_written *written, uint64_t now) {
    ngtcp2_vec piece = {(uint8_t *)datagram, count};
    uint32_t flags = more ? NGTCP2_WRITE_DATAGRAM_FLAG_MORE : NGTCP2_WRITE_DATAGRAM_FLAG_NONE;
    ngtcp2_pkt_info info = {0};
    int accepted = 0;
    ngtcp2_path *packet_path = &connection->workspace->packet_path.path;
    ngtcp2_ssize size =
        ngtcp2_conn_writev_datagram(connection->conn, packet_path, &info, bytes, capacity, &accepted, flags,
                                    count, &piece, count > 0 ? 1 : 0, now);
    written->accepted = accepted != 0;
    return finish_write(connection, size, &info, written);
}

static ssize_t write_close(cq_connection *connection, uint8_t *bytes, size_t capacity, const cq_ccerr *error,
                           struct cq_written *written, uint64_t now) {
    ngtcp2_pkt_info info = {0};
    ngtcp2_path *packet_path = &connection->workspace->packet_path.path;
    ngtcp2_ssize size = ngtcp2_conn_write_connection_close(connection->conn, packet_path, &info, bytes,
                                                           capacity, error, now);
    return finish_write(connection, size, &info, written);
}

ssize_t cq_write_application_close(cq_connection *connection, uint8_t *bytes, size_t capacity, uint64_t code,
                                   const uint8_t *reason, size_t reason_count, struct cq_written *written,
                                   uint64_t now) {
    cq_ccerr error;
    cq_ccerr_default(&error);
    cq_ccerr_set_application_error(&error, code, (uint8_t *)reason, reason_count);
    return write_close(connection, bytes, capacity, &error, written, now);
}

ssize_t cq_write_error_close(cq_connection *connection, uint8_t *bytes, size_t capacity,
                             struct cq_written *written, uint64_t now) {
    cq_ccerr error;
    cq_ccerr_default(&error);
    uint8_t alert = ngtcp2_conn_get_tls_alert(connection->conn);
    if (connection->last_error == NGTCP2_ERR_CRYPTO && alert != 0)
        cq_ccerr_set_tls_alert(&error, alert, NULL, 0);
    else
        cq_ccerr_set_liberr(&error, connection->last_error, NULL, 0);
    return write_close(connection, bytes, capacity, &error, written, now);
}

static void from_system(const ngtcp2_addr *from, struct cl_address *address) {
    memset(address, 0, sizeof *address);
    if (from->addrlen == 0) return;
    const ngtcp2_sockaddr_union *system = (const ngtcp2_sockaddr_union *)from->addr;
    if (system->sa.sa_family == AF_INET) {
        address->family = 4;
        address->port = ntohs(system->in.sin_port);
        memcpy(address->ip, &system->in.sin_addr, 4);
    } else if (system->sa.sa_family == AF_INET6) {
        address->family = 6;
        address->port = ntohs(system->in6.sin6_port);
        memcpy(address->ip, &system->in6.sin6_addr, 16);
    }
}

void cq_last_path(cq_connection *connection, struct cl_address *local, struct cl_address *peer) {
    from_system(&connection->last_path.path.local, local);
    from_system(&connection->last_path.path.remote, peer);
}

void cq_current_path(cq_connection *connection, struct cl_address *local, struct cl_address *peer) {
    const ngtcp2_path *path = ngtcp2_conn_get_path(connection->conn);
    from_system(&path->local, local);
    from_system(&path->remote, peer);
}
