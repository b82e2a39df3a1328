#include "clinux.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>

#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <netinet/udp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

static int result(int value) { return value < 0 ? -errno : value; }
static ssize_t long_result(ssize_t value) { return value < 0 ? -errno : value; }

uint64_t cl_monotonic_nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int64_t cl_wall_microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void cl_random_bytes(void *bytes, size_t count) {
    uint8_t *next = bytes;
    while (count > 0) {
        ssize_t got = getrandom(next, count, 0);
        if (got > 0) {
            next += got;
            count -= (size_t)got;
        }
    }
}

// MARK: Readiness

int cl_epoll_create(void) { return result(epoll_create1(EPOLL_CLOEXEC)); }

static int epoll_change(int epoll_fd, int operation, int fd, uint64_t data, int watches_writable) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.u64 = data};
    if (watches_writable) event.events |= EPOLLOUT;
    return result(epoll_ctl(epoll_fd, operation, fd, &event));
}

int cl_epoll_add(int epoll_fd, int fd, uint64_t data, int watches_writable) {
    return epoll_change(epoll_fd, EPOLL_CTL_ADD, fd, data, watches_writable);
}

int cl_epoll_modify(int epoll_fd, int fd, uint64_t data, int watches_writable) {
    return epoll_change(epoll_fd, EPOLL_CTL_MOD, fd, data, watches_writable);
}

int cl_epoll_remove(int epoll_fd, int fd) {
    return result(epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL));
}

int cl_epoll_wait(int epoll_fd, struct cl_event *events, int capacity, int64_t timeout_nanoseconds) {
    struct epoll_event ready[256];
    if (capacity > 256) capacity = 256;
    struct timespec timeout = {.tv_sec = timeout_nanoseconds / 1000000000,
                               .tv_nsec = timeout_nanoseconds % 1000000000};
    int count = epoll_pwait2(epoll_fd, ready, capacity, timeout_nanoseconds < 0 ? NULL : &timeout, NULL);
    if (count < 0) return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < count; i++) {
        uint32_t readiness = 0;
        if (ready[i].events & EPOLLIN) readiness |= CL_READABLE;
        if (ready[i].events & EPOLLOUT) readiness |= CL_WRITABLE;
        if (ready[i].events & EPOLLRDHUP) readiness |= CL_PEER_CLOSED;
        if (ready[i].events & (EPOLLERR | EPOLLHUP)) readiness |= CL_FAILED;
        if (ready[i].events & EPOLLERR) readiness |= CL_ERROR;
        events[i].data = ready[i].data.u64;
        events[i].readiness = readiness;
    }
    return count;
}

int cl_eventfd_create(void) { return result(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)); }

void cl_eventfd_signal(int fd) {
    uint64_t one = 1;
    // A full counter is already a pending wake-up, so the result says nothing of use.
    ssize_t ignored = write(fd, &one, sizeof one);
    (void)ignored;
}

// MARK: Addresses and sockets

static socklen_t to_system(const struct cl_address *address, struct sockaddr_storage *storage) {
    memset(storage, 0, sizeof *storage);
    if (address->family == 4) {
        struct sockaddr_in *in = (struct sockaddr_in *)storage;
        in->sin_family = AF_INET;
        in->sin_port = htons(address->port);
        memcpy(&in->sin_addr, address->ip, 4);
        return sizeof *in;
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)storage;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(address->port);
    memcpy(&in6->sin6_addr, address->ip, 16);
    return sizeof *in6;
}

static void from_system(const struct sockaddr_storage *storage, struct cl_address *address) {
    memset(address, 0, sizeof *address);
    if (storage->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)storage;
        address->family = 4;
        address->port = ntohs(in->sin_port);
        memcpy(address->ip, &in->sin_addr, 4);
    } else if (storage->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)storage;
        address->family = 6;
        address->port = ntohs(in6->sin6_port);
        memcpy(address->ip, &in6->sin6_addr, 16);
    }
}

