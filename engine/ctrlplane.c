/* engine/ctrlplane.c -- The public C API on the engine: JSON text in, JSON text out. Part of the library only.
 * Must not know any operation but by name. */
#define CTRLPLANE_INTERNAL
#include "base/table.h"
#include "compose.h"
#include "model/model.h"

#include "ctrlplane.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_OPTIONS = 16 << 20 };

struct ctrlplane {
    cp_engine engine;
    cp_vec calls; /* call *, not answered yet */
};

typedef struct call {
    ctrlplane *plane;
    cp_call *work;
    cp_done *done;
    void *userdata;
} call;

cp_error *cp_error_new(void) {
    return cp_new0(cp_error);
}

void cp_error_free(cp_error *err) {
    if (err)
        cp_error_clear(err);
    free(err);
}

int cp_error_code(const cp_error *err) {
    return err ? err->code : CP_OK;
}

const char *cp_error_message(const cp_error *err) {
    return err ? err->message : NULL;
}

const char *cp_error_field(const cp_error *err) {
    return err ? err->field : NULL;
}

const char *cp_error_hint(const cp_error *err) {
    return err ? err->hint : NULL;
}

const char *ctrlplane_version(void) {
    return CP_VERSION;
}

void ctrlplane_free(void *text) {
    free(text);
}

typedef struct open_options {
    char *store, *provider, *data_dir;
    int clock;
    int64_t seed;
    json_t *scenario;
    cp_strings strategies;
} open_options;

