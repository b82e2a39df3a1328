#include "cpostgres.h"

#include <poll.h>
#include <stddef.h>
#include <sys/stat.h>

bool cpg_socket_ready(int fd, bool writing) {
    struct pollfd entry = {.fd = fd, .events = writing ? POLLOUT : POLLIN};
    return poll(&entry, 1, 0) > 0;
}

uint64_t cpg_socket_identity(int fd) {
    struct stat status;
    return fstat(fd, &status) == 0 ? status.st_ino : 0;
}

bool cpg_connection_string_is_valid(const char *connection_string) {
    char *message = NULL;
    PQconninfoOption *options = PQconninfoParse(connection_string, &message);
    if (message != NULL) PQfreemem(message);
    if (options == NULL) return false;
    PQconninfoFree(options);
    return true;
}

PGconn *cpg_connect_start(const char *connection_string, const char *application_name, const char *hosts,
                          const char *addresses, const char *ports) {
    // What stands before `dbname` is a default that the connection string may change; what stands
    // after it holds, unless it is NULL. A server that vanished is noticed by keepalives within half a minute.
    const char *keywords[] = {"keepalives_idle", "keepalives_interval", "keepalives_count",
                              "tcp_user_timeout", "dbname", "application_name", "client_encoding",
                              "host", "hostaddr", "port", NULL};
    const char *values[] = {"10", "5", "3", "20000", connection_string, application_name, "UTF8",
                            hosts, addresses, ports, NULL};
    return PQconnectStartParams(keywords, values, 1);
}
