/* engine/api/server.c -- The HTTP server on a unix socket: one exchange from request to reply.
 * It passes JSON to the plane and back; must not know entities. */
#include "api/internal.h"
#include "base/id.h"
#include "base/limits.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define REOPEN 200 /* ms without accepting when there are no descriptors left */

/* One exchange. */

struct evkeyvalq *cp_exchange_headers(const exchange *x) {
    return evhttp_request_get_output_headers(x->request);
}

const char *cp_exchange_header(const exchange *x, const char *name) {
    return evhttp_find_header(evhttp_request_get_input_headers(x->request), name);
}

/* The client went away; the request has no connection any more and is ours to free. */
static void on_close(struct evhttp_connection *connection, void *userdata) {
    (void)connection;
    exchange *x = userdata;
    struct evhttp_request *request = x->request;
    bool orphan = !evhttp_request_get_connection(request);
    cp_exchange_free(x);
    if (orphan)
        evhttp_request_free(request);
}

static exchange *exchange_new(cp_server *server, struct evhttp_request *request) {
    exchange *x = cp_new0(exchange);
    *x = (exchange){.server = server, .request = request};
    cp_vec_push(&server->exchanges, x);
    server->requests++;
    evhttp_connection_set_closecb(evhttp_request_get_connection(request), on_close, x);
    return x;
}

void cp_exchange_free(exchange *x) {
    struct evhttp_connection *connection = evhttp_request_get_connection(x->request);
    if (connection)
        evhttp_connection_set_closecb(connection, NULL, NULL);
    cp_vec_drop(&x->server->exchanges, x);
    cp_sse_close(x);
    cp_call_cancel(x->call);
    free(x);
}

/* Sends and ends the exchange. */
static void reply(exchange *x, int status, const char *type, const char *text, size_t len) {
    struct evhttp_request *request = x->request;
    evbuffer_add(evhttp_request_get_output_buffer(request), text, len);
    evhttp_add_header(cp_exchange_headers(x), "Content-Type", type);
    cp_exchange_free(x);
    evhttp_send_reply(request, status, NULL, NULL);
}

static void reply_text(exchange *x, int status, const char *type, const char *text) {
    reply(x, status, type, text, strlen(text));
}

static void reply_json(exchange *x, int status, const json_t *value) {
    cp_autofree char *text = cp_json_text(value);
    reply_text(x, status, "application/json", text);
}

static void fail_with(exchange *x, int status, const cp_error *err) {
    cp_autojson json_t *error = cp_error_json(err);
    cp_autofree char *id = cp_printf("req-%s-%lu", x->server->boot, x->server->requests);
    json_object_set_new(error, "request_id", json_string(id));
    cp_autojson json_t *answer = json_pack("{s:O}", "error", error);
    evhttp_add_header(cp_exchange_headers(x), "X-Request-Id", id);
    reply_json(x, status, answer);
}

void cp_exchange_fail(exchange *x, const cp_error *err) {
    fail_with(x, cp_code_http_status(err->code), err);
}

/* The plane gives the same value until the workload changes. */
static const answer_text *text_of(cp_server *server, const json_t *value) {
    answer_text *known = &server->texts[((uintptr_t)value >> 4) % ANSWER_TEXTS];
    if (known->value == value)
        return known;
    json_decref(known->value);
    cp_buf_clear(&known->text);
    known->value = json_incref((json_t *)value);
    cp_autofree char *text = cp_json_text(value);
    cp_buf_puts(&known->text, text);
    cp_plane_etag(text, known->etag);
    return known;
}

static void on_reply(void *userdata, const json_t *result, const cp_error *err) {
    exchange *x = userdata;
    x->call = NULL;
    if (err) {
        cp_exchange_fail(x, err);
        return;
    }
    if (!cp_streq(x->op->returns, "workload") || !result) {
        cp_autofree char *text = result ? cp_json_text(result) : cp_strdup("{}");
        reply_text(x, HTTP_OK, "application/json", text);
        return;
    }
    const answer_text *known = text_of(x->server, result);
    evhttp_add_header(cp_exchange_headers(x), "ETag", known->etag);
    reply(x, HTTP_OK, "application/json", known->text.data, known->text.len);
}

