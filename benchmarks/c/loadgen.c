/* SPDX-License-Identifier: MIT
 *
 * The client of the network cases. One thread; each connection has one message in flight.
 *
 *   loadgen echo    ADDRESS --connections N --size BYTES --seconds S --warmup S [--server PID]
 *   loadgen udp     ADDRESS (as echo: N sockets, datagrams to one server socket)
 *   loadgen connect ADDRESS --size BYTES --seconds S --warmup S [--server PID]
 *   loadgen idle    ADDRESS
 *
 * ADDRESS is HOST:PORT (numeric IPv4) or the path of a unix socket.
 *
 * echo, udp and connect first make two short connections that check the echoed bytes (they also bring
 * the server to its steady state), run for the warm-up, then measure and print one JSON object:
 * operations, wall seconds, and within the measured window, in nanoseconds, the CPU time of this
 * process and of the server (all threads of it, from its CPU clock) and the time the core this
 * process runs on was idle (to the clock tick).
 *
 * idle reads numbers from stdin, opens that many more connections, exchanges one message on each,
 * prints {"connections": TOTAL}, and leaves when stdin ends.
 */
#define _GNU_SOURCE
#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "net.h"

enum {
    BLOCKING_MAX_BYTES = 16 * 1024, /* fits any socket buffer: send() cannot block for ever */
    DATAGRAM_MAX_BYTES = 32 * 1024, /* fits an empty socket buffer of the default size */
    REPLY_TIMEOUT_MS = 10000,
    EVENTS = 256,
};

struct options {
    struct address address;
    size_t connections;
    size_t size;
    double seconds;
    double warmup;
    pid_t server;
};

struct connection {
    int fd;
    bool wants_write; /* EPOLLOUT is armed */
    size_t sent;
    size_t received;
};

struct sample {
    uint64_t wall_ns;
    uint64_t client_ns;
    uint64_t server_ns;
    uint64_t idle_ns;
};

static int socket_type = SOCK_STREAM;
static unsigned char *message; /* what is sent, options.size bytes */
static unsigned char *scratch; /* what comes back */

static uint64_t read_clock_ns(clockid_t clock) {
    struct timespec now;
    if (clock_gettime(clock, &now) < 0)
        fail("clock_gettime");
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t deadline_in(double seconds) {
    return read_clock_ns(CLOCK_MONOTONIC) + (uint64_t)(seconds * 1e9);
}

static uint64_t core_idle_ns(void) {
    char line[256], name[32];
    uint64_t ticks = 0;
    unsigned long long idle, iowait;
    snprintf(name, sizeof name, "cpu%d ", sched_getcpu());
    FILE *file = fopen("/proc/stat", "r");
    if (!file)
        return 0;
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, name, strlen(name)) == 0 &&
            sscanf(line, "%*s %*u %*u %*u %llu %llu", &idle, &iowait) == 2)
            ticks = idle + iowait;
    }
    fclose(file);
    return ticks * 1000000000u / (uint64_t)sysconf(_SC_CLK_TCK);
}

static struct sample take_sample(pid_t server) {
    struct sample sample = {.idle_ns = core_idle_ns()};
    clockid_t clock;
    if (server) {
        if ((errno = clock_getcpuclockid(server, &clock)))
            fail("CPU clock of the server");
        sample.server_ns = read_clock_ns(clock);
    }
    sample.client_ns = read_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    sample.wall_ns = read_clock_ns(CLOCK_MONOTONIC);
    return sample;
}

static void print_result(uint64_t operations, struct sample before, struct sample after) {
    printf("{\"operations\": %llu, \"seconds\": %.6f, \"client_ns\": %llu, \"server_ns\": %llu, "
           "\"idle_ns\": %llu}\n",
           (unsigned long long)operations, (double)(after.wall_ns - before.wall_ns) / 1e9,
           (unsigned long long)(after.client_ns - before.client_ns),
           (unsigned long long)(after.server_ns - before.server_ns),
           (unsigned long long)(after.idle_ns - before.idle_ns));
}

static int dial(const struct address *address) {
    int fd = socket(address->storage.ss_family, socket_type | SOCK_CLOEXEC, 0);
    if (fd < 0)
        fail("socket");
    if (connect(fd, (const struct sockaddr *)&address->storage, address->length) < 0)
        fail("connect");
    return fd;
}