static int system_family(const struct cl_address *address) {
    return address->family == 4 ? AF_INET : AF_INET6;
}

static void set_flag(int fd, int level, int option) {
    int one = 1;
    setsockopt(fd, level, option, &one, sizeof one);
}

int cl_close(int fd) { return result(close(fd)); }

ssize_t cl_read(int fd, void *bytes, size_t count) { return long_result(read(fd, bytes, count)); }

ssize_t cl_write(int fd, const void *bytes, size_t count) {
    return long_result(write(fd, bytes, count));
}

ssize_t cl_send(int fd, const void *bytes, size_t count) {
    return long_result(send(fd, bytes, count, MSG_NOSIGNAL));
}

ssize_t cl_send_pieces(int fd, const struct cl_piece *pieces, size_t count) {
    struct iovec vector[CL_MAX_PIECES];
    if (count > CL_MAX_PIECES) count = CL_MAX_PIECES;
    for (size_t i = 0; i < count; i++) vector[i] = (struct iovec){(void *)pieces[i].bytes, pieces[i].count};
    struct msghdr message = {.msg_iov = vector, .msg_iovlen = count};
    return long_result(sendmsg(fd, &message, MSG_NOSIGNAL));
}

ssize_t cl_read2(int fd, void *first, size_t first_count, void *second, size_t second_count) {
    struct iovec pieces[2] = {{first, first_count}, {second, second_count}};
    return long_result(readv(fd, pieces, second_count > 0 ? 2 : 1));
}

/// Closes `fd` and gives back the errno of the call that failed before.
static int fail(int fd) {
    int error_number = errno;
    close(fd);
    return -error_number;
}

int cl_tcp_listen(const struct cl_address *address, int backlog, bool reuse_port) {
    int fd = socket(system_family(address), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    set_flag(fd, SOL_SOCKET, SO_REUSEADDR);
    // Accepted sockets inherit it.
    set_flag(fd, IPPROTO_TCP, TCP_NODELAY);
    if (reuse_port) set_flag(fd, SOL_SOCKET, SO_REUSEPORT);
    if (address->family == 6) set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY);
    struct sockaddr_storage storage;
    socklen_t length = to_system(address, &storage);
    if (bind(fd, (struct sockaddr *)&storage, length) < 0) return fail(fd);
    if (listen(fd, backlog) < 0) return fail(fd);
    return fd;
}

int cl_tcp_accept(int listener, struct cl_address *peer) {
    struct sockaddr_storage storage;
    socklen_t length = sizeof storage;
    int fd = accept4(listener, (struct sockaddr *)&storage, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return -errno;
    from_system(&storage, peer);
    return fd;
}

int cl_tcp_connect(const struct cl_address *address, bool *in_progress) {
    int fd = socket(system_family(address), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    set_flag(fd, IPPROTO_TCP, TCP_NODELAY);
    struct sockaddr_storage storage;
    socklen_t length = to_system(address, &storage);
    *in_progress = false;
    if (connect(fd, (struct sockaddr *)&storage, length) < 0) {
        // An interrupted connect goes on by itself.
        if (errno != EINPROGRESS && errno != EINTR) return fail(fd);
        *in_progress = true;
    }
    return fd;
}

int cl_socket_error(int fd) {
    int error_number = 0;
    socklen_t length = sizeof error_number;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error_number, &length) < 0) return errno;
    return error_number;
}

uint32_t cl_socket_drops(int fd) {
    uint32_t figures[SK_MEMINFO_VARS] = {0};
    socklen_t length = sizeof figures;
    if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, figures, &length) < 0) return 0;
    return figures[SK_MEMINFO_DROPS];
}

int cl_local_address(int fd, struct cl_address *address) {
    struct sockaddr_storage storage;
    socklen_t length = sizeof storage;
    if (getsockname(fd, (struct sockaddr *)&storage, &length) < 0) return -errno;
    from_system(&storage, address);
    return 0;
}

