/* engine/plane/logs.c -- workloads.stream_logs: the logs of all services of all replicas as one stream.
 * Each is a source that the provider reads. Without `follow` lines are merged by time; with it they come as they come,
 * new replicas join and gone ones leave. A source that is far ahead of its reader is closed and opened again behind the
 * last line that was taken, so nothing grows without bound. Must not know how a provider keeps logs. */
#include "plane/args.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

enum {
    SHARE = 16 << 10,              /* bytes that a source may be ahead, however many there are */
    GONE_FOR = 3600 * 1000,        /* ms that logs of destroyed instances stay */
    MOST_SOURCES = CP_MAX_REPLICAS /* open at once */
};

typedef struct line {
    int64_t at_ns;
    bool stderr_stream, partial;
    char *text, *cursor;
    size_t len;
} line;

typedef struct reader reader;

typedef struct source {
    reader *owner;
    char *instance_id, *service, *cursor; /* cursor: behind the last line that was queued */
    int64_t replica_index, after_ns;      /* lines up to after_ns are passed over */
    bool past_equal;                      /* those at after_ns as well */
    cp_provider *provider;
    cp_log_source *handle;
    cp_vec lines; /* line *, from `first` on */
    size_t first, bytes;
    bool ended, full, gone; /* gone: of a destroyed instance */
} source;

struct reader {
    cp_plane *plane;
    cp_stream *stream;
    char *workload_id, *service;
    bool follow, opened, scheduled;
    int64_t since, tail;
    int64_t after_ns; /* of the cursor to go on behind */
    char *after_instance, *after_service, *after_cursor;
    int64_t after_index;
    cp_vec sources;
};

static void free_line(line *l) {
    free(l->text);
    free(l->cursor);
    free(l);
}

static void close_source(source *s) {
    if (s->handle)
        s->provider->class->logs_free(s->provider, s->handle);
    s->handle = NULL;
}

static void free_source(source *s) {
    close_source(s);
    for (size_t i = s->first; i < s->lines.count; i++)
        free_line(s->lines.items[i]);
    cp_vec_clear(&s->lines);
    free(s->instance_id);
    free(s->service);
    free(s->cursor);
    free(s);
}

static void free_reader(void *state) {
    reader *r = state;
    cp_loop_forget(r->plane->loop, r);
    for (size_t i = 0; i < r->sources.count; i++)
        free_source(r->sources.items[i]);
    cp_vec_clear(&r->sources);
    free(r->workload_id);
    free(r->service);
    free(r->after_instance);
    free(r->after_service);
    free(r->after_cursor);
    free(r);
}

static void pump(cp_stream *stream);

static void pump_later(void *userdata) {
    reader *r = userdata;
    r->scheduled = false;
    pump(r->stream);
}

static void soon(reader *r) {
    if (r->scheduled)
        return;
    r->scheduled = true;
    cp_loop_defer(r->plane->loop, pump_later, r);
}

static size_t queued(const source *s) {
    return s->lines.count - s->first;
}

/* Sources share what a stream may hold; each may hold one line, so that there is a next one. */
static bool is_ahead(const source *s) {
    size_t share = CP_MAX_STREAM_BYTES / (s->owner->sources.count + 1);
    return queued(s) >= CP_MAX_STREAM_BUFFER || (queued(s) && s->bytes >= (share > SHARE ? share : SHARE));
}

/* From the provider. It may deliver much in one go; what is over the bound is read again later. */
static void on_line(void *userdata, const cp_log_line *of, const cp_error *err) {
    source *s = userdata;
    (void)err; /* one replica's log that cannot be read ends; the others go on */
    soon(s->owner);
    if (s->full)
        return; /* what follows, its end too, is read again */
    if (!of) {
        s->ended = true;
        return;
    }
    if (is_ahead(s)) {
        s->full = true;
        return;
    }
    cp_set_string(&s->cursor, of->cursor);
    if (of->at_ns < s->after_ns || (of->at_ns == s->after_ns && s->past_equal))
        return;
    line *l = cp_new0(line);
    *l = (line){.at_ns = of->at_ns,
                .stderr_stream = of->stderr_stream,
                .partial = of->partial,
                .text = cp_strndup(of->text, of->len),
                .len = of->len,
                .cursor = cp_strdup(of->cursor)};
    cp_vec_push(&s->lines, l);
    s->bytes += l->len;
}