/* One message there and back, whatever its size; ends the program if other bytes come back. */
static void exchange_checked(int fd, size_t size) {
    size_t sent = 0, received = 0;
    while (received < size) {
        struct pollfd poller = {fd, (short)(POLLIN | (sent < size ? POLLOUT : 0)), 0};
        int ready = poll(&poller, 1, REPLY_TIMEOUT_MS);
        if (ready <= 0) {
            errno = ready ? errno : ETIMEDOUT;
            fail("waiting for the echo");
        }
        if (poller.revents & POLLOUT) {
            ssize_t n = send(fd, message + sent, size - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (n < 0 && errno != EAGAIN)
                fail("send");
            sent += n > 0 ? (size_t)n : 0;
        }
        if (poller.revents & (POLLIN | POLLHUP | POLLERR)) {
            ssize_t n = recv(fd, scratch + received, size - received, MSG_DONTWAIT);
            if (n == 0) {
                errno = 0;
                fail("the server closed the connection");
            }
            if (n < 0 && errno != EAGAIN)
                fail("recv");
            received += n > 0 ? (size_t)n : 0;
        }
    }
    if (memcmp(message, scratch, size) != 0) {
        errno = 0;
        fail("the server echoed other bytes");
    }
}

static void prime(const struct options *options) {
    for (int i = 0; i < 2; i++) {
        int fd = dial(&options->address);
        set_nodelay(fd, &options->address);
        exchange_checked(fd, options->size);
        close(fd);
    }
}

/* A message that is sure to fit the socket buffers, there and back with blocking calls. */
static void exchange_blocking(int fd, size_t size) {
    if (send(fd, message, size, MSG_NOSIGNAL) != (ssize_t)size)
        fail("send");
    for (size_t received = 0; received < size;) {
        ssize_t n = recv(fd, scratch + received, size - received, 0);
        if (n <= 0) {
            errno = n ? errno : 0;
            fail("recv: connection closed by the server");
        }
        received += (size_t)n;
    }
}

static uint64_t ping_pong(int fd, size_t size, double seconds) {
    uint64_t count = 0;
    uint64_t deadline_ns = deadline_in(seconds);
    do {
        for (int i = 0; i < 16; i++)
            exchange_blocking(fd, size);
        count += 16;
    } while (read_clock_ns(CLOCK_MONOTONIC) < deadline_ns);
    return count;
}

static void arm(int epoll, struct connection *connection, bool wants_write) {
    if (connection->wants_write == wants_write)
        return;
    struct epoll_event event = {.events = EPOLLIN | (wants_write ? EPOLLOUT : 0),
                                .data.ptr = connection};
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, connection->fd, &event) < 0)
        fail("epoll_ctl");
    connection->wants_write = wants_write;
}

static void send_rest(int epoll, struct connection *connection, size_t size) {
    ssize_t n = send(connection->fd, message + connection->sent, size - connection->sent,
                     MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN)
        fail("send");
    connection->sent += n > 0 ? (size_t)n : 0;
    arm(epoll, connection, connection->sent < size);
}

/* Returns 1 when this completed a message (and sends the next one), else 0. */
static uint64_t receive(int epoll, struct connection *connection, size_t size) {
    ssize_t n = recv(connection->fd, scratch, size - connection->received, MSG_DONTWAIT);
    if (n == 0) {
        errno = 0;
        fail("the server closed a connection");
    }
    if (n < 0) {
        if (errno != EAGAIN)
            fail("recv");
        return 0;
    }
    connection->received += (size_t)n;
    if (connection->received < size)
        return 0;
    connection->received = connection->sent = 0;
    send_rest(epoll, connection, size);
    return 1;
}

static uint64_t drive(int epoll, size_t size, double seconds) {
    struct epoll_event events[EVENTS];
    uint64_t count = 0;
    uint64_t deadline_ns = deadline_in(seconds);
    do {
        int ready = epoll_wait(epoll, events, EVENTS, REPLY_TIMEOUT_MS);
        if (ready <= 0) {
            errno = ready ? errno : ETIMEDOUT;
            fail("waiting for an echo");
        }
        for (int i = 0; i < ready; i++) {
            struct connection *connection = events[i].data.ptr;
            if (events[i].events & EPOLLOUT)
                send_rest(epoll, connection, size);
            if (events[i].events & ~(uint32_t)EPOLLOUT)
                count += receive(epoll, connection, size);
        }
    } while (read_clock_ns(CLOCK_MONOTONIC) < deadline_ns);
    return count;
}

static void run_echo_blocking(const struct options *options) {
    int fd = dial(&options->address);
    set_nodelay(fd, &options->address);
    ping_pong(fd, options->size, options->warmup);
    struct sample before = take_sample(options->server);
    uint64_t count = ping_pong(fd, options->size, options->seconds);
    print_result(count, before, take_sample(options->server));
}