int cl_peer_address(int fd, struct cl_address *address) {
    struct sockaddr_storage storage;
    socklen_t length = sizeof storage;
    if (getpeername(fd, (struct sockaddr *)&storage, &length) < 0) return -errno;
    from_system(&storage, address);
    return 0;
}

int cl_shutdown_write(int fd) { return result(shutdown(fd, SHUT_WR)); }

int cl_close_with_reset(int fd) {
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    return result(close(fd));
}

void cl_keep_alive(int fd, int idle_seconds, int interval_seconds) {
    int count = 4;
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_seconds, sizeof idle_seconds);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_seconds, sizeof interval_seconds);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
    set_flag(fd, SOL_SOCKET, SO_KEEPALIVE);
}

int cl_socket_pair(int fds[2]) {
    return result(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds));
}

const char *cl_error_text(int error_number) {
    const char *text = strerrordesc_np(error_number);
    return text != NULL ? text : "unknown error";
}

// MARK: UDP

int cl_udp_bind(const struct cl_address *address, bool reuse_port, int buffer_bytes) {
    int fd = socket(system_family(address), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    if (reuse_port) set_flag(fd, SOL_SOCKET, SO_REUSEPORT);
    // The FORCE variants need CAP_NET_ADMIN; without it net.core.rmem_max and wmem_max are the bound.
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer_bytes, sizeof buffer_bytes) < 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof buffer_bytes);
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer_bytes, sizeof buffer_bytes) < 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof buffer_bytes);
    set_flag(fd, SOL_UDP, UDP_GRO);
    if (address->family == 6) {
        set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY);
        set_flag(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO);
        set_flag(fd, IPPROTO_IPV6, IPV6_RECVTCLASS);
        int probe = IPV6_PMTUDISC_PROBE;
        setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &probe, sizeof probe);
    } else {
        set_flag(fd, IPPROTO_IP, IP_PKTINFO);
        set_flag(fd, IPPROTO_IP, IP_RECVTOS);
        int probe = IP_PMTUDISC_PROBE;
        setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &probe, sizeof probe);
    }
    struct sockaddr_storage storage;
    socklen_t length = to_system(address, &storage);
    if (bind(fd, (struct sockaddr *)&storage, length) < 0) return fail(fd);
    return fd;
}

int cl_udp_relay_socket(const struct cl_address *address, bool connected) {
    int fd = socket(system_family(address), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    set_flag(fd, SOL_UDP, UDP_GRO);
    // The default holds about a hundred full datagrams: half a millisecond of a fast sender.
    int buffer_bytes = 1 << 20;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer_bytes, sizeof buffer_bytes) < 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof buffer_bytes);
    if (address->family == 6) set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY);
    struct sockaddr_storage storage;
    socklen_t length = to_system(address, &storage);
    struct sockaddr *system = (struct sockaddr *)&storage;
    if ((connected ? connect(fd, system, length) : bind(fd, system, length)) < 0) return fail(fd);
    return fd;
}

int cl_udp_steer_by_connection_id(int fd, uint32_t sockets) {
    // Classic BPF over the UDP payload: the header form is the first bit of byte 0; a long header has
    // its destination connection id from byte 6 on, a short one from byte 1 on.
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x80, 0, 2),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 6),
        BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 1),
        BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, sockets),
        BPF_STMT(BPF_RET | BPF_A, 0),
    };
    struct sock_fprog filter = {.len = sizeof program / sizeof program[0], .filter = program};
    return result(setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &filter, sizeof filter));
}

static void read_control(struct msghdr *message, struct cl_datagram_slot *slot) {
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL; part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level == SOL_UDP && part->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(part), sizeof size);
            if (size > 0) slot->segment_size = (uint32_t)size;
        } else if (part->cmsg_level == IPPROTO_IP && part->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(part), sizeof info);
            slot->local.family = 4;
            memcpy(slot->local.ip, &info.ipi_addr, 4);
        } else if (part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(part), sizeof info);
            slot->local.family = 6;
            memcpy(slot->local.ip, &info.ipi6_addr, 16);
        } else if (part->cmsg_level == IPPROTO_IP && part->cmsg_type == IP_TOS) {
            slot->ecn = *(uint8_t *)CMSG_DATA(part) & 3;
        } else if (part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_TCLASS) {
            int value;
            memcpy(&value, CMSG_DATA(part), sizeof value);
            slot->ecn = (uint8_t)value & 3;
        }
    }
}