/* True when the source is open; false when the provider has nothing (yet). */
static bool open_source(source *s) {
    reader *r = s->owner;
    cp_log_options options = {.follow = r->follow && !s->gone, .since = r->since, .tail = r->tail, .after = s->cursor};
    if (s->cursor)
        options.tail = -1;
    else if (s->after_ns / 1000000 > options.since)
        options.since = s->after_ns / 1000000;
    s->full = false;
    cp_autoerror cp_error err = {0};
    return s->provider->class->logs(s->provider, s->instance_id, s->service, &options, on_line, s, &s->handle, &err) >=
           0;
}

static source *find_source(const reader *r, const char *instance_id, const char *service) {
    for (size_t i = 0; i < r->sources.count; i++) {
        source *s = r->sources.items[i];
        if (cp_streq(s->instance_id, instance_id) && cp_streq(s->service, service))
            return s;
    }
    return NULL;
}

/* The order of lines of the same instant: by replica, then by service, then by instance. */
static int compare(int64_t a_index, const char *a_service, const char *a_instance, int64_t b_index,
                   const char *b_service, const char *b_instance) {
    if (a_index != b_index)
        return a_index < b_index ? -1 : 1;
    int order = strcmp(a_service, b_service);
    return order ? order : strcmp(a_instance, b_instance);
}

static void add_source(reader *r, cp_provider *provider, const cp_instance *row, const char *service, bool gone) {
    if (r->sources.count >= MOST_SOURCES || find_source(r, row->id, service))
        return;
    source *s = cp_new0(source);
    *s = (source){.owner = r,
                  .instance_id = cp_strdup(row->id),
                  .service = cp_strdup(service),
                  .replica_index = row->replica_index,
                  .provider = provider,
                  .gone = gone,
                  .after_ns = INT64_MIN};
    if (r->after_instance) {
        int order = compare(row->replica_index, service, row->id, r->after_index, r->after_service, r->after_instance);
        s->after_ns = r->after_ns;
        s->past_equal = order <= 0;
        if (order == 0)
            s->cursor = cp_strdup(r->after_cursor);
        if (order == 0)
            s->after_ns = INT64_MIN; /* its own cursor is exact */
    }
    if (open_source(s))
        cp_vec_push(&r->sources, s);
    else
        free_source(s);
}

static void add_instance(reader *r, cp_wl *wl, const cp_instance *row, bool gone) {
    const cp_rel *rel = cp_wl_release(wl, row->release_id);
    cp_provider *provider = cp_plane_provider(r->plane, row->provider_name);
    if (!rel || !provider || !(provider->class->capabilities & CP_CAN_LOGS))
        return;
    for (size_t i = 0; i < rel->row.services.count; i++) {
        const char *name = CP_LIST_AT(&rel->row.services, cp_service, i)->name;
        if (cp_is_empty(r->service) || cp_streq(r->service, name))
            add_source(r, provider, row, name, gone);
    }
}

typedef struct gone_reader {
    reader *r;
    cp_wl *wl;
} gone_reader;

static int add_gone(void *userdata, void *row) {
    gone_reader *g = userdata;
    add_instance(g->r, g->wl, row, true);
    return 0;
}

static bool lives(const cp_inst *inst) {
    return inst->row.applied_generation > 0;
}

/* Who asks what the workload says does not mean replicas that it has no more, unless by a time or a cursor of theirs,
 * or because there are no others. */
static bool wants_gone(const reader *r, const cp_wl *wl) {
    if (r->since > 0 || r->after_instance)
        return true;
    for (size_t i = 0; i < wl->instances.count; i++)
        if (lives(wl->instances.items[i]))
            return false;
    return true;
}

/* New replicas join; at the beginning also those that are gone, where they are wanted and while their logs stay. */
static int join(reader *r, cp_wl *wl, cp_error *err) {
    bool first = !r->opened;
    r->opened = true;
    if (first && wants_gone(r, wl)) {
        cp_autofree char *since = cp_printf("%" PRId64, cp_plane_now(r->plane) - GONE_FOR);
        const char *const values[] = {wl->row.id, since, NULL};
        gone_reader g = {.r = r, .wl = wl};
        int e = cp_store_each(r->plane->store, &cp_instance_desc,
                              "workload_id = ? AND state = 'destroyed' AND updated_at > CAST(? AS INTEGER)", values,
                              NULL, MOST_SOURCES, add_gone, &g, err);
        if (e < 0)
            return e;
    }
    if (!first && !r->follow)
        return 0;
    for (size_t i = 0; i < wl->instances.count; i++) {
        const cp_inst *inst = wl->instances.items[i];
        if (lives(inst))
            add_instance(r, wl, &inst->row, false);
    }
    return 0;
}