static void run_echo(const struct options *options) {
    struct connection *connections = calloc(options->connections, sizeof *connections);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!connections || epoll < 0)
        fail("set-up");
    for (size_t i = 0; i < options->connections; i++) {
        struct connection *connection = &connections[i];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
        connection->fd = dial(&options->address);
        set_nodelay(connection->fd, &options->address);
        exchange_checked(connection->fd, options->size);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, connection->fd, &event) < 0)
            fail("epoll_ctl");
    }
    for (size_t i = 0; i < options->connections; i++)
        send_rest(epoll, &connections[i], options->size);
    drive(epoll, options->size, options->warmup);
    struct sample before = take_sample(options->server);
    uint64_t count = drive(epoll, options->size, options->seconds);
    print_result(count, before, take_sample(options->server));
}

static uint64_t connect_repeatedly(const struct options *options, double seconds) {
    uint64_t count = 0;
    uint64_t deadline_ns = deadline_in(seconds);
    do {
        int fd = dial(&options->address);
        exchange_blocking(fd, options->size);
        close(fd);
        count++;
    } while (read_clock_ns(CLOCK_MONOTONIC) < deadline_ns);
    return count;
}

static void run_connect(const struct options *options) {
    connect_repeatedly(options, options->warmup);
    struct sample before = take_sample(options->server);
    uint64_t count = connect_repeatedly(options, options->seconds);
    print_result(count, before, take_sample(options->server));
}

static void run_idle(const struct options *options) {
    size_t total = 0, more;
    while (scanf("%zu", &more) == 1) {
        for (size_t i = 0; i < more; i++)
            exchange_checked(dial(&options->address), options->size);
        total += more;
        printf("{\"connections\": %zu}\n", total);
        fflush(stdout);
    }
}

static void on_alarm(int signal_number) {
    (void)signal_number;
    static const char text[] = "no end in sight: a connection stands still\n";
    (void)!write(STDERR_FILENO, text, sizeof text - 1);
    _exit(1);
}

int main(int argc, char **argv) {
    static const struct option names[] = {
        {"connections", required_argument, NULL, 'c'}, {"size", required_argument, NULL, 'b'},
        {"seconds", required_argument, NULL, 's'},     {"warmup", required_argument, NULL, 'w'},
        {"server", required_argument, NULL, 'p'},      {NULL, 0, NULL, 0},
    };
    struct options options = {.connections = 1, .size = 64, .seconds = 1, .warmup = 0.2};
    int name;
    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (name) {
        case 'c':
            options.connections = (size_t)atol(optarg);
            break;
        case 'b':
            options.size = (size_t)atol(optarg);
            break;
        case 's':
            options.seconds = atof(optarg);
            break;
        case 'w':
            options.warmup = atof(optarg);
            break;
        case 'p':
            options.server = (pid_t)atol(optarg);
            break;
        default:
            return 2;
        }
    }
    errno = 0;
    if (argc - optind != 2 || !options.size || !options.connections)
        fail("usage: loadgen echo|udp|connect|idle ADDRESS [options]");
    const char *mode = argv[optind];
    options.address = address_parse(argv[optind + 1]);

    message = malloc(options.size);
    scratch = malloc(options.size);
    if (!message || !scratch)
        fail("malloc");
    for (size_t i = 0; i < options.size; i++)
        message[i] = (unsigned char)(i * 31 + i / 251);
    message[options.size - 1] = '\n'; /* the only one in 128 bytes: for the server of lines */
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }

    errno = 0;
    if (strcmp(mode, "udp") == 0) {
        if (options.size > DATAGRAM_MAX_BYTES)
            fail("udp: --size is at most %d", DATAGRAM_MAX_BYTES);
        socket_type = SOCK_DGRAM;
        mode = "echo";
    }
    prime(&options);
    if (strcmp(mode, "idle") == 0) {
        run_idle(&options);
        return 0;
    }
    signal(SIGALRM, on_alarm);
    alarm((unsigned)(options.warmup + options.seconds) + REPLY_TIMEOUT_MS / 1000);
    if (strcmp(mode, "connect") == 0) {
        if (options.size > BLOCKING_MAX_BYTES)
            fail("connect: --size is at most %d", BLOCKING_MAX_BYTES);
        run_connect(&options);
    } else if (strcmp(mode, "echo") == 0) {
        if (options.connections == 1 && options.size <= BLOCKING_MAX_BYTES)
            run_echo_blocking(&options);
        else
            run_echo(&options);
    } else {
        fail("unknown mode %s", mode);
    }
    return 0;
}