/* Who asks, by the socket: the name of a user of this host. */
static const char *subject(exchange *x) {
    cp_server *server = x->server;
    struct bufferevent *buffer = evhttp_connection_get_bufferevent(evhttp_request_get_connection(x->request));
    struct ucred peer;
    socklen_t len = sizeof peer;
    if (getsockopt(bufferevent_getfd(buffer), SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return "unknown";
    if (!server->user_name || server->user != peer.uid) {
        const struct passwd *entry = getpwuid(peer.uid);
        free(server->user_name);
        server->user_name = entry ? cp_strdup(entry->pw_name) : cp_printf("uid %u", peer.uid);
        server->user = peer.uid;
    }
    return server->user_name;
}

static bool wants_stream(const exchange *x) {
    const char *accept = cp_exchange_header(x, "Accept");
    return accept && (strstr(accept, "text/event-stream") || strstr(accept, "text/plain"));
}

static const char *method_of(const struct evhttp_request *request) {
    switch (evhttp_request_get_command(request)) {
    case EVHTTP_REQ_GET:
        return "GET";
    case EVHTTP_REQ_POST:
        return "POST";
    case EVHTTP_REQ_PATCH:
        return "PATCH";
    case EVHTTP_REQ_DELETE:
        return "DELETE";
    case EVHTTP_REQ_PUT:
        return "PUT";
    case EVHTTP_REQ_HEAD:
        return "HEAD";
    case EVHTTP_REQ_OPTIONS:
        return "OPTIONS";
    default:
        return "this";
    }
}

static void dispatch(exchange *x, const char *path) {
    cp_autoerror cp_error err = {0};
    cp_autofree char *id = NULL, *allow = NULL;
    cp_autojson json_t *args = NULL;
    int r = cp_route_find(x->server, method_of(x->request), path, wants_stream(x), &x->op, &id, &allow, &err);
    if (r < 0 && allow) {
        evhttp_add_header(cp_exchange_headers(x), "Allow", allow);
        fail_with(x, HTTP_BADMETHOD, &err);
        return;
    }
    if (r == 0 && cp_exchange_header(x, "Idempotency-Key"))
        r = cp_fail_at(&err, CP_E_UNSUPPORTED, "Idempotency-Key", NULL, "Idempotency-Key is not supported");
    if (r == 0)
        r = cp_route_args(x->op, x->request, &args, &err);
    if (r < 0) {
        cp_exchange_fail(x, &err);
        return;
    }
    bool mutates = x->op->flags & CP_OPERATION_MUTATES;
    cp_claims claims = {.subject = mutates ? subject(x) : NULL, .if_match = cp_exchange_header(x, "If-Match")};
    if (x->op->flags & CP_OPERATION_STREAM)
        cp_sse_start(x, id, args, &claims);
    else
        cp_plane_call(x->server->plane, x->op, id, args, &claims, on_reply, x, &x->call);
}

static void ready(exchange *x) {
    cp_autoerror cp_error err = {0};
    if (cp_plane_ready(x->server->plane, &err))
        reply_text(x, HTTP_OK, "text/plain", "ready\n");
    else
        fail_with(x, HTTP_SERVUNAVAIL, &err);
}

static void stats(exchange *x) {
    cp_autojson json_t *figures = cp_plane_stats(x->server->plane);
    reply_json(x, HTTP_OK, figures);
}

static void on_stop_written(struct evhttp_request *request, void *userdata) {
    (void)request;
    cp_server *server = userdata;
    server->stop(server->stop_userdata);
}

/* Who asked did not wait for the answer: it was asked all the same. */
static void on_stop_closed(struct evhttp_connection *connection, void *userdata) {
    (void)connection;
    on_stop_written(NULL, userdata);
}

static void stop(exchange *x) {
    cp_autoerror cp_error err = {0};
    if (evhttp_request_get_command(x->request) != EVHTTP_REQ_POST) {
        evhttp_add_header(cp_exchange_headers(x), "Allow", "POST");
        cp_fail(&err, CP_E_UNSUPPORTED, "%s is not a method of /v1/stop; it has POST", method_of(x->request));
        fail_with(x, HTTP_BADMETHOD, &err);
    } else if (!x->server->stop) {
        cp_fail(&err, CP_E_UNSUPPORTED, "this engine is part of another program; end that");
        cp_exchange_fail(x, &err);
    } else {
        cp_server *server = x->server;
        struct evhttp_connection *connection = evhttp_request_get_connection(x->request);
        evhttp_request_set_on_complete_cb(x->request, on_stop_written, server);
        cp_autofree char *text = cp_printf("{\"stopping\":true,\"pid\":%d}", (int)getpid());
        reply_text(x, HTTP_OK, "application/json", text);
        evhttp_connection_set_closecb(connection, on_stop_closed, server);
    }
}

static void on_request(struct evhttp_request *request, void *userdata) {
    exchange *x = exchange_new(userdata, request);
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
    const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
    path = path ? path : "/";
    if (strcmp(path, "/healthz") == 0)
        reply_text(x, HTTP_OK, "text/plain", "ok\n");
    else if (strcmp(path, "/readyz") == 0)
        ready(x);
    else if (strcmp(path, "/v1/stats") == 0)
        stats(x);
    else if (strcmp(path, "/v1/stop") == 0)
        stop(x);
    else
        dispatch(x, path);
}

/* The socket. */

static cp_vec servers; /* open ones: evhttp has taken the listener's userdata for itself */

/* Out of descriptors: trying again at once would spin. */
static void on_accept_error(struct evconnlistener *listener, void *userdata) {
    (void)userdata;
    for (size_t i = 0; i < servers.count; i++) {
        cp_server *server = servers.items[i];
        if (server->listener != listener)
            continue;
        evconnlistener_disable(listener);
        cp_timer_start(server->reopen, REOPEN);
    }
}

static void on_reopen(void *userdata) {
    evconnlistener_enable(((cp_server *)userdata)->listener);
}

/* A socket that nobody listens on is left from an engine that was killed. */
static int remove_stale(const struct sockaddr_un *address, cp_error *err) {
    const char *path = address->sun_path;
    struct stat status;
    if (lstat(path, &status) < 0)
        return 0;
    if (!S_ISSOCK(status.st_mode))
        return cp_fail(err, CP_E_ALREADY_EXISTS, "%s is there and is no socket; move it away", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool alive = fd >= 0 && (connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 || errno == EAGAIN);
    if (fd >= 0)
        close(fd);
    if (alive)
        return cp_fail(err, CP_E_CONFLICT, "another engine listens on %s", path);
    if (unlink(path) < 0)
        return cp_fail(err, CP_E_INTERNAL, "cannot remove the stale socket %s: %s", path, strerror(errno));
    return 0;
}

/* Bound and closed to others before anybody can connect: that needs listen. */
static int bind_socket(cp_server *server, evutil_socket_t *ret, cp_error *err) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(server->path) >= sizeof address.sun_path)
        return cp_fail(err, CP_E_INVALID, "the socket path %s has %zu bytes; the system takes at most %zu",
                       server->path, strlen(server->path), sizeof address.sun_path - 1);
    strcpy(address.sun_path, server->path);
    int r = remove_stale(&address, err);
    if (r < 0)
        return r;
    evutil_socket_t fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct stat status;
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || chmod(server->path, 0600) < 0 ||
        stat(server->path, &status) < 0) {
        r = cp_fail(err, CP_E_INTERNAL, "cannot listen on %s: %s", server->path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return r;
    }
    server->device = status.st_dev;
    server->inode = status.st_ino;
    *ret = fd;
    return 0;
}

static int listen_on(cp_server *server, cp_error *err) {
    evutil_socket_t fd;
    int r = bind_socket(server, &fd, err);
    if (r < 0)
        return r;
    server->listener = evconnlistener_new(cp_loop_base(server->loop), NULL, NULL,
                                          LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 256, fd);
    if (!server->listener || !evhttp_bind_listener(server->http, server->listener)) {
        r = cp_fail(err, CP_E_INTERNAL, "cannot listen on %s: %s", server->path, strerror(errno));
        if (server->listener)
            evconnlistener_free(server->listener);
        else
            close(fd);
        return r;
    }
    evconnlistener_set_error_cb(server->listener, on_accept_error);
    return 0;
}

int cp_server_new(cp_plane *plane, const char *socket_path, cp_server **ret, cp_error *err) {
    cp_loop *loop = cp_plane_loop(plane);
    struct evhttp *http = evhttp_new(cp_loop_base(loop));
    if (!http)
        return cp_fail(err, CP_E_INTERNAL, "libevent gives no HTTP server");
    evhttp_set_allowed_methods(http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_PATCH | EVHTTP_REQ_DELETE |
                                         EVHTTP_REQ_PUT | EVHTTP_REQ_HEAD | EVHTTP_REQ_OPTIONS);
    evhttp_set_max_body_size(http, CP_MAX_BODY_READ);
    evhttp_set_max_headers_size(http, CP_MAX_HEADERS);
    evhttp_set_timeout(http, CP_MAX_IDLE);
    cp_server *server = cp_new0(cp_server);
    *server = (cp_server){.plane = plane, .loop = loop, .http = http, .path = cp_strdup(socket_path)};
    server->reopen = cp_timer_new(loop, on_reopen, server);
    unsigned boot = 0;
    if (getrandom(&boot, sizeof boot, 0) != sizeof boot)
        boot = (unsigned)getpid();
    snprintf(server->boot, sizeof server->boot, "%08x", boot);
    cp_routes_new(server);
    cp_vec_push(&servers, server);
    evhttp_set_gencb(http, on_request, server);
    int r = listen_on(server, err);
    if (r < 0) {
        cp_server_free(server);
        return r;
    }
    *ret = server;
    return 0;
}

void cp_server_free(cp_server *server) {
    if (!server)
        return;
    cp_vec_drop(&servers, server);
    if (!servers.count)
        cp_vec_clear(&servers);
    while (server->exchanges.count) /* their requests go with their connections */
        cp_exchange_free(server->exchanges.items[server->exchanges.count - 1]);
    evhttp_free(server->http);
    struct stat status;
    if (server->inode && lstat(server->path, &status) == 0 && status.st_dev == server->device &&
        status.st_ino == server->inode)
        unlink(server->path);
    for (size_t i = 0; i < ANSWER_TEXTS; i++) {
        json_decref(server->texts[i].value);
        cp_buf_clear(&server->texts[i].text);
    }
    cp_vec_clear(&server->exchanges);
    cp_routes_free(server);
    cp_timer_free(server->reopen);
    free(server->user_name);
    free(server->path);
    free(server);
}

void cp_server_on_stop(cp_server *server, cp_task *task, void *userdata) {
    server->stop = task;
    server->stop_userdata = userdata;
}
