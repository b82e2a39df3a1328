// What a connection is asked and told besides packets.
#include "internal.h"

void cq_burst_ended(cq_connection *connection, uint64_t now) {
    ngtcp2_conn_update_pkt_tx_time(connection->conn, now);
}

size_t cq_send_quantum(cq_connection *connection) { return ngtcp2_conn_get_send_quantum(connection->conn); }

size_t cq_payload_limit(cq_connection *connection) {
    return ngtcp2_conn_get_path_max_tx_udp_payload_size(connection->conn);
}

uint64_t cq_expiry(cq_connection *connection) { return ngtcp2_conn_get_expiry(connection->conn); }

int cq_handle_expiry(cq_connection *connection, uint64_t now) {
    return cq_result(connection, ngtcp2_conn_handle_expiry(connection->conn, now));
}

size_t cq_datagram_limit(cq_connection *connection, size_t largest) {
    const ngtcp2_transport_params *peer = ngtcp2_conn_get_remote_transport_params(connection->conn);
    if (peer == NULL) return 0;
    // DATAGRAM frame: type and a length of two bytes (RFC 9221 section 4).
    const size_t frame = 3;
    // Short header with the longest packet number, and the AEAD's tag (RFC 9000 section 17.3.1).
    const size_t packet = 1 + ngtcp2_conn_get_dcid(connection->conn)->datalen + 4 + 16;
    size_t payload = ngtcp2_conn_get_path_max_tx_udp_payload_size(connection->conn);
    if (payload > largest) payload = largest;
    size_t limit = payload > packet + frame ? payload - packet - frame : 0;
    uint64_t allowed = peer->max_datagram_frame_size > frame ? peer->max_datagram_frame_size - frame : 0;
    return allowed < limit ? (size_t)allowed : limit;
}

// MARK: Streams

int cq_open_stream(cq_connection *connection, void *context, int64_t *id) {
    return cq_result(connection, ngtcp2_conn_open_bidi_stream(connection->conn, id, context));
}

int cq_set_stream_context(cq_connection *connection, int64_t id, void *context) {
    return cq_result(connection, ngtcp2_conn_set_stream_user_data(connection->conn, id, context));
}

uint64_t cq_streams_left(cq_connection *connection) {
    return ngtcp2_conn_get_streams_bidi_left(connection->conn);
}

#if CQ_NGTCP2_1
#define STREAM_ARGUMENTS connection->conn, 0, id, code
#else
#define STREAM_ARGUMENTS connection->conn, id, code
#endif

int cq_reset_stream(cq_connection *connection, int64_t id, uint64_t code) {
    return cq_result(connection, ngtcp2_conn_shutdown_stream_write(STREAM_ARGUMENTS));
}

int cq_stop_sending(cq_connection *connection, int64_t id, uint64_t code) {
    return cq_result(connection, ngtcp2_conn_shutdown_stream_read(STREAM_ARGUMENTS));
}

void cq_extend_stream(cq_connection *connection, int64_t id, uint64_t count) {
    ngtcp2_conn_extend_max_stream_offset(connection->conn, id, count);
}

void cq_extend_connection(cq_connection *connection, uint64_t count) {
    ngtcp2_conn_extend_max_offset(connection->conn, count);
}

void cq_extend_streams(cq_connection *connection, uint64_t count) {
    ngtcp2_conn_extend_max_streams_bidi(connection->conn, (size_t)count);
}

bool cq_is_local_stream(cq_connection *connection, int64_t id) {
    return ngtcp2_conn_is_local_stream(connection->conn, id) != 0;
}

uint64_t cq_stream_credit_left(cq_connection *connection, int64_t id) {
    return ngtcp2_conn_get_max_stream_data_left(connection->conn, id);
}

uint64_t cq_stream_loss_count(cq_connection *connection, int64_t id) {
    return ngtcp2_conn_get_stream_loss_count(connection->conn, id);
}

// MARK: The connection as a whole

bool cq_is_handshake_completed(cq_connection *connection) {
    return ngtcp2_conn_get_handshake_completed(connection->conn) != 0;
}

void cq_set_keep_alive(cq_connection *connection, uint64_t interval) {
#if CQ_NGTCP2_1
    ngtcp2_conn_set_keep_alive_timeout(connection->conn, interval == 0 ? UINT64_MAX : interval);
#else
    ngtcp2_conn_set_keep_alive_timeout(connection->conn, interval);
#endif
}

int cq_initiate_key_update(cq_connection *connection, uint64_t now) {
    return cq_result(connection, ngtcp2_conn_initiate_key_update(connection->conn, now));
}

int cq_migrate(cq_connection *connection, const cq_path *path, uint64_t now) {
    int error = ngtcp2_conn_initiate_immediate_migration(connection->conn, &path->storage.path, now);
    int result = cq_result(connection, error);
    if (result != CQ_REFUSED && result != CQ_NO_CONNECTION_ID) return result;
    // The server sees the same packets from a new address, as after a NAT rebinding.
    ngtcp2_conn_set_local_addr(connection->conn, &path->storage.path.local);
    return CQ_OK;
}

uint64_t cq_probe_timeout(cq_connection *connection) { return ngtcp2_conn_get_pto(connection->conn); }

void cq_get_info(cq_connection *connection, struct cq_info *info) {
#if CQ_NGTCP2_1
    ngtcp2_conn_info found;
    ngtcp2_conn_get_conn_info(connection->conn, &found);
#else
    ngtcp2_conn_stat found;
    ngtcp2_conn_get_conn_stat(connection->conn, &found);
#endif
    info->smoothed_rtt = found.smoothed_rtt;
    info->min_rtt = found.min_rtt;
    info->congestion_window = found.cwnd;
    info->bytes_in_flight = found.bytes_in_flight;
}

void cq_peer_close(cq_connection *connection, struct cq_close *close) {
    memset(close, 0, sizeof *close);
#if CQ_NGTCP2_1
    const ngtcp2_ccerr *error = ngtcp2_conn_get_ccerr(connection->conn);
    const int transport = NGTCP2_CCERR_TYPE_TRANSPORT;
    const int application = NGTCP2_CCERR_TYPE_APPLICATION;
#else
    ngtcp2_connection_close_error found;
    ngtcp2_conn_get_connection_close_error(connection->conn, &found);
    const ngtcp2_connection_close_error *error = &found;
    const int transport = NGTCP2_CONNECTION_CLOSE_ERROR_CODE_TYPE_TRANSPORT;
    const int application = NGTCP2_CONNECTION_CLOSE_ERROR_CODE_TYPE_APPLICATION;
#endif
    close->kind = (int)error->type == application ? CQ_CLOSE_APPLICATION
                  : (int)error->type == transport ? CQ_CLOSE_TRANSPORT
                                                  : CQ_CLOSE_OTHER;
    close->code = error->error_code;
    size_t count = error->reasonlen < sizeof close->reason ? error->reasonlen : sizeof close->reason;
    if (count > 0 && error->reason != NULL) memcpy(close->reason, error->reason, count);
    close->reason_count = (uint32_t)count;
}