/* The next line: of all sources the oldest. Without follow every source must have shown its next one first. */
static source *next_source(reader *r) {
    source *best = NULL;
    for (size_t i = 0; i < r->sources.count; i++) {
        source *s = r->sources.items[i];
        if (!queued(s)) {
            if (!s->ended && !r->follow)
                return NULL;
            continue;
        }
        if (!best) {
            best = s;
            continue;
        }
        const line *a = s->lines.items[s->first], *b = best->lines.items[best->first];
        if (a->at_ns < b->at_ns ||
            (a->at_ns == b->at_ns && compare(s->replica_index, s->service, s->instance_id, best->replica_index,
                                             best->service, best->instance_id) < 0))
            best = s;
    }
    return best;
}

/* Bytes that are no UTF-8 become U+FFFD, each. */
static char *repair(const char *text, size_t len) {
    cp_buf out = {0};
    for (size_t i = 0; i < len;) {
        size_t n = 1;
        while (n < 4 && i + n <= len && !cp_utf8_valid(text + i, n))
            n++;
        bool good = i + n <= len && cp_utf8_valid(text + i, n);
        if (good)
            cp_buf_add(&out, text + i, n);
        else
            cp_buf_puts(&out, "\xef\xbf\xbd");
        i += good ? n : 1;
    }
    return out.data ? out.data : cp_strdup("");
}

static json_t *event_of(const reader *r, const source *s, const line *l) {
    char at[32];
    cp_time_format(l->at_ns / 1000000, at);
    cp_autofree char *cursor = cp_printf("%" PRId64 "/%s/%s/%" PRId64 "/%s", l->at_ns, s->instance_id, s->service,
                                         s->replica_index, l->cursor);
    json_t *event = json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:s}", "workload_id", r->workload_id, "instance_id",
                              s->instance_id, "replica_index", (json_int_t)s->replica_index, "service_name", s->service,
                              "stream", l->stderr_stream ? "stderr" : "stdout", "at", at, "cursor", cursor);
    if (cp_utf8_valid(l->text, l->len)) {
        json_object_set_new(event, "line", json_stringn(l->text, l->len));
    } else {
        cp_autofree char *repaired = repair(l->text, l->len);
        cp_autofree char *base64 = cp_alloc0(l->len / 3 * 4 + 8);
        EVP_EncodeBlock((unsigned char *)base64, (const unsigned char *)l->text, (int)l->len);
        json_object_set_new(event, "line", json_string(repaired));
        json_object_set_new(event, "line_base64", json_string(base64));
    }
    if (l->partial)
        json_object_set_new(event, "partial", json_true());
    return event;
}

static line *take(source *s) {
    line *l = s->lines.items[s->first++];
    s->bytes -= l->len;
    if (s->first == s->lines.count)
        s->first = s->lines.count = 0;
    return l;
}

/* Sources that were too far ahead go on; those that have ended leave. */
static void tend(reader *r) {
    for (size_t i = r->sources.count; i-- > 0;) {
        source *s = r->sources.items[i];
        if (s->ended || s->full)
            close_source(s);
        if (s->full && !queued(s) && !s->ended && !open_source(s))
            s->ended = true;
        if (s->ended && !queued(s)) {
            cp_vec_remove(&r->sources, i);
            free_source(s);
        }
    }
}

static bool is_alive(const cp_plane *plane, const cp_stream *stream) {
    for (size_t i = 0; i < plane->streams.count; i++)
        if (plane->streams.items[i] == stream)
            return true;
    return false;
}

