/* engine/lua/remote.c -- The same methods over HTTP: a request per operation, built from the table that the server
 * dispatches by; streams by server-sent events. Knows HTTP and the operations table; must not know any operation. */
#include "base/limits.h"
#include "lua/plane.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ANSWER = 64 << 20, MAX_EVENT = 4 << 20 };

static void add_escaped(cp_buf *out, const char *text, size_t len) {
    static const char PLAIN[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~";
    for (size_t i = 0; i < len; i++) {
        if (text[i] && strchr(PLAIN, text[i]))
            cp_buf_add(out, &text[i], 1);
        else
            cp_buf_printf(out, "%%%02X", (unsigned char)text[i]);
    }
}

/* Lists are repeated keys; what is no scalar travels as JSON. */
static void add_query(cp_buf *out, char *mark, const char *key, const json_t *value) {
    if (json_is_array(value)) {
        size_t i;
        json_t *item;
        json_array_foreach((json_t *)value, i, item) add_query(out, mark, key, item);
        return;
    }
    cp_buf_add(out, mark, 1);
    *mark = '&';
    add_escaped(out, key, strlen(key));
    cp_buf_puts(out, "=");
    cp_autofree char *text = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    if (text)
        add_escaped(out, text, strlen(text));
    else
        add_escaped(out, json_string_value(value), json_string_length(value));
}

static bool has_body(const cp_operation *op) {
    return strcmp(op->method, "GET") != 0 && strcmp(op->method, "DELETE") != 0;
}

static void write_url(const cp_lua_plane *plane, const cp_operation *op, const char *id, const json_t *args,
                      cp_buf *out) {
    cp_buf_printf(out, "%s/v1", plane->url);
    const char *at = strstr(op->path, "{id}");
    if (at) {
        cp_buf_add(out, op->path, (size_t)(at - op->path));
        add_escaped(out, id, strlen(id));
        cp_buf_puts(out, at + strlen("{id}"));
    } else {
        cp_buf_puts(out, op->path);
    }
    if (has_body(op))
        return;
    char mark = '?';
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)args, key, value) add_query(out, &mark, key, value);
}

/* The error that a server answered. */
static void read_failure(const cp_http_response *response, const char *text, size_t len, cp_error *ret) {
    cp_autojson json_t *body = NULL;
    cp_autoerror cp_error unread = {0};
    const json_t *error = NULL;
    if (cp_json_parse(text, len, MAX_ANSWER, &body, &unread) == 0)
        error = json_object_get(body, "error");
    if (json_is_object(error) && json_object_get(error, "code"))
        cp_error_from_json(ret, error);
    else
        cp_fail(ret, CP_E_INTERNAL, "the server answered HTTP %ld without an error of ours; is it ctrlplane?",
                response->status);
}

static void unreachable(const cp_lua_plane *plane, const cp_error *from, cp_error *ret) {
    cp_error_copy(ret, from);
    if (ret->code == CP_E_PROVIDER_UNAVAILABLE && !ret->hint)
        ret->hint = cp_printf("is `ctrlplane serve` running at %s?", plane->socket ? plane->socket : plane->url);
}

static void on_response(void *userdata, const cp_http_response *response, const cp_error *err) {
    cp_lua_wait *wait = userdata;
    cp_autoerror cp_error failure = {0};
    json_t *result = NULL;
    if (err)
        unreachable(wait->plane, err, &failure);
    else if (response->status >= 300)
        read_failure(response, response->body, response->len, &failure);
    else if (strncmp(response->content_type, "application/json", 16) == 0 && response->len &&
             cp_json_parse(response->body, response->len, MAX_ANSWER, &result, &failure) < 0)
        cp_error_wrap(&failure, "the answer of the server");
    cp_lua_wait_finish(wait, result, failure.code ? &failure : NULL);
}

static void cancel_request(cp_lua_wait *wait) {
    cp_http_cancel(wait->work);
}

static int send_request(cp_lua_plane *plane, const char *method, const char *url, const char *body, cp_lua_wait *wait,
                        cp_error *err) {
    static const char *const HEADERS[] = {"Content-Type: application/json", "Accept: application/json", NULL};
    cp_http_options options = {.method = method,
                               .url = url,
                               .unix_socket = plane->socket,
                               .body = body,
                               .body_len = body ? strlen(body) : 0,
                               .headers = HEADERS,
                               .max_body = MAX_ANSWER};
    cp_http_request *request = NULL;
    int r = cp_http_send(plane->http, &options, on_response, wait, &request, err);
    if (r < 0)
        return r;
    wait->work = request;
    wait->cancel = cancel_request;
    return 0;
}