static const char *const CLOCKS[] = {"real", "virtual", NULL};
#define OPTION(member, kind, ...)                                                                                      \
    { .name = #member, .type = kind, .offset = offsetof(open_options, member), __VA_ARGS__ }
static const cp_field option_fields[] = {
    OPTION(store, CP_STRING, .flags = CP_REQUIRED, .doc = "a file, or \":memory:\""),
    OPTION(provider, CP_STRING, .fallback = "process", .doc = "the runtime of workloads that name none"),
    OPTION(data_dir, CP_STRING, .doc = "where the process provider keeps its files"),
    OPTION(clock, CP_ENUM, .values = CLOCKS, .fallback = "real", .doc = "real or virtual"),
    OPTION(seed, CP_INT, .min = 0, .max = 9007199254740992.0, .doc = "of a virtual clock and the sim provider"),
    OPTION(scenario, CP_JSON, .doc = "of the sim provider"),
    OPTION(strategies, CP_STRINGS, .max = 64, .doc = "folders with strategies"),
};
static const cp_desc options_desc = {.name = "open",
                                     .size = sizeof(open_options),
                                     .fields = option_fields,
                                     .count = CP_COUNT(option_fields),
                                     .present = CP_NONE,
                                     .doc = "how to open a plane"};

static int read_object(const char *text, json_t **ret, cp_error *err) {
    if (!text) {
        *ret = json_object();
        return 0;
    }
    cp_autojson json_t *value = NULL;
    int r = cp_json_parse(text, strlen(text), MAX_OPTIONS, &value, err);
    if (r < 0)
        return cp_error_wrap(err, "the options");
    if (!json_is_object(value))
        return cp_fail(err, CP_E_INVALID, "the options are not a JSON object");
    *ret = cp_take(value);
    return 0;
}

static int open_with(const open_options *options, ctrlplane **ret, cp_error *err) {
    const char **folders = cp_alloc0((options->strategies.count + 1) * sizeof *folders);
    for (size_t i = 0; i < options->strategies.count; i++)
        folders[i] = options->strategies.items[i];
    cp_compose compose = {.store = options->store,
                          .provider = options->provider,
                          .data_dir = options->data_dir,
                          .virtual_clock = options->clock == 1,
                          .seed = (uint64_t)options->seed,
                          .scenario = options->scenario,
                          .strategy_dirs = options->strategies.count ? folders : NULL};
    cp_engine engine = {0};
    int r = cp_engine_open(&compose, &engine, err);
    free(folders);
    if (r < 0)
        return r;
    ctrlplane *plane = cp_new0(ctrlplane);
    plane->engine = engine;
    *ret = plane;
    return 0;
}

int ctrlplane_open(const char *text, ctrlplane **ret, cp_error *err) {
    cp_autojson json_t *input = NULL;
    int r = read_object(text, &input, err);
    if (r < 0)
        return r;
    open_options options;
    cp_desc_init(&options_desc, &options);
    r = cp_desc_parse(&options_desc, input, &options, "", err);
    if (r < 0)
        return r;
    r = open_with(&options, ret, err);
    cp_desc_clear(&options_desc, &options);
    return r;
}

void ctrlplane_close(ctrlplane *plane) {
    if (!plane)
        return;
    for (size_t i = 0; i < plane->calls.count; i++) {
        call *pending = plane->calls.items[i];
        cp_call_cancel(pending->work);
        free(pending);
    }
    cp_vec_clear(&plane->calls);
    cp_engine_close(&plane->engine);
    free(plane);
}

int ctrlplane_fd(const ctrlplane *plane) {
    return cp_loop_fd(plane->engine.loop);
}

int64_t ctrlplane_timeout(const ctrlplane *plane) {
    return cp_loop_next_timer(plane->engine.loop);
}

int ctrlplane_step(ctrlplane *plane, int64_t timeout_ms) {
    return cp_loop_turn(plane->engine.loop, timeout_ms);
}

int ctrlplane_advance(ctrlplane *plane, int64_t ms, cp_error *err) {
    if (!cp_loop_is_virtual(plane->engine.loop))
        return cp_fail(err, CP_E_UNSUPPORTED, "the clock of this plane is real; open it with \"clock\": \"virtual\"");
    cp_loop_advance(plane->engine.loop, ms);
    return 0;
}

static void on_reply(void *userdata, const json_t *result, const cp_error *err) {
    call *answered = userdata;
    cp_vec_drop(&answered->plane->calls, answered);
    cp_autofree char *text = err ? NULL : result ? cp_json_text(result) : cp_strdup("null");
    cp_done *done = answered->done;
    void *owner = answered->userdata;
    free(answered);
    done(owner, text, err);
}

static int find(const char *name, bool stream, const cp_operation **ret, cp_error *err) {
    size_t count;
    const cp_operation *all = cp_operations(&count);
    const char **names = cp_alloc0(count * sizeof *names);
    for (size_t i = 0; i < count; i++)
        names[i] = all[i].name;
    const char *nearest = cp_nearest(name, names, count);
    free(names);
    const cp_operation *op = cp_operation_find(name);
    if (!op) {
        cp_autofree char *hint = nearest ? cp_printf("did you mean '%s'?", nearest) : NULL;
        return cp_fail_at(err, CP_E_NOT_FOUND, "operation", hint, "there is no operation '%s'", name);
    }
    if (!!(op->flags & CP_OPERATION_STREAM) != stream)
        return cp_fail(err, CP_E_INVALID, "%s is %s; call ctrlplane_%s", name, stream ? "no stream" : "a stream",
                       stream ? "call" : "stream");
    *ret = op;
    return 0;
}

/* What both kinds of operations are asked with. */
static int understand(const char *operation, bool stream, const char *id, const char *options, const cp_operation **ret,
                      json_t **ret_args, cp_error *err) {
    int r = find(operation, stream, ret, err);
    if (r == 0 && ((*ret)->flags & CP_OPERATION_ID) && !id)
        r = cp_fail_at(err, CP_E_INVALID, "id", NULL, "%s takes the id of a %s; none is given", (*ret)->name,
                       (*ret)->id_of);
    return r < 0 ? r : read_object(options, ret_args, err);
}

int ctrlplane_call(ctrlplane *plane, const char *operation, const char *id, const char *options, cp_done *done,
                   void *userdata, cp_error *err) {
    const cp_operation *op;
    cp_autojson json_t *args = NULL;
    int r = understand(operation, false, id, options, &op, &args, err);
    if (r < 0)
        return r;
    call *started = cp_new0(call);
    *started = (call){.plane = plane, .done = done, .userdata = userdata};
    cp_vec_push(&plane->calls, started);
    cp_plane_call(plane->engine.plane, op, id, args, NULL, on_reply, started, &started->work);
    return 0;
}

typedef struct answer {
    bool done;
    char *json;
    cp_error err;
} answer;

static void on_answer(void *userdata, const char *json, const cp_error *err) {
    answer *got = userdata;
    got->done = true;
    got->json = cp_strdup(json);
    if (err)
        cp_error_copy(&got->err, err);
}

static bool is_answered(void *userdata) {
    return ((answer *)userdata)->done;
}

int ctrlplane_wait(ctrlplane *plane, const char *operation, const char *id, const char *options, int64_t timeout_ms,
                   char **ret, cp_error *err) {
    answer got = {0};
    int r = ctrlplane_call(plane, operation, id, options, on_answer, &got, err);
    if (r < 0)
        return r;
    call *started = plane->calls.items[plane->calls.count - 1];
    if (!cp_loop_run(plane->engine.loop, is_answered, &got, timeout_ms)) {
        cp_call_cancel(started->work);
        cp_vec_drop(&plane->calls, started);
        free(started);
        return cp_fail(err, CP_E_TIMEOUT, "%s was not answered in %lld ms; the work goes on", operation,
                       (long long)timeout_ms);
    }
    r = got.err.code;
    if (r < 0 && err)
        cp_error_move(err, &got.err);
    cp_error_clear(&got.err);
    if (r == 0 && ret)
        *ret = cp_take(got.json);
    free(got.json);
    return r;
}

struct ctrlplane_events {
    cp_stream *source;
    cp_done *event;
    void *userdata;
};

static void on_event(void *userdata, const json_t *event, const cp_error *err) {
    const ctrlplane_events *events = userdata;
    cp_autofree char *text = event ? cp_json_text(event) : NULL;
    events->event(events->userdata, text, err);
}

int ctrlplane_stream(ctrlplane *plane, const char *operation, const char *id, const char *options, cp_done *event,
                     void *userdata, ctrlplane_events **ret, cp_error *err) {
    const cp_operation *op;
    cp_autojson json_t *args = NULL;
    int r = understand(operation, true, id, options, &op, &args, err);
    if (r < 0)
        return r;
    cp_autofree ctrlplane_events *events = cp_new0(ctrlplane_events);
    *events = (ctrlplane_events){.event = event, .userdata = userdata};
    r = cp_plane_stream(plane->engine.plane, op, id, args, NULL, on_event, events, &events->source, err);
    if (r < 0)
        return r;
    *ret = cp_take(events);
    return 0;
}

void ctrlplane_events_pause(ctrlplane_events *events) {
    cp_stream_pause(events->source);
}

void ctrlplane_events_resume(ctrlplane_events *events) {
    cp_stream_resume(events->source);
}

void ctrlplane_events_free(ctrlplane_events *events) {
    if (events)
        cp_stream_free(events->source);
    free(events);
}

#define DEFINE_WORKLOAD_OPERATION(name)                                                                                \
    int cp_workload_##name(ctrlplane *plane, const char *id, const char *options, cp_done *done, void *userdata,       \
                           cp_error *err) {                                                                            \
        return ctrlplane_call(plane, "workloads." #name, id, options, done, userdata, err);                            \
    }
CP_WORKLOAD_OPERATIONS(DEFINE_WORKLOAD_OPERATION)
