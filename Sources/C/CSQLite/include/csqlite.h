// SQLite. Its functions import as they are, but for those that take SQLITE_TRANSIENT, a cast number behind
// a macro: values are bound here as copies, so that no pointer outlives the call that hands it over.
#pragma once

#include <sqlite3.h>

static inline int csq_bind_text(sqlite3_stmt *statement, int index, const char *bytes, int count) {
    return sqlite3_bind_text(statement, index, bytes, count, SQLITE_TRANSIENT);
}

/// An empty blob has no bytes to point to, and NULL would bind NULL.
static inline int csq_bind_blob(sqlite3_stmt *statement, int index, const void *bytes, int count) {
    if (count == 0) return sqlite3_bind_zeroblob(statement, index, 0);
    return sqlite3_bind_blob(statement, index, bytes, count, SQLITE_TRANSIENT);
}
