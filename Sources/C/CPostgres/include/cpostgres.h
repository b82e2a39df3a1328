// libpq. Its functions import as they are; here is what doesn't: character macros, the notice
// receiver's context, and poll(2), without which edge-triggered readiness can't be told from silence.
#pragma once

#include <postgresql/libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

// PG_DIAG_* are character literals behind macros.
enum {
    CPG_DIAG_SEVERITY = PG_DIAG_SEVERITY_NONLOCALIZED,
    CPG_DIAG_SQLSTATE = PG_DIAG_SQLSTATE,
    CPG_DIAG_MESSAGE = PG_DIAG_MESSAGE_PRIMARY,
    CPG_DIAG_DETAIL = PG_DIAG_MESSAGE_DETAIL,
    CPG_DIAG_CONSTRAINT = PG_DIAG_CONSTRAINT_NAME,
};

/// Whether the socket can be read (`writing` false) or written without blocking, or has failed.
bool cpg_socket_ready(int fd, bool writing);

/// Tells sockets apart that came to have the same descriptor, one after the other; 0 for none.
uint64_t cpg_socket_identity(int fd);

/// Whether `connection_string` parses; libpq's own message is not given on because it quotes the string,
/// password and all.
bool cpg_connection_string_is_valid(const char *connection_string);

/// PQconnectStartParams with `connection_string` expanded and then the settings of this program over it; NULL
/// lists leave the string's own.
PGconn *cpg_connect_start(const char *connection_string, const char *application_name, const char *hosts,
                          const char *addresses, const char *ports);