int cl_udp_receive(int fd, struct cl_datagram_slot *slots, uint32_t count) {
    struct mmsghdr messages[CL_MAX_DATAGRAM_BATCH];
    struct iovec pieces[CL_MAX_DATAGRAM_BATCH];
    struct sockaddr_storage peers[CL_MAX_DATAGRAM_BATCH];
    union {
        struct cmsghdr align;
        uint8_t bytes[128];
    } controls[CL_MAX_DATAGRAM_BATCH];
    if (count > CL_MAX_DATAGRAM_BATCH) count = CL_MAX_DATAGRAM_BATCH;
    for (uint32_t i = 0; i < count; i++) {
        pieces[i] = (struct iovec){slots[i].bytes, slots[i].capacity};
        messages[i] = (struct mmsghdr){.msg_hdr = {.msg_name = &peers[i],
                                                   .msg_namelen = sizeof peers[i],
                                                   .msg_iov = &pieces[i],
                                                   .msg_iovlen = 1,
                                                   .msg_control = controls[i].bytes,
                                                   .msg_controllen = sizeof controls[i].bytes}};
    }
    int received = recvmmsg(fd, messages, count, MSG_DONTWAIT, NULL);
    if (received < 0) return -errno;
    for (int i = 0; i < received; i++) {
        slots[i].count = messages[i].msg_len;
        slots[i].segment_size = messages[i].msg_len;
        slots[i].ecn = 0;
        slots[i].local.family = 0;
        from_system(&peers[i], &slots[i].peer);
        read_control(&messages[i].msg_hdr, &slots[i]);
    }
    return received;
}

ssize_t cl_udp_send(int fd, const void *bytes, size_t count, uint16_t segment_size, uint8_t ecn,
                    const struct cl_address *peer, const struct cl_address *local) {
    struct sockaddr_storage storage;
    socklen_t length = peer == NULL ? 0 : to_system(peer, &storage);
    struct iovec piece = {(void *)bytes, count};
    union {
        struct cmsghdr align;
        uint8_t bytes[128];
    } control;
    memset(&control, 0, sizeof control);
    struct msghdr message = {.msg_name = peer == NULL ? NULL : &storage, .msg_namelen = length, .msg_iov = &piece, .msg_iovlen = 1,
                             .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    struct cmsghdr *part = CMSG_FIRSTHDR(&message);
    size_t used = 0;
    if (segment_size > 0 && segment_size < count) {
        part->cmsg_level = SOL_UDP;
        part->cmsg_type = UDP_SEGMENT;
        part->cmsg_len = CMSG_LEN(sizeof segment_size);
        memcpy(CMSG_DATA(part), &segment_size, sizeof segment_size);
        used += CMSG_SPACE(sizeof segment_size);
        part = (struct cmsghdr *)(control.bytes + used);
    }
    if (ecn != 0 && peer != NULL) {
        int value = ecn;
        part->cmsg_level = peer->family == 4 ? IPPROTO_IP : IPPROTO_IPV6;
        part->cmsg_type = peer->family == 4 ? IP_TOS : IPV6_TCLASS;
        part->cmsg_len = CMSG_LEN(sizeof value);
        memcpy(CMSG_DATA(part), &value, sizeof value);
        used += CMSG_SPACE(sizeof value);
        part = (struct cmsghdr *)(control.bytes + used);
    }
    if (local != NULL && peer != NULL && local->family == 4 && peer->family == 4) {
        struct in_pktinfo info = {0};
        memcpy(&info.ipi_spec_dst, local->ip, 4);
        part->cmsg_level = IPPROTO_IP;
        part->cmsg_type = IP_PKTINFO;
        part->cmsg_len = CMSG_LEN(sizeof info);
        memcpy(CMSG_DATA(part), &info, sizeof info);
        used += CMSG_SPACE(sizeof info);
    } else if (local != NULL && peer != NULL && local->family == 6 && peer->family == 6) {
        struct in6_pktinfo info = {0};
        memcpy(&info.ipi6_addr, local->ip, 16);
        part->cmsg_level = IPPROTO_IPV6;
        part->cmsg_type = IPV6_PKTINFO;
        part->cmsg_len = CMSG_LEN(sizeof info);
        memcpy(CMSG_DATA(part), &info, sizeof info);
        used += CMSG_SPACE(sizeof info);
    }
    message.msg_controllen = used;
    if (used == 0) message.msg_control = NULL;
    return long_result(sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT));
}