static void pump(cp_stream *stream) {
    enum { BATCH = 256 }; /* lines per turn: others want theirs */
    if (stream->ended || !stream->plane)
        return;
    reader *r = stream->state;
    cp_plane *plane = r->plane;
    cp_wl *wl = cp_wl_of(plane, r->workload_id);
    cp_autoerror cp_error err = {0};
    if (wl && !cp_plane_stopped(plane) && join(r, wl, &err) < 0) {
        cp_stream_end(stream, &err);
        return;
    }
    for (int n = 0; n < BATCH; n++) {
        if (stream->paused) {
            tend(r);
            return;
        }
        source *s = next_source(r);
        if (!s)
            break;
        line *l = take(s);
        cp_autojson json_t *event = event_of(r, s, l);
        free_line(l);
        stream->sink(stream->userdata, event, NULL);
        if (!is_alive(plane, stream))
            return;
        if (n == BATCH - 1)
            soon(r);
        if (s->full && !queued(s))
            tend(r);
    }
    tend(r);
    bool over = r->sources.count == 0 && (!r->follow || !wl || wl->row.state == CP_WORKLOAD_DESTROYED);
    if (over && !plane->broken)
        cp_stream_end(stream, NULL);
}

void cp_logs_changed(cp_plane *plane, const cp_wl *wl) {
    for (size_t i = 0; i < plane->streams.count; i++) {
        cp_stream *stream = plane->streams.items[i];
        if (stream->pump != pump || stream->ended)
            continue;
        reader *r = stream->state;
        if (r->follow && cp_streq(r->workload_id, wl->row.id))
            soon(r);
    }
}

/* <ns>/<instance>/<service>/<index>/<the provider's own> */
static int read_after(reader *r, const char *text, cp_error *err) {
    if (cp_is_empty(text))
        return 0;
    cp_autofree char *copy = cp_strdup(text);
    char *part[5] = {copy};
    for (int i = 1; i < 5 && part[i - 1]; i++) {
        part[i] = strchr(part[i - 1], '/');
        if (part[i])
            *part[i]++ = '\0';
    }
    char *end = NULL, *index_end = NULL;
    int64_t at = strtoll(copy, &end, 10), index = part[3] ? strtoll(part[3], &index_end, 10) : 0;
    if (!part[4] || !*part[4] || *end || end == copy || *index_end || index_end == part[3])
        return cp_fail_at(err, CP_E_INVALID, "after", NULL, "'%.80s' is not the cursor of a log line", text);
    r->after_ns = at;
    r->after_index = index;
    r->after_instance = cp_strdup(part[1]);
    r->after_service = cp_strdup(part[2]);
    r->after_cursor = cp_strdup(part[4]);
    return 0;
}

/* Does any release of it know the service? */
static int check_service(const cp_wl *wl, const char *service, cp_error *err) {
    const char *names[CP_MAX_SERVICES];
    size_t count = 0;
    for (size_t i = wl->releases.count; i-- > 0 && !cp_is_empty(service);) {
        const cp_list *services = &((cp_rel *)wl->releases.items[i])->row.services;
        if (cp_services_find(services, service))
            return 0;
        for (size_t n = 0; count == 0 && n < services->count && n < CP_COUNT(names); n++)
            names[n] = CP_LIST_AT(services, cp_service, n)->name;
        count = count ? count : services->count;
    }
    if (cp_is_empty(service))
        return 0;
    const char *near = cp_nearest(service, names, count);
    cp_autofree char *hint = near ? cp_printf("did you mean '%s'?", near) : NULL;
    return cp_fail_at(err, CP_E_NOT_FOUND, "service", hint, "workload %s has no service '%.80s'", wl->row.slug,
                      service);
}

int cp_logs_stream(cp_plane *plane, const char *id, const void *args, const char *tenant, cp_stream *stream,
                   cp_error *err) {
    const cp_logs_args *options = args;
    cp_wl *wl = cp_plane_workload(plane, tenant, id, err);
    if (!wl)
        return err && err->code ? err->code : CP_E_NOT_FOUND;
    const cp_provider *provider = cp_plane_provider(plane, wl->row.provider_name);
    if (!provider || !(provider->class->capabilities & CP_CAN_LOGS))
        return cp_fail(err, CP_E_UNSUPPORTED, "provider %s keeps no logs", wl->row.provider_name);
    int e = check_service(wl, options->service, err);
    if (e < 0)
        return e;
    reader *r = cp_new0(reader);
    *r = (reader){.plane = plane,
                  .stream = stream,
                  .workload_id = cp_strdup(wl->row.id),
                  .service = cp_strdup(options->service),
                  .follow = options->follow,
                  .since = options->since,
                  .tail = cp_desc_has(&cp_logs_args_desc, options, "tail") ? options->tail : -1};
    stream->state = r;
    stream->free = free_reader;
    e = read_after(r, options->after, err);
    if (e < 0)
        return e;
    stream->pump = pump;
    return 0;
}
