// Linux calls that Swift can't import as they are: transparent-union socket arguments, macros,
// variadic functions, and structures with unions. Every function here answers like the call it
// wraps: a result of 0 or more, or -errno.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// MARK: Clocks

/// CLOCK_MONOTONIC in nanoseconds.
uint64_t cl_monotonic_nanoseconds(void);
/// CLOCK_REALTIME in microseconds since the epoch.
int64_t cl_wall_microseconds(void);
/// Fills `bytes` from the kernel's random source (getrandom); never short.
void cl_random_bytes(void *bytes, size_t count);

// MARK: Readiness

enum {
    CL_READABLE = 1,
    CL_WRITABLE = 2,
    CL_PEER_CLOSED = 4,  // EPOLLRDHUP: the peer has sent FIN
    CL_FAILED = 8,       // EPOLLERR or EPOLLHUP
    CL_ERROR = 16,       // EPOLLERR
};

struct cl_event {
    uint64_t data;
    uint32_t readiness;  // CL_* bits
};

int cl_epoll_create(void);
/// Registers `fd` edge-triggered for reading, and for writing where `watches_writable` is not 0; `data` comes back
/// with its events.
int cl_epoll_add(int epoll_fd, int fd, uint64_t data, int watches_writable);
/// Changes what `fd` is registered for; readiness that is there is told again.
int cl_epoll_modify(int epoll_fd, int fd, uint64_t data, int watches_writable);
int cl_epoll_remove(int epoll_fd, int fd);
/// Waits at most `timeout_nanoseconds` (below 0: for ever), with sub-millisecond precision.
int cl_epoll_wait(int epoll_fd, struct cl_event *events, int capacity, int64_t timeout_nanoseconds);
int cl_eventfd_create(void);
void cl_eventfd_signal(int fd);

// MARK: Addresses and sockets

struct cl_address {
    uint8_t family;   // 4 or 6; 0 for none
    uint16_t port;    // host order
    uint8_t ip[16];   // network order; the first 4 bytes for family 4
};

int cl_close(int fd);
ssize_t cl_read(int fd, void *bytes, size_t count);
/// write(2), for files and pipes; sockets take cl_send.
ssize_t cl_write(int fd, const void *bytes, size_t count);
/// send(2) with MSG_NOSIGNAL.
ssize_t cl_send(int fd, const void *bytes, size_t count);
struct cl_piece {
    const void *bytes;
    size_t count;
};

enum { CL_MAX_PIECES = 16 };

/// sendmsg(2) of at most CL_MAX_PIECES pieces with MSG_NOSIGNAL.
ssize_t cl_send_pieces(int fd, const struct cl_piece *pieces, size_t count);
/// readv(2) into two pieces.
ssize_t cl_read2(int fd, void *first, size_t first_count, void *second, size_t second_count);
/// A non-blocking, close-on-exec TCP listener whose connections have TCP_NODELAY; v6 sockets are v6 only.
int cl_tcp_listen(const struct cl_address *address, int backlog, bool reuse_port);
/// accept4 of a non-blocking socket; the peer's address goes to `peer`.
int cl_tcp_accept(int listener, struct cl_address *peer);
/// A non-blocking connect: the new socket; `in_progress` tells whether to wait for writability.
int cl_tcp_connect(const struct cl_address *address, bool *in_progress);
/// SO_ERROR of the socket as a positive errno, 0 when there is none.
int cl_socket_error(int fd);
/// Datagrams, or aggregates of them, that the kernel has dropped because the socket's receive buffer was full.
uint32_t cl_socket_drops(int fd);
int cl_local_address(int fd, struct cl_address *address);
int cl_peer_address(int fd, struct cl_address *address);
/// Sends FIN.
int cl_shutdown_write(int fd);
/// Closes with RST instead of FIN (SO_LINGER of 0).
int cl_close_with_reset(int fd);
/// Has the kernel ask a silent peer of a TCP connection whether it is still there (SO_KEEPALIVE): after `idle_seconds`,
/// and three more times as far apart as `interval_seconds`.
void cl_keep_alive(int fd, int idle_seconds, int interval_seconds);
/// A pair of connected, non-blocking stream sockets (AF_UNIX).
int cl_socket_pair(int fds[2]);
/// The text for a positive errno.
const char *cl_error_text(int error_number);

