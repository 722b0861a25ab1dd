/* engine/net/probe.c -- One health probe: an HTTP request, or a TCP connect. */
#include "net/probe.h"
#include "base/limits.h"

#include <event2/util.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct cp_probe {
    cp_http *http;
    cp_loop *loop;
    cp_probe_done *done;
    void *userdata;
    int64_t timeout, asked; /* ms */
    cp_http_request *request;
    /* tcp */
    int refused; /* errno of a connect that failed at once */
    evutil_socket_t fd;
    struct event *event;
    cp_timer *timer;
};

/* The one answer. message: why it is not healthy, or NULL. The probe may be gone afterwards. */
static void answer(cp_probe *probe, long status, const char *message) {
    cp_probe_result result = {
        .healthy = !message,
        .latency_us = (cp_loop_mono(probe->loop) - probe->asked) * 1000,
        .status_code = status,
        .message = message,
    };
    cp_probe_done *done = cp_take(probe->done);
    if (done)
        done(probe->userdata, &result);
}

static void timed_out(cp_probe *probe) {
    cp_autofree char *message = probe->timeout % 1000 == 0
                                    ? cp_printf("no answer in %" PRId64 " s", probe->timeout / 1000)
                                    : cp_printf("no answer in %" PRId64 " ms", probe->timeout);
    answer(probe, 0, message);
}

/* A health endpoint is judged by its status; its text is nobody's business here. */
static void ignore_body(void *userdata, const char *bytes, size_t len) {
    (void)userdata, (void)bytes, (void)len;
}

static void on_response(void *userdata, const cp_http_response *response, const cp_error *err) {
    cp_probe *probe = userdata;
    probe->request = NULL;
    if (err && err->code == CP_E_TIMEOUT) {
        timed_out(probe);
    } else if (err) {
        const char *colon = strstr(err->message, ": "); /* the target is known: only what happened */
        answer(probe, 0, colon ? colon + 2 : err->message);
    } else if (response->status >= 200 && response->status < 400) {
        answer(probe, response->status, NULL);
    } else {
        cp_autofree char *message = cp_printf("HTTP %ld", response->status);
        answer(probe, response->status, message);
    }
}

static int start_http(cp_probe *probe, const char *target, cp_error *err) {
    cp_http_options options = {
        .method = "GET",
        .url = target,
        .timeout = probe->timeout,
        .no_reuse = true,
        .chunk = ignore_body,
    };
    int r = cp_http_send(probe->http, &options, on_response, probe, &probe->request, err);
    return r < 0 ? cp_error_wrap(err, "probe of %s", target) : 0;
}

static void tcp_end(cp_probe *probe) {
    if (probe->event)
        event_free(probe->event);
    if (probe->fd >= 0)
        close(probe->fd);
    probe->event = NULL;
    probe->fd = -1;
    if (probe->timer)
        cp_timer_stop(probe->timer);
}

static void on_connected(evutil_socket_t fd, short what, void *userdata) {
    (void)what;
    cp_probe *probe = userdata;
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        error = errno;
    tcp_end(probe);
    answer(probe, 0, error ? strerror(error) : NULL);
}

static void on_tcp_timer(void *userdata) {
    cp_probe *probe = userdata;
    if (probe->refused) { /* told now, in a later turn than the call */
        answer(probe, 0, strerror(probe->refused));
        return;
    }
    tcp_end(probe);
    timed_out(probe);
}

static int parse_tcp(const char *target, struct sockaddr_storage *address, int *len, cp_error *err) {
    const char *text = target + strlen("tcp://");
    cp_autofree char *local = NULL;
    if (strncmp(text, "localhost:", 10) == 0)
        text = local = cp_printf("127.0.0.1:%s", text + 10);
    *len = sizeof *address;
    if (evutil_parse_sockaddr_port(text, (struct sockaddr *)address, len) < 0 ||
        ((struct sockaddr_in *)address)->sin_port == 0) /* the same place in sockaddr_in6 */
        return cp_fail_at(err, CP_E_INVALID, "target", NULL,
                          "'%s' is no address and port; write it like tcp://127.0.0.1:80", target);
    return 0;
}

static int start_tcp(cp_probe *probe, const char *target, cp_error *err) {
    struct sockaddr_storage address = {0};
    int len, r = parse_tcp(target, &address, &len, err);
    if (r < 0)
        return r;
    probe->timer = cp_timer_new(probe->loop, on_tcp_timer, probe);
    probe->fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (probe->fd < 0 ||
        (connect(probe->fd, (struct sockaddr *)&address, (socklen_t)len) < 0 && errno != EINPROGRESS)) {
        probe->refused = errno;
        tcp_end(probe);
        cp_timer_start(probe->timer, 0);
        return 0;
    }
    probe->event = event_new(cp_loop_base(probe->loop), probe->fd, EV_WRITE, on_connected, probe);
    event_add(probe->event, NULL);
    cp_timer_start(probe->timer, probe->timeout);
    return 0;
}

int cp_probe_start(cp_http *http, const char *target, int64_t timeout, cp_probe_done *done, void *userdata,
                   cp_probe **ret, cp_error *err) {
    if (timeout < 1 || timeout > CP_MAX_PROBE_TIMEOUT)
        return cp_fail_at(err, CP_E_INVALID, "timeout", NULL, "timeout is %" PRId64 " ms; it must be 1..%d", timeout,
                          CP_MAX_PROBE_TIMEOUT);
    cp_autoprobe cp_probe *probe = cp_new0(cp_probe);
    *probe = (cp_probe){
        .http = http,
        .loop = cp_http_loop(http),
        .done = done,
        .userdata = userdata,
        .timeout = timeout,
        .fd = -1,
    };
    probe->asked = cp_loop_mono(probe->loop);
    int r = strncmp(target, "tcp://", 6) == 0 ? start_tcp(probe, target, err) : start_http(probe, target, err);
    if (r < 0)
        return r;
    *ret = cp_take(probe);
    return 0;
}

void cp_probe_free(cp_probe *probe) {
    if (!probe)
        return;
    cp_http_cancel(probe->request);
    tcp_end(probe);
    cp_timer_free(probe->timer);
    free(probe);
}