int cp_lua_remote_call(cp_lua_plane *plane, const cp_operation *op, const char *id, const json_t *args,
                       cp_lua_wait *wait, cp_error *err) {
    cp_autobuf cp_buf url = {0};
    write_url(plane, op, id, args, &url);
    cp_autofree char *body = has_body(op) ? cp_json_text(args) : NULL;
    return send_request(plane, op->method, url.data, body, wait, err);
}

static int push_true(lua_State *L, cp_lua_wait *wait) {
    (void)wait;
    lua_pushboolean(L, true);
    return 1;
}

/* push NULL: answers what the server does */
static int ask(lua_State *L, cp_lua_plane *plane, const char *what, const char *method, const char *path,
               int (*push)(lua_State *, cp_lua_wait *)) {
    cp_lua_wait *wait = cp_lua_wait_new(L, plane, what);
    wait->push = push;
    cp_autoerror cp_error err = {0};
    cp_autobuf cp_buf url = {0};
    cp_buf_printf(&url, "%s%s", plane->url, path);
    if (send_request(plane, method, url.data, strcmp(method, "POST") == 0 ? "{}" : NULL, wait, &err) < 0) {
        cp_lua_wait_free(wait);
        return cp_lua_fail(L, &err);
    }
    cp_lua_wait_timeout(wait, 10000);
    return cp_lua_wait_for(L, wait);
}

/* plane:ping() -> true | nil, err: does anybody answer there? */
int cp_lua_ping(lua_State *L) {
    cp_lua_plane *plane = cp_lua_check_plane(L, 1);
    if (plane->http)
        return ask(L, plane, "ping", "GET", "/healthz", push_true);
    lua_pushboolean(L, true);
    return 1;
}

/* plane:stats() -> a table of figures of the engine | nil, err */
int cp_lua_stats(lua_State *L) {
    cp_lua_plane *plane = cp_lua_check_plane(L, 1);
    if (plane->http)
        return ask(L, plane, "stats", "GET", "/v1/stats", NULL);
    cp_autojson json_t *stats = cp_plane_stats(plane->engine.plane);
    cp_lua_push_json(L, stats);
    return 1;
}

/* plane:stop_server() -> true | nil, err: asks the engine on the other side to end; workloads go on */
int cp_lua_stop_server(lua_State *L) {
    cp_lua_plane *plane = cp_lua_check_plane(L, 1);
    if (plane->http)
        return ask(L, plane, "stop_server", "POST", "/v1/stop", push_true);
    cp_autoerror cp_error err = {0};
    cp_fail(&err, CP_E_UNSUPPORTED, "this plane is in this process, not on a server; plane:close() ends it");
    return cp_lua_fail(L, &err);
}

static bool is_line(const char *line, size_t len, const char *wanted) {
    return len == strlen(wanted) && strncmp(line, wanted, len) == 0;
}

/* One event of the stream: its lines, without the empty one. */
static void on_sse_event(cp_lua_stream *stream, const char *text, size_t len) {
    cp_autobuf cp_buf data = {0};
    bool is_error = false, is_end = false;
    for (const char *line = text, *end = text + len; line < end;) {
        const char *next = memchr(line, '\n', (size_t)(end - line));
        size_t n = (size_t)((next ? next : end) - line);
        size_t kept = n && line[n - 1] == '\r' ? n - 1 : n;
        if (kept >= 5 && strncmp(line, "data:", 5) == 0) {
            size_t skip = kept > 5 && line[5] == ' ' ? 6 : 5;
            if (data.len)
                cp_buf_puts(&data, "\n");
            cp_buf_add(&data, line + skip, kept - skip);
        }
        is_error |= is_line(line, kept, "event: error");
        is_end |= is_line(line, kept, "event: end");
        line += n + 1;
    }
    if (is_end)
        cp_lua_stream_close(stream, NULL);
    if (!data.len || is_end)
        return; /* without data: a comment, the heartbeat */
    cp_autojson json_t *event = NULL;
    cp_autoerror cp_error err = {0};
    if (cp_json_parse(data.data, data.len, MAX_EVENT, &event, &err) < 0) {
        cp_error_wrap(&err, "an event of the stream");
        cp_lua_stream_close(stream, &err);
    } else if (is_error) {
        const json_t *error = json_object_get(event, "error");
        cp_error_from_json(&err, error ? error : event);
        cp_lua_stream_close(stream, &err);
    } else {
        cp_lua_stream_event(stream, event, NULL);
    }
}

/* The end of the first event in text: behind its empty line; 0 while it is not complete. */
static size_t event_end(const cp_buf *text, size_t *ret_len) {
    for (size_t i = 0; i + 1 < text->len; i++) {
        if (text->data[i] != '\n')
            continue;
        size_t after = i + 1;
        if (text->data[after] == '\r' && after + 1 < text->len)
            after++;
        if (text->data[after] == '\n') {
            *ret_len = i;
            return after + 1;
        }
    }
    return 0;
}

