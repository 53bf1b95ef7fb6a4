/* SPDX-License-Identifier: MIT
 *
 * What the load generator and the C echo servers share: an address given as HOST:PORT or as the
 * path of a unix socket, and the one way these programs fail (a line on stderr, exit status 1).
 */
#ifndef BENCH_NET_H
#define BENCH_NET_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

struct address {
    struct sockaddr_storage storage;
    socklen_t length;
};

/* Prints the message, and the text of errno if it is not 0; does not return. */
__attribute__((noreturn, format(printf, 1, 2))) static inline void fail(const char *format, ...) {
    int error = errno;
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    if (error)
        fprintf(stderr, ": %s", strerror(error));
    fputc('\n', stderr);
    exit(1);
}

/* Text with a slash is a path, anything else a numeric IPv4 HOST:PORT. */
static inline struct address address_parse(const char *text) {
    struct address address = {0};
    if (strchr(text, '/')) {
        struct sockaddr_un *un = (struct sockaddr_un *)&address.storage;
        un->sun_family = AF_UNIX;
        if (strlen(text) >= sizeof un->sun_path)
            fail("path too long: %s", text);
        strcpy(un->sun_path, text);
        address.length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(text) + 1);
        return address;
    }
    struct sockaddr_in *in = (struct sockaddr_in *)&address.storage;
    const char *colon = strrchr(text, ':');
    char host[64] = {0};
    if (!colon || (size_t)(colon - text) >= sizeof host)
        fail("not HOST:PORT or a path: %s", text);
    memcpy(host, text, (size_t)(colon - text));
    in->sin_family = AF_INET;
    in->sin_port = htons((uint16_t)atoi(colon + 1));
    if (inet_pton(AF_INET, host, &in->sin_addr) != 1)
        fail("not a numeric IPv4 address: %s", host);
    address.length = sizeof *in;
    return address;
}

static inline void set_nodelay(int fd, const struct address *address) {
    int on = 1;
    if (address->storage.ss_family == AF_INET)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

#endif
