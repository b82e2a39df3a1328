#include "clinux.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

int cl_resolve(const char *name, struct cl_address *addresses, uint32_t capacity) {
    struct addrinfo hints;
    memset(&hints, 0, sizeof hints);
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    struct addrinfo *found = NULL;
    int result = getaddrinfo(name, NULL, &hints, &found);
    if (result == EAI_SYSTEM) return errno > 0 ? -errno : -EIO;
    if (result != 0) return -CL_RESOLVE_FAILURE - (result < 0 ? -result : result);
    uint32_t count = 0;
    for (struct addrinfo *item = found; item != NULL && count < capacity; item = item->ai_next) {
        struct cl_address *address = &addresses[count];
        memset(address, 0, sizeof *address);
        if (item->ai_family == AF_INET) {
            const struct sockaddr_in *v4 = (const struct sockaddr_in *)item->ai_addr;
            address->family = 4;
            memcpy(address->ip, &v4->sin_addr, 4);
            count++;
        } else if (item->ai_family == AF_INET6) {
            const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)item->ai_addr;
            address->family = 6;
            memcpy(address->ip, &v6->sin6_addr, 16);
            count++;
        }
    }
    freeaddrinfo(found);
    return (int)count;
}

const char *cl_resolve_text(int code) {
    return gai_strerror(-(code - CL_RESOLVE_FAILURE));
}
