/* examples/hello/hello.c -- A small HTTP server to run as a workload: for the quickstart, the demo and the specs.
 * One process, one poll loop, one answer per connection. It must not know ctrlplane: it reads its environment.
 *
 *   hello [--port N] [--version V] [--unhealthy] [--exit-after MS]
 *
 *   GET /         "hello <version> pid <pid> index <index>"   (version: --version or $VERSION; index: $INDEX)
 *   GET /healthz  200 "ok", or 503 with --unhealthy
 *   GET /slow?MS  the answer of / after MS milliseconds (1000 when not given)
 *
 * The port is --port or $PORT. SIGTERM ends it at once. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONNECTIONS 256
#define MAX_REQUEST 4096
#define CONNECTION_TIMEOUT 10000 /* ms for a client to send its request and take the answer */

typedef struct connection {
    int fd;
    size_t have, sent, len; /* bytes read; bytes of the answer sent and in all */
    int64_t answer_at;      /* 0: no request yet; else when the answer may go out */
    int64_t deadline;
    char request[MAX_REQUEST], answer[512];
} connection;

static const char *version = "v1", *index_text = "-";
static bool unhealthy;

static int64_t now_ms(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void die(const char *what) {
    fprintf(stderr, "hello: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int listen_on(long port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        die("socket");
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 128) < 0)
        die("listen");
    return fd;
}

static void answer(connection *c) {
    char body[256], target[64] = "";
    int status = 200;
    int64_t delay = 0;
    bool get = sscanf(c->request, "GET %63s", target) == 1;
    snprintf(body, sizeof body, "hello %s pid %ld index %s\n", version, (long)getpid(), index_text);
    if (!get) {
        status = 405;
        snprintf(body, sizeof body, "only GET is answered here\n");
    } else if (strncmp(target, "/slow", 5) == 0 && (target[5] == '\0' || target[5] == '?')) {
        delay = target[5] ? atol(target + 6) : 1000;
    } else if (strcmp(target, "/healthz") == 0) {
        status = unhealthy ? 503 : 200;
        snprintf(body, sizeof body, unhealthy ? "not well\n" : "ok\n");
    } else if (strcmp(target, "/") != 0) {
        status = 404;
        snprintf(body, sizeof body, "no page %s here\n", target);
    }
    c->len = (size_t)snprintf(c->answer, sizeof c->answer,
                              "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n"
                              "Connection: close\r\n\r\n%s",
                              status, status == 200 ? "OK" : "Not OK", strlen(body), body);
    c->answer_at = now_ms() + (delay > 0 ? delay : 0);
    c->deadline = c->answer_at + CONNECTION_TIMEOUT;
}

/* False when the connection is over. */
static bool serve(connection *c, short events) {
    if (c->answer_at == 0 && (events & (POLLIN | POLLHUP | POLLERR))) {
        ssize_t n = read(c->fd, c->request + c->have, MAX_REQUEST - 1 - c->have);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        if (n == 0)
            return false;
        c->have += (size_t)n;
        c->request[c->have] = '\0';
        if (strstr(c->request, "\r\n\r\n"))
            answer(c);
        else if (c->have == MAX_REQUEST - 1)
            return false;
    }
    if (c->answer_at > 0 && now_ms() >= c->answer_at) {
        ssize_t n = send(c->fd, c->answer + c->sent, c->len - c->sent, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        c->sent += (size_t)n;
        if (c->sent == c->len) {
            shutdown(c->fd, SHUT_WR);
            return false;
        }
    }
    return now_ms() < c->deadline;
}

static void run(int listener, int64_t exit_at) {
    static connection connections[MAX_CONNECTIONS];
    static struct pollfd polled[MAX_CONNECTIONS + 1];
    size_t count = 0;
    for (;;) {
        int64_t now = now_ms(), wake = exit_at > 0 ? exit_at : now + 1000;
        if (exit_at > 0 && now >= exit_at) {
            fprintf(stderr, "hello: leaving with code 3, as --exit-after asked\n");
            exit(3);
        }
        polled[0] = (struct pollfd){.fd = count < MAX_CONNECTIONS ? listener : -1, .events = POLLIN};
        for (size_t i = 0; i < count; i++) {
            connection *c = &connections[i];
            short events = c->answer_at == 0 ? POLLIN : c->answer_at <= now ? POLLOUT : 0;
            polled[i + 1] = (struct pollfd){.fd = c->fd, .events = events};
            if (c->answer_at > now && c->answer_at < wake)
                wake = c->answer_at;
        }
        if (poll(polled, (nfds_t)count + 1, wake > now ? (int)(wake - now) : 0) < 0 && errno != EINTR)
            die("poll");
        for (size_t i = count; i-- > 0;) {
            if (serve(&connections[i], polled[i + 1].revents))
                continue;
            close(connections[i].fd);
            connections[i] = connections[--count]; /* its revents were looked at: we go downwards */
        }
        if (polled[0].revents & POLLIN) {
            int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
            if (fd >= 0)
                connections[count++] = (connection){.fd = fd, .deadline = now_ms() + CONNECTION_TIMEOUT};
        }
    }
}

int main(int argc, char **argv) {
    const char *port_text = getenv("PORT");
    int64_t exit_after = 0;
    if (getenv("VERSION"))
        version = getenv("VERSION");
    if (getenv("INDEX"))
        index_text = getenv("INDEX");
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--unhealthy") == 0) {
            unhealthy = true;
        } else if (value && strcmp(argv[i], "--port") == 0) {
            port_text = argv[++i];
        } else if (value && strcmp(argv[i], "--version") == 0) {
            version = argv[++i];
        } else if (value && strcmp(argv[i], "--exit-after") == 0) {
            exit_after = atol(argv[++i]);
        } else {
            fprintf(stderr, "usage: hello [--port N] [--version V] [--unhealthy] [--exit-after MS]\n");
            return 2;
        }
    }
    long port = port_text ? atol(port_text) : 0;
    if (port < 1 || port > 65535) {
        fprintf(stderr, "hello: port '%s' is not in 1..65535; give --port N or set PORT\n", port_text ? port_text : "");
        return 2;
    }
    int listener = listen_on(port);
    printf("hello %s listening on port %ld, index %s\n", version, port, index_text);
    fflush(stdout);
    run(listener, exit_after > 0 ? now_ms() + exit_after : 0);
    return 0;
}