// MARK: UDP

/// A non-blocking UDP socket with UDP_GRO on, bound to `address`; buffers as large as the system allows.
int cl_udp_bind(const struct cl_address *address, bool reuse_port, int buffer_bytes);
/// A non-blocking UDP socket with UDP_GRO on for datagrams that are passed on: bound to `address`, or connected
/// to it, which is when the system tells of ICMP errors. What is too big for the path is sent in fragments.
int cl_udp_relay_socket(const struct cl_address *address, bool connected);
/// Steers datagrams over the first `sockets` members of the SO_REUSEPORT group of `fd` by the first byte
/// of the QUIC destination connection id (RFC 8999): `byte % sockets` in bind order.
int cl_udp_steer_by_connection_id(int fd, uint32_t sockets);

struct cl_datagram_slot {
    void *bytes;               // in: where to read to
    uint32_t capacity;         // in
    uint32_t count;            // out: bytes received, of all segments together
    uint32_t segment_size;     // out: size of each segment but the last (GRO); `count` when there is one
    uint8_t ecn;               // out: the two ECN bits
    struct cl_address peer;    // out
    struct cl_address local;   // out: destination address; its port is the socket's
};

enum { CL_MAX_DATAGRAM_BATCH = 32 };

/// recvmmsg into at most CL_MAX_DATAGRAM_BATCH slots; the number filled.
int cl_udp_receive(int fd, struct cl_datagram_slot *slots, uint32_t count);
/// One sendmsg of `count` bytes cut into segments of `segment_size` (UDP_SEGMENT, GSO) when that is
/// smaller than `count`. `local` with family 0 leaves the source address to the system; a connected socket
/// takes no `peer`.
ssize_t cl_udp_send(int fd, const void *bytes, size_t count, uint16_t segment_size, uint8_t ecn,
                    const struct cl_address *peer, const struct cl_address *local);

// MARK: Processes and signals

/// Forks and executes `path`; as `uid`/`gid` when `uid` is not -1; the child dies with its parent
/// (`death_signal`, 0 for not), its stdin is /dev/null, and stdout and stderr go to `output_fd`
/// (-1: to the parent's own). The child's pid.
pid_t cl_spawn(const char *path, char *const arguments[], char *const environment[], int uid, int gid,
               int output_fd, int death_signal);
/// waitpid(WNOHANG): 0 while it runs, 1 with its exit code (128 + signal when it was killed).
int cl_reap(pid_t pid, int *exit_code);
int cl_kill(pid_t pid, int signal_number);
/// A descriptor that becomes readable when one of `signals` arrives; they are blocked for all threads
/// started afterwards.
int cl_signalfd(const int *signals, size_t count);
/// The next signal of a signalfd, or -EAGAIN.
int cl_signalfd_read(int fd);
/// Ignores SIGPIPE for the process.
void cl_ignore_sigpipe(void);
/// Raises RLIMIT_NOFILE to its hard limit; the resulting limit.
uint64_t cl_raise_file_limit(void);
/// RLIMIT_NOFILE as it is in force.
uint64_t cl_file_limit(void);
/// Descriptors that the process has open, at once; 0 where the kernel doesn't say (before 6.2).
uint64_t cl_open_files(void);
/// The same by reading /proc/self/fd, which takes a microsecond or two for each.
uint64_t cl_count_open_files(void);
/// Time that the process has had on processors, user and system.
uint64_t cl_processor_nanoseconds(void);
/// The process's environment: strings `NAME=value`, ended by NULL.
char **cl_environment(void);
/// The processors this process may run on (sched_getaffinity); at least 1.
int cl_processor_count(void);
/// Names the calling thread; at most 15 bytes.
void cl_name_thread(const char *name);

// MARK: Names

/// Answers at or below -CL_RESOLVE_FAILURE are resolver errors (EAI_*), not errno values.
enum { CL_RESOLVE_FAILURE = 10000 };

/// getaddrinfo(3) for a host name, both families, in the system's order of preference: how many addresses
/// were found, with port 0. It blocks, for many seconds at worst.
int cl_resolve(const char *name, struct cl_address *addresses, uint32_t capacity);
/// The text for the negated answer of `cl_resolve`, if that is a resolver error.
const char *cl_resolve_text(int code);