static void on_chunk(void *userdata, const char *bytes, size_t len) {
    cp_lua_stream *stream = userdata;
    cp_buf_add(&stream->text, bytes, len);
    size_t used, kept;
    while (!stream->ended && (used = event_end(&stream->text, &kept)) > 0) {
        cp_autobuf cp_buf event = {0}; /* a copy: handling it may end the stream */
        cp_buf_add(&event, stream->text.data, kept);
        cp_buf_consume(&stream->text, used);
        on_sse_event(stream, event.data, event.len);
    }
    if (!stream->ended && stream->text.len > MAX_EVENT) {
        cp_autoerror cp_error err = {0};
        cp_fail(&err, CP_E_TOO_LARGE, "an event of the stream is over %d bytes", MAX_EVENT);
        cp_lua_stream_close(stream, &err);
    }
}

static void on_stream_done(void *userdata, const cp_http_response *response, const cp_error *err) {
    cp_lua_stream *stream = userdata;
    stream->request = NULL; /* it is over */
    cp_autoerror cp_error failure = {0};
    if (err)
        unreachable(stream->plane, err, &failure);
    else if (response->status >= 300)
        read_failure(response, stream->text.data ? stream->text.data : "", stream->text.len, &failure);
    cp_lua_stream_close(stream, failure.code ? &failure : NULL);
}

int cp_lua_remote_stream(cp_lua_stream *stream, const cp_operation *op, const char *id, const json_t *args,
                         cp_error *err) {
    static const char *const HEADERS[] = {"Accept: text/event-stream", NULL};
    cp_autobuf cp_buf url = {0};
    write_url(stream->plane, op, id, args, &url);
    cp_http_options options = {.method = op->method,
                               .url = url.data,
                               .unix_socket = stream->plane->socket,
                               .headers = HEADERS,
                               .max_body = MAX_ANSWER,
                               .no_reuse = true,
                               .chunk = on_chunk};
    return cp_http_send(stream->plane->http, &options, on_stream_done, stream, &stream->request, err);
}

/* connect { socket = path } or connect { url = "unix:PATH" | "http://HOST:PORT" } -> plane | nil, err. Nothing is sent
 * yet. */
int cp_lua_connect(lua_State *L) {
    static const char *const KEYS[] = {"socket", "url"};
    if (!lua_istable(L, 1))
        return cp_lua_misuse(L, "connect takes a table of options, such as { socket = \"plane.sock\" }; got a %s",
                             luaL_typename(L, 1));
    cp_lua_check_keys(L, 1, "connect", KEYS, CP_COUNT(KEYS));
    lua_getfield(L, 1, "socket");
    lua_getfield(L, 1, "url");
    for (int i = 2; i <= 3; i++)
        if (!lua_isnil(L, i) && lua_type(L, i) != LUA_TSTRING)
            return cp_lua_misuse(L, "option '%s' of connect is a %s; it must be a text", i == 2 ? "socket" : "url",
                                 luaL_typename(L, i));
    const char *socket = lua_tostring(L, 2), *url = lua_tostring(L, 3);
    cp_autoerror cp_error err = {0};
    if (url && !socket && strncmp(url, "unix:", 5) == 0 && url[5]) {
        socket = url + (strncmp(url + 5, "//", 2) == 0 ? 7 : 5);
        url = NULL;
    }
    if (!socket == !url) {
        cp_fail(&err, CP_E_INVALID, "connect wants either a socket or a url; %s",
                socket ? "both are given" : "none is given");
        return cp_lua_fail(L, &err);
    }
    if (url && strncmp(url, "http://", 7) != 0) {
        cp_fail_at(&err, CP_E_INVALID, "url", NULL,
                   "url is '%s'; write it like unix:/path/plane.db.sock or http://127.0.0.1:7070", url);
        return cp_lua_fail(L, &err);
    }
    cp_lua_plane *plane = cp_lua_plane_new(L);
    if (cp_loop_new(false, &plane->loop, &err) < 0)
        return cp_lua_fail(L, &err);
    if (cp_http_new(plane->loop, &plane->http, &err) < 0) {
        cp_loop_free(cp_take(plane->loop));
        return cp_lua_fail(L, &err);
    }
    size_t len = url ? strlen(url) : 0;
    while (len && url[len - 1] == '/')
        len--;
    plane->url = url ? cp_strndup(url, len) : cp_strdup("http://localhost");
    plane->socket = cp_strdup(socket);
    cp_lua_plane_opened(plane);
    return 1;
}