// MARK: Processes and signals

pid_t cl_spawn(const char *path, char *const arguments[], char *const environment[], int uid, int gid,
               int output_fd, int death_signal) {
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0) return -errno;
    if (pid > 0) return pid;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int null_fd = open("/dev/null", O_RDONLY);
    if (null_fd >= 0) dup2(null_fd, 0);
    if (output_fd >= 0) {
        dup2(output_fd, 1);
        dup2(output_fd, 2);
    }
    // A group of its own: a terminal's Ctrl-C reaches the parent alone, which stops its child in order.
    setpgid(0, 0);
    if (uid != -1) {
        if (setgroups(0, NULL) < 0 || setgid((gid_t)gid) < 0 || setuid((uid_t)uid) < 0) _exit(127);
    }
    if (death_signal != 0) {
        prctl(PR_SET_PDEATHSIG, death_signal);
        if (getppid() != parent) _exit(127);
    }
    execve(path, arguments, environment);
    _exit(127);
}

int cl_reap(pid_t pid, int *exit_code) {
    int status = 0;
    pid_t reaped = waitpid(pid, &status, WNOHANG);
    if (reaped < 0) return -errno;
    if (reaped == 0) return 0;
    *exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return 1;
}

int cl_kill(pid_t pid, int signal_number) { return result(kill(pid, signal_number)); }

int cl_signalfd(const int *signals, size_t count) {
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < count; i++) sigaddset(&set, signals[i]);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0) return -EINVAL;
    return result(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
}

int cl_signalfd_read(int fd) {
    struct signalfd_siginfo info;
    ssize_t got = read(fd, &info, sizeof info);
    if (got < 0) return -errno;
    return (int)info.ssi_signo;
}

void cl_ignore_sigpipe(void) { signal(SIGPIPE, SIG_IGN); }

uint64_t cl_raise_file_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return 0;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur;
}

uint64_t cl_file_limit(void) {
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) < 0 ? 0 : limit.rlim_cur;
}

uint64_t cl_open_files(void) {
    struct stat found;
    return stat("/proc/self/fd", &found) < 0 ? 0 : (uint64_t)found.st_size;
}

uint64_t cl_count_open_files(void) {
    DIR *directory = opendir("/proc/self/fd");
    if (directory == NULL) return 0;
    uint64_t count = 0;
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] != '.') count++;
    }
    closedir(directory);
    // The directory's own is closed again.
    return count > 0 ? count - 1 : 0;
}

uint64_t cl_processor_nanoseconds(void) {
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) < 0) return 0;
    const uint64_t seconds = (uint64_t)usage.ru_utime.tv_sec + (uint64_t)usage.ru_stime.tv_sec;
    const uint64_t microseconds = (uint64_t)usage.ru_utime.tv_usec + (uint64_t)usage.ru_stime.tv_usec;
    return seconds * 1000000000 + microseconds * 1000;
}

char **cl_environment(void) { return environ; }

int cl_processor_count(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) < 0) return 1;
    int count = CPU_COUNT(&set);
    return count > 0 ? count : 1;
}

void cl_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }
