/* engine/api/sse.c -- Streams as server-sent events, or as plain lines. A client that does not read holds up nobody:
 * its stream is paused, and goes on where it was. Must not know what the events are, but for `seq`, `cursor`, `type`
 * and `line`. */
#include "api/internal.h"
#include "base/limits.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <inttypes.h>
#include <string.h>

#define HEARTBEAT 15000 /* ms */

static void on_written(struct evhttp_connection *connection, void *userdata) {
    (void)connection;
    exchange *x = userdata;
    if (x->paused && x->stream) {
        x->paused = false;
        cp_stream_resume(x->stream);
    }
}

static void send_text(exchange *x, const cp_buf *text) {
    struct evhttp_connection *connection = evhttp_request_get_connection(x->request);
    struct evbuffer *chunk = evbuffer_new();
    evbuffer_add(chunk, text->data, text->len);
    evhttp_send_reply_chunk_with_cb(x->request, chunk, on_written, x);
    evbuffer_free(chunk);
    struct evbuffer *pending = bufferevent_get_output(evhttp_connection_get_bufferevent(connection));
    if (!x->paused && x->stream && evbuffer_get_length(pending) > CP_MAX_BEHIND) {
        x->paused = true;
        cp_stream_pause(x->stream);
    }
    cp_timer_start(x->heartbeat, HEARTBEAT);
}

static void on_heartbeat(void *userdata) {
    exchange *x = userdata;
    static char beat[] = ": heartbeat\n\n";
    if (!x->paused && !x->plain)
        send_text(x, &(cp_buf){.data = beat, .len = sizeof beat - 1});
    else
        cp_timer_start(x->heartbeat, HEARTBEAT);
}

static void format_plain(cp_buf *text, const json_t *event) {
    const char *line = json_string_value(json_object_get(event, "line"));
    cp_autofree char *whole = line ? NULL : cp_json_text(event);
    cp_buf_printf(text, "%s\n", line ? line : whole);
}

static void format_event(cp_buf *text, const json_t *event) {
    const char *type = json_string_value(json_object_get(event, "type"));
    const char *cursor = json_string_value(json_object_get(event, "cursor"));
    const json_t *seq = json_object_get(event, "seq");
    if (cursor)
        cp_buf_printf(text, "id: %s\n", cursor);
    else if (seq)
        cp_buf_printf(text, "id: %" JSON_INTEGER_FORMAT "\n", json_integer_value(seq));
    if (type)
        cp_buf_printf(text, "event: %s\n", type);
    cp_autofree char *data = cp_json_text(event);
    cp_buf_printf(text, "data: %s\n\n", data); /* JSON has no line ends of its own */
}

static void end(exchange *x, const cp_error *err) {
    cp_autobuf cp_buf text = {0};
    if (err) {
        cp_autojson json_t *error = json_pack("{s:o}", "error", cp_error_json(err));
        cp_autofree char *data = cp_json_text(error);
        cp_buf_printf(&text, x->plain ? "%s\n" : "event: error\ndata: %s\n\n", data);
    } else if (!x->plain) {
        cp_buf_puts(&text, "event: end\ndata: {}\n\n");
    }
    if (text.len)
        send_text(x, &text);
    struct evhttp_request *request = x->request;
    cp_exchange_free(x);
    evhttp_send_reply_end(request);
}

static void on_event(void *userdata, const json_t *event, const cp_error *err) {
    exchange *x = userdata;
    if (!event) {
        end(x, err);
        return;
    }
    cp_autobuf cp_buf text = {0};
    if (x->plain)
        format_plain(&text, event);
    else
        format_event(&text, event);
    send_text(x, &text);
}

/* The position that a client goes on from after it was cut off. */
static int resume_after(const exchange *x, json_t *args, cp_error *err) {
    const char *last = cp_exchange_header(x, "Last-Event-ID");
    const cp_field *after = cp_desc_field(x->op->args, "after");
    if (!last || !after)
        return 0;
    if (after->type == CP_STRING) {
        json_object_set_new(args, "after", json_string(last));
        return 0;
    }
    char *rest;
    long long seq = strtoll(last, &rest, 10);
    if (rest == last || *rest)
        return cp_fail_at(err, CP_E_INVALID, "Last-Event-ID", NULL, "Last-Event-ID is '%s'; it must be a seq", last);
    json_object_set_new(args, "after", json_integer(seq));
    return 0;
}

void cp_sse_start(exchange *x, const char *id, json_t *args, const cp_claims *claims) {
    cp_server *server = x->server;
    const char *accept = cp_exchange_header(x, "Accept");
    cp_autoerror cp_error err = {0};
    x->plain = accept && strstr(accept, "text/plain") && !strstr(accept, "text/event-stream");
    if (resume_after(x, args, &err) < 0 ||
        cp_plane_stream(server->plane, x->op, id, args, claims, on_event, x, &x->stream, &err) < 0) {
        cp_exchange_fail(x, &err);
        return;
    }
    x->heartbeat = cp_timer_new(server->loop, on_heartbeat, x);
    cp_timer_start(x->heartbeat, HEARTBEAT);
    struct evhttp_connection *connection = evhttp_request_get_connection(x->request);
    bufferevent_set_timeouts(evhttp_connection_get_bufferevent(connection), NULL, NULL); /* it may wait for ever */
    evhttp_add_header(cp_exchange_headers(x), "Content-Type",
                      x->plain ? "text/plain; charset=utf-8" : "text/event-stream");
    evhttp_add_header(cp_exchange_headers(x), "Cache-Control", "no-store");
    evhttp_send_reply_start(x->request, HTTP_OK, "OK");
}

void cp_sse_close(exchange *x) {
    cp_stream_free(cp_take(x->stream));
    cp_timer_free(cp_take(x->heartbeat));
}
