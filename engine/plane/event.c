/* engine/plane/event.c -- Events: rows in the transaction of the change they tell of, and streams of them.
 * A stream reads from the store at its own pace from a position, so a slow one loses nothing and holds nothing up; it
 * is told `gap` where retention was faster. Must not know who listens. */
#include "plane/args.h"

#include "base/id.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 100 }; /* events a stream reads at a time */

struct cp_event_hub {
    bool told; /* an effect that wakes the streams is queued for this turn */
};

void cp_events_new(cp_plane *plane) {
    plane->events = cp_new0(struct cp_event_hub);
}

void cp_events_free(cp_plane *plane) {
    cp_loop_forget(plane->loop, plane->events);
    free(plane->events);
    plane->events = NULL;
}

static void pump(cp_stream *stream);

static void wake_streams(void *userdata) {
    cp_plane *plane = userdata;
    plane->events->told = false;
    for (size_t i = 0; i < plane->streams.count; i++) { /* deferred: a sink may free its stream or others */
        cp_stream *stream = plane->streams.items[i];
        if (stream->pump == pump)
            cp_loop_defer(plane->loop, (cp_task *)(void *)pump, stream);
    }
}

static void not_told(void *userdata) {
    ((cp_plane *)userdata)->events->told = false;
}

void cp_plane_event(cp_plane *plane, const char *type, const char *actor, cp_wl *wl, cp_inst *inst,
                    const char *deployment_id, json_t *payload) {
    if (!wl && inst)
        wl = inst->wl;
    cp_event event = {
        .id = cp_id_new("evt", cp_plane_now(plane)),
        .type = (char *)type,
        .tenant_id = wl ? wl->row.tenant_id : plane->tenant_id,
        .actor_id = (char *)(cp_is_empty(actor) ? "engine" : actor),
        .workload_id = wl ? wl->row.id : NULL,
        .instance_id = inst ? inst->row.id : NULL,
        .deployment_id = (char *)deployment_id,
        .payload = payload,
        .at = cp_plane_now(plane),
    };
    cp_error err = {0};
    int r = cp_store_event_append(plane->store, &event, &err);
    cp_plane_written(plane, r, &err);
    free(event.id);
    json_decref(payload);
    if (!plane->events->told && plane->streams.count) {
        plane->events->told = true;
        cp_loop_effect(plane->loop, wake_streams, not_told, plane);
    }
}

/* Streams. */

typedef struct reader {
    int64_t position; /* the last seq that was delivered or passed over */
    cp_strings types;
    char *tenant_id, *workload_id;
} reader;

static void free_reader(void *state) {
    reader *r = state;
    cp_strings_clear(&r->types);
    free(r->tenant_id);
    free(r->workload_id);
    free(r);
}

static bool type_matches(const cp_strings *types, const char *type) {
    if (types->count == 0)
        return true;
    for (size_t i = 0; i < types->count; i++) {
        const char *wanted = types->items[i];
        size_t len = strlen(wanted);
        bool all = len >= 2 && strcmp(wanted + len - 2, ".*") == 0;
        if (all ? strncmp(wanted, type, len - 1) == 0 : strcmp(wanted, type) == 0)
            return true;
    }
    return false;
}

static bool matches(const reader *r, const cp_event *event) {
    return cp_streq(event->tenant_id, r->tenant_id) && type_matches(&r->types, event->type) &&
           (!r->workload_id || cp_streq(event->workload_id, r->workload_id));
}

static int collect(void *userdata, void *row) {
    cp_event *event = cp_new0(cp_event);
    *event = *(cp_event *)row;
    *(cp_event *)row = (cp_event){0};
    cp_vec_push(userdata, event);
    return 0;
}

static void free_events(cp_vec *events) {
    for (size_t i = 0; i < events->count; i++) {
        cp_desc_clear(&cp_event_desc, events->items[i]);
        free(events->items[i]);
    }
    cp_vec_clear(events);
}

/* Delivers one batch; there may be more: asks for another turn then. */
static void pump(cp_stream *stream) {
    if (stream->ended || stream->paused || !stream->plane)
        return;
    cp_plane *plane = stream->plane;
    reader *r = stream->state;
    cp_autofree char *after = cp_printf("%" PRId64, r->position);
    const char *const values[] = {after, NULL};
    cp_vec events CP_CLEANUP(free_events) = {0};
    cp_autoerror cp_error err = {0};
    if (cp_store_dirty(plane->store)) { /* rows of a turn that is not committed yet: nobody may see them */
        plane->events->told = true;
        cp_loop_effect(plane->loop, wake_streams, not_told, plane);
        return;
    }
    if (cp_store_each(plane->store, &cp_event_desc, "seq > CAST(? AS INTEGER)", values, "seq", BATCH, collect, &events,
                      &err) < 0) {
        cp_stream_end(stream, &err);
        return;
    }
    if (events.count == BATCH)
        cp_loop_defer(plane->loop, (cp_task *)(void *)pump, stream);
    /* The sink may free the stream: what is needed afterwards is looked up through the plane's list. */
    for (size_t i = 0; i < events.count; i++) {
        cp_event *event = events.items[i];
        int64_t expected = r->position + 1;
        if (event->seq > expected) {
            cp_autojson json_t *gap = json_pack("{s:s, s:I, s:I}", "type", "gap", "from", (json_int_t)expected, "to",
                                                (json_int_t)(event->seq - 1));
            r->position = event->seq - 1;
            stream->sink(stream->userdata, gap, NULL);
            i--;
        } else {
            r->position = event->seq;
            if (!matches(r, event))
                continue;
            cp_autojson json_t *json = cp_desc_json(&cp_event_desc, event);
            stream->sink(stream->userdata, json, NULL);
        }
        bool alive = false;
        for (size_t s = 0; s < plane->streams.count && !alive; s++)
            alive = plane->streams.items[s] == stream;
        if (!alive || stream->paused)
            return;
    }
}

static int resolve_workload(cp_plane *plane, const char *tenant, const char *workload, char **ret, cp_error *err) {
    if (cp_is_empty(workload))
        return 0;
    cp_wl *wl = cp_plane_workload(plane, tenant, workload, err);
    if (!wl)
        return err ? err->code : CP_E_NOT_FOUND;
    *ret = cp_strdup(wl->row.id);
    return 0;
}

int cp_events_stream(cp_plane *plane, const char *id, const void *args, const char *tenant, cp_stream *stream,
                     cp_error *err) {
    (void)id;
    const cp_events_args *options = args;
    char *workload = NULL;
    int r = resolve_workload(plane, tenant, options->workload, &workload, err);
    if (r < 0)
        return r;
    int64_t last = cp_store_event_last(plane->store);
    bool positioned = cp_desc_has(&cp_events_stream_args_desc, options, "after");
    if (positioned && options->after > last) {
        free(workload);
        return cp_fail_at(err, CP_E_INVALID, "after", NULL,
                          "after is %" PRId64 "; the last event is %" PRId64 ": the position is of another history",
                          options->after, last);
    }
    reader *reading = cp_new0(reader);
    reading->position = positioned ? options->after : last;
    reading->tenant_id = cp_strdup(tenant);
    reading->workload_id = workload;
    for (size_t i = 0; i < options->types.count; i++)
        cp_strings_add(&reading->types, options->types.items[i]);
    stream->state = reading;
    stream->free = free_reader;
    stream->pump = pump;
    return 0;
}

/* How many match, by the store. */
static int count_matching(cp_plane *plane, const reader *filter, int64_t *ret, cp_error *err) {
    cp_autobuf cp_buf where = {0};
    cp_strings values = {0};
    cp_buf_puts(&where, "tenant_id = ?");
    cp_strings_add(&values, filter->tenant_id);
    if (filter->workload_id) {
        cp_buf_puts(&where, " AND workload_id = ?");
        cp_strings_add(&values, filter->workload_id);
    }
    for (size_t i = 0; i < filter->types.count; i++) {
        const char *type = filter->types.items[i];
        size_t len = strlen(type);
        bool all = len >= 2 && strcmp(type + len - 2, ".*") == 0;
        cp_autofree char *kind = cp_strndup(type, all ? len - 1 : len);
        cp_buf_printf(&where, "%s%s", i ? " OR " : " AND (", all ? "substr(type, 1, length(?)) = ?" : "type = ?");
        cp_strings_add(&values, kind);
        if (all)
            cp_strings_add(&values, kind);
    }
    if (filter->types.count)
        cp_buf_puts(&where, ")");
    cp_autofree const char **list = cp_alloc0((values.count + 1) * sizeof *list);
    for (size_t i = 0; i < values.count; i++)
        list[i] = values.items[i];
    int r = cp_store_count(plane->store, &cp_event_desc, where.data, list, ret, err);
    cp_strings_clear(&values);
    return r;
}

/* events.list: newest first. The cursor is the seq of the last one shown. */
int cp_run_events_list(cp_plane *plane, cp_call *call, cp_error *err) {
    cp_events_args *args = call->args;
    reader filter = {.types = args->types, .tenant_id = (char *)call->tenant_id};
    cp_autofree char *workload = NULL;
    int r = resolve_workload(plane, call->tenant_id, args->workload, &workload, err);
    if (r < 0)
        return r;
    filter.workload_id = workload;
    int64_t before = INT64_MAX;
    if (!cp_is_empty(args->cursor)) {
        char *end = NULL;
        before = strncmp(args->cursor, "events.", 7) == 0 ? strtoll(args->cursor + 7, &end, 10) : 0;
        if (before <= 0 || !end || *end)
            return cp_fail_at(err, CP_E_INVALID, "cursor", NULL, "'%.80s' is not a cursor of a list of events",
                              args->cursor);
    }
    int64_t limit = args->limit ? args->limit : CP_PAGE, next = 0;
    cp_autojson json_t *items = json_array();
    while (next == 0) {
        cp_autofree char *text = cp_printf("%" PRId64, before);
        const char *const values[] = {text, NULL};
        cp_vec events CP_CLEANUP(free_events) = {0};
        r = cp_store_each(plane->store, &cp_event_desc, "seq < CAST(? AS INTEGER)", values, "seq DESC", CP_MAX_LIST,
                          collect, &events, err);
        if (r < 0)
            return r;
        for (size_t i = 0; i < events.count && next == 0; i++) {
            cp_event *event = events.items[i];
            if (!matches(&filter, event))
                continue;
            if ((int64_t)json_array_size(items) == limit)
                next = before; /* there is one more: the page is full */
            else {
                json_array_append_new(items, cp_desc_json(&cp_event_desc, event));
                before = event->seq;
            }
        }
        if (events.count < CP_MAX_LIST)
            break;
        if (next == 0)
            before = ((cp_event *)events.items[events.count - 1])->seq;
    }
    int64_t total = 0;
    r = count_matching(plane, &filter, &total, err);
    if (r < 0)
        return r;
    json_t *result = json_pack("{s:O, s:I, s:I}", "items", items, "total", (json_int_t)total, "last_seq",
                               (json_int_t)cp_store_event_last(plane->store));
    if (next) {
        cp_autofree char *cursor = cp_printf("events.%" PRId64, next);
        json_object_set_new(result, "next_cursor", json_string(cursor));
    }
    cp_call_answer(call, result);
    return 0;
}
