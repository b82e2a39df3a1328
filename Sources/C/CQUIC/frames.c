// STOP_SENDING of the peer: the library answers it with RESET_STREAM and tells nobody, so that an application
// with nothing to write would never learn of it. It is looked for in what has been decrypted.
#include "internal.h"

static _Thread_local cq_connection *reading;

void cq_reading(cq_connection *connection) { reading = connection; }

struct cursor {
    const uint8_t *next;
    const uint8_t *end;
};

/// Reads a variable-length integer (RFC 9000 section 16); false at the end of the bytes.
static inline bool take_number(struct cursor *cursor, uint64_t *value) {
    if (cursor->next == cursor->end) return false;
    size_t count = (size_t)1 << (*cursor->next >> 6);
    if ((size_t)(cursor->end - cursor->next) < count) return false;
    uint64_t result = *cursor->next++ & 0x3f;
    while (--count > 0) result = result << 8 | *cursor->next++;
    *value = result;
    return true;
}

static inline bool skip_bytes(struct cursor *cursor, uint64_t count) {
    if ((uint64_t)(cursor->end - cursor->next) < count) return false;
    cursor->next += count;
    return true;
}

static inline bool skip_numbers(struct cursor *cursor, int count) {
    uint64_t ignored;
    while (count-- > 0)
        if (!take_number(cursor, &ignored)) return false;
    return true;
}

/// Skips what is counted by a variable-length integer.
static inline bool skip_counted(struct cursor *cursor) {
    uint64_t count;
    return take_number(cursor, &count) && skip_bytes(cursor, count);
}

static bool skip_ack(struct cursor *cursor, bool has_ecn) {
    uint64_t ranges;
    if (!skip_numbers(cursor, 2) || !take_number(cursor, &ranges) || !skip_numbers(cursor, 1)) return false;
    while (ranges-- > 0)
        if (!skip_numbers(cursor, 2)) return false;
    return !has_ecn || skip_numbers(cursor, 3);
}

static bool note_stop_sending(struct cursor *cursor, cq_connection *connection) {
    uint64_t id, code;
    if (!take_number(cursor, &id) || !take_number(cursor, &code)) return false;
    // What does not fit is noticed at the next write to the stream.
    struct cq_stops *stops = connection->stops;
    if (stops != NULL && stops->count < CQ_MAX_STOPS)
        stops->all[stops->count++] = (struct cq_stop){(int64_t)id, code};
    return true;
}

/// Skips one frame (RFC 9000 section 19); false at the end, or at what the library will refuse.
static bool next_frame(struct cursor *cursor, cq_connection *connection) {
    uint64_t type;
    if (!take_number(cursor, &type)) return false;
    if (type >= 0x08 && type <= 0x0f) {
        if (!skip_numbers(cursor, type & 0x04 ? 2 : 1)) return false;
        return (type & 0x02) != 0 && skip_counted(cursor);
    }
    switch (type) {
    case 0x00: case 0x01: case 0x1e: return true;
    case 0x02: return skip_ack(cursor, false);
    case 0x03: return skip_ack(cursor, true);
    case 0x04: return skip_numbers(cursor, 3);
    case 0x05: return note_stop_sending(cursor, connection);
    case 0x06: return skip_numbers(cursor, 1) && skip_counted(cursor);
    case 0x07: case 0x31: return skip_counted(cursor);
    case 0x10: case 0x12: case 0x13: case 0x14: case 0x16: case 0x17: case 0x19:
        return skip_numbers(cursor, 1);
    case 0x11: case 0x15: return skip_numbers(cursor, 2);
    case 0x18:
        return skip_numbers(cursor, 2) && skip_bytes(cursor, 1) && skip_bytes(cursor, cursor->next[-1]) &&
               skip_bytes(cursor, 16);
    case 0x1a: case 0x1b: return skip_bytes(cursor, 8);
    default: return false;
    }
}

int cq_decrypt(uint8_t *bytes, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *context,
               const uint8_t *ciphertext, size_t count, const uint8_t *nonce, size_t nonce_count,
               const uint8_t *header, size_t header_count) {
    int result = cq_open(bytes, aead, context, ciphertext, count, nonce, nonce_count, header, header_count);
    if (result == 0 && reading != NULL && count > aead->max_overhead) {
        struct cursor cursor = {bytes, bytes + count - aead->max_overhead};
        while (next_frame(&cursor, reading)) {
        }
    }
    return result;
}
