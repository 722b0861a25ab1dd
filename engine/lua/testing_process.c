/* engine/lua/testing_process.c -- For specs: a bare process provider on a real loop, without a plane. Answers are kept
 * as values; no Lua runs in a callback. */
#ifdef CP_FAILPOINTS
#include "lua/lua.h"
#include "providers/process/process.h"

#include <stdlib.h>
#include <string.h>

#define HANDLE "ctrlplane.testing.process"

typedef struct reader { /* one log source and the lines that came */
    cp_provider *provider;
    cp_log_source *source;
    json_t *lines; /* {at_ns, stream, partial, cursor}; the texts apart: they may be any bytes */
    cp_vec texts;
    cp_buf *text;
    bool ended;
} reader;

typedef struct answer { /* of one operation */
    cp_provider_op *op;
    bool done;
    cp_error err;
    json_t *value;
    cp_buf output;
} answer;

typedef struct handle {
    cp_loop *loop;
    cp_provider *provider;
    cp_vec readers, answers;
    json_t *hints;
} handle;

static handle *check(lua_State *L) {
    handle *h = luaL_checkudata(L, 1, HANDLE);
    if (!h->provider)
        luaL_error(L, "this provider is closed");
    return h;
}

static void on_hint(void *userdata, const char *instance_id) {
    json_array_append_new(((handle *)userdata)->hints, instance_id ? json_string(instance_id) : json_null());
}

/* open { data_dir =, shim =, plane_id = } -> provider | nil, err */
static int open_provider(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_getfield(L, 1, "data_dir");
    lua_getfield(L, 1, "shim");
    lua_getfield(L, 1, "plane_id");
    handle *h = lua_newuserdata(L, sizeof *h);
    *h = (handle){0};
    cp_autoerror cp_error err = {0};
    if (cp_loop_new(false, &h->loop, &err) < 0)
        return cp_lua_fail(L, &err);
    if (cp_process_provider_new(h->loop, "process", luaL_checkstring(L, 2), luaL_checkstring(L, 3),
                                luaL_checkstring(L, 4), &h->provider, &err) < 0) {
        cp_loop_free(h->loop);
        return cp_lua_fail(L, &err);
    }
    h->hints = json_array();
    h->provider->class->watch(h->provider, on_hint, h);
    luaL_getmetatable(L, HANDLE);
    lua_setmetatable(L, -2);
    return 1;
}

static void free_reader(reader *r) {
    if (r->source)
        r->provider->class->logs_free(r->provider, r->source);
    for (size_t i = 0; i < r->texts.count; i++) {
        cp_buf_clear(r->texts.items[i]);
        free(r->texts.items[i]);
    }
    cp_vec_clear(&r->texts);
    json_decref(r->lines);
    free(r);
}

/* close(): detaches, as an engine that ends does. */
static int close_provider(lua_State *L) {
    handle *h = luaL_checkudata(L, 1, HANDLE);
    if (!h->provider)
        return 0;
    for (size_t i = 0; i < h->readers.count; i++)
        free_reader(h->readers.items[i]);
    cp_vec_clear(&h->readers);
    h->provider->class->free(h->provider);
    for (size_t i = 0; i < h->answers.count; i++) {
        answer *a = h->answers.items[i];
        cp_error_clear(&a->err);
        json_decref(a->value);
        cp_buf_clear(&a->output);
        free(a);
    }
    cp_vec_clear(&h->answers);
    cp_loop_free(h->loop);
    json_decref(h->hints);
    *h = (handle){0};
    return 0;
}

static bool is_done(void *userdata) {
    return ((answer *)userdata)->done;
}

static answer *new_answer(handle *h) {
    answer *a = cp_new0(answer);
    cp_vec_push(&h->answers, a);
    return a;
}

/* Turns the loop until the answer is there. Pushes true or the value, or nil and the error. */
static int push_answer(lua_State *L, handle *h, answer *a) {
    if (!cp_loop_run(h->loop, is_done, a, 60000))
        return luaL_error(L, "no answer in a minute");
    if (a->err.code)
        return cp_lua_fail(L, &a->err);
    if (a->value)
        cp_lua_push_json(L, a->value);
    else
        lua_pushboolean(L, true);
    return 1;
}

static void on_done(void *userdata, const cp_error *err) {
    answer *a = userdata;
    if (err)
        cp_error_copy(&a->err, err);
    a->op = NULL;
    a->done = true;
}

static int start_operation(lua_State *L, handle *h, answer **ret) {
    static const char *const kinds[] = {"none", "provision", "start", "stop", "restart", "update", "deprovision", NULL};
    int kind = luaL_checkoption(L, 2, NULL, kinds);
    lua_getfield(L, 3, "remove_volumes");
    bool remove_volumes = lua_toboolean(L, -1);
    lua_pushnil(L);
    lua_setfield(L, 3, "remove_volumes");
    cp_autojson json_t *json = NULL;
    cp_autoerror cp_error err = {0};
    cp_record r = {0};
    int failed = cp_lua_to_json(L, 3, &cp_record_desc, &json, &err);
    if (failed == 0)
        failed = cp_desc_parse(&cp_record_desc, json, &r, "", &err);
    if (failed < 0)
        return cp_lua_fail(L, &err);
    cp_runtime_spec spec = {.instance_id = r.instance_id,
                            .name = r.name,
                            .workload_id = r.workload_id,
                            .workload_slug = r.workload_slug,
                            .workload_name = r.workload_name,
                            .release_id = r.release_id,
                            .tenant_id = r.tenant_id,
                            .plane_id = r.plane_id,
                            .replica_index = r.replica_index,
                            .generation = r.generation,
                            .kind = r.kind,
                            .services = &r.services,
                            .remove_volumes = remove_volumes};
    answer *a = new_answer(h);
    failed = h->provider->class->operate(h->provider, (cp_op_kind)kind, &spec, on_done, a, &a->op, &err);
    cp_desc_clear(&cp_record_desc, &r);
    if (failed < 0)
        return cp_lua_fail(L, &err);
    *ret = a;
    return 0;
}

/* operate(kind, instance) -> true | nil, err */
static int operate(lua_State *L) {
    handle *h = check(L);
    answer *a = NULL;
    int failed = start_operation(L, h, &a);
    return failed ? failed : push_answer(L, h, a);
}

/* begin(kind, instance) -> number | nil, err: the operation goes on in turns; finish(number) waits for it */
static int begin(lua_State *L) {
    handle *h = check(L);
    answer *a = NULL;
    int failed = start_operation(L, h, &a);
    if (failed)
        return failed;
    lua_pushinteger(L, (lua_Integer)h->answers.count);
    return 1;
}

static answer *answer_at(lua_State *L, handle *h) {
    size_t index = (size_t)luaL_checkinteger(L, 2);
    luaL_argcheck(L, index >= 1 && index <= h->answers.count, 2, "no such operation");
    return h->answers.items[index - 1];
}

static int finish(lua_State *L) {
    handle *h = check(L);
    return push_answer(L, h, answer_at(L, h));
}

static int cancel(lua_State *L) {
    handle *h = check(L);
    answer *a = answer_at(L, h);
    if (a->op)
        h->provider->class->cancel(h->provider, a->op);
    a->op = NULL;
    return 0;
}

static int read_services(lua_State *L, cp_list *ret, cp_error *err) {
    cp_autojson json_t *json = NULL;
    int r = cp_lua_to_json(L, 2, NULL, &json, err);
    for (size_t i = 0; r == 0 && i < json_array_size(json); i++) {
        cp_service *service = cp_list_add(ret, &cp_service_desc);
        r = cp_desc_parse(&cp_service_desc, json_array_get(json, i), service, "services", err);
    }
    return r;
}

static int start_prepare(handle *h, const cp_list *services, answer **ret, cp_error *err) {
    answer *a = *ret = new_answer(h);
    int r = h->provider->class->prepare(h->provider, services, on_done, a, &a->op, err);
    a->done = r == 0 && !a->op;
    return r;
}

/* prepare(services) -> number | nil, err: goes on in turns; finish(number) waits for it, cancel(number) gives it up */
static int prepare(lua_State *L) {
    handle *h = check(L);
    cp_autoerror cp_error err = {0};
    cp_record r = {0};
    answer *a;
    int failed = read_services(L, &r.services, &err);
    if (failed == 0)
        failed = start_prepare(h, &r.services, &a, &err);
    cp_desc_clear(&cp_record_desc, &r);
    if (failed < 0)
        return cp_lua_fail(L, &err);
    lua_pushinteger(L, (lua_Integer)h->answers.count);
    return 1;
}

/* retain(images): which images releases name */
static int retain(lua_State *L) {
    handle *h = check(L);
    cp_strings images = {0};
    for (size_t i = 1; i <= lua_objlen(L, 2); i++) {
        lua_rawgeti(L, 2, (int)i);
        cp_strings_add(&images, lua_tostring(L, -1));
        lua_pop(L, 1);
    }
    h->provider->class->retain(h->provider, &images);
    cp_strings_clear(&images);
    return 0;
}

static int prepared(lua_State *L, handle *h, const cp_list *services, cp_error *err) {
    answer *a;
    int r = start_prepare(h, services, &a, err);
    if (r == 0 && !cp_loop_run(h->loop, is_done, a, 60000))
        return luaL_error(L, "no answer in a minute");
    if (r == 0 && a->err.code) {
        cp_error_copy(err, &a->err);
        r = a->err.code;
    }
    return r;
}

/* resolve(services) -> services | nil, err: prepares them first */
static int resolve(lua_State *L) {
    handle *h = check(L);
    cp_autoerror cp_error err = {0};
    cp_record r = {0};
    json_t *out = NULL;
    int failed = read_services(L, &r.services, &err);
    if (failed == 0)
        failed = prepared(L, h, &r.services, &err);
    if (failed == 0)
        failed = h->provider->class->resolve(h->provider, &r.services, &err);
    if (failed == 0) {
        out = json_array();
        for (size_t i = 0; i < r.services.count; i++)
            json_array_append_new(out, cp_desc_json(&cp_service_desc, CP_LIST_AT(&r.services, cp_service, i)));
    }
    cp_desc_clear(&cp_record_desc, &r);
    if (failed < 0)
        return cp_lua_fail(L, &err);
    cp_lua_push_json(L, out);
    json_decref(out);
    return 1;
}

static const char *const seen_words[] = {"unknown", "absent", "starting", "running", "stopped", "failed", "lost"};

static json_t *observation_json(const cp_observation *o) {
    json_t *json = cp_desc_json(&cp_observation_desc, o);
    json_object_set_new(json, "seen", json_string(seen_words[o->seen]));
    return json;
}

static void on_seen(void *userdata, const cp_observation *observation, const cp_error *err) {
    answer *a = userdata;
    a->done = true;
    if (err)
        cp_error_copy(&a->err, err);
    else
        a->value = observation_json(observation);
}

static void on_listed(void *userdata, const cp_observation *items, size_t count, const cp_error *err) {
    answer *a = userdata;
    a->done = true;
    if (err)
        cp_error_copy(&a->err, err);
    a->value = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(a->value, observation_json(&items[i]));
}

static int status(lua_State *L) {
    handle *h = check(L);
    answer *a = new_answer(h);
    if (h->provider->class->status(h->provider, luaL_checkstring(L, 2), on_seen, a, &a->err) < 0)
        return cp_lua_fail(L, &a->err);
    return push_answer(L, h, a);
}

static int list(lua_State *L) {
    handle *h = check(L);
    answer *a = new_answer(h);
    if (h->provider->class->list(h->provider, on_listed, a, &a->err) < 0)
        return cp_lua_fail(L, &a->err);
    return push_answer(L, h, a);
}

/* turn(ms): runs the loop for so long. */
static int turn(lua_State *L) {
    handle *h = check(L);
    cp_loop_run(h->loop, NULL, NULL, luaL_checkinteger(L, 2));
    return 0;
}

/* hints() -> the ids that were hinted since the last call */
static int hints(lua_State *L) {
    handle *h = check(L);
    cp_lua_push_json(L, h->hints);
    json_array_clear(h->hints);
    return 1;
}

static void on_line(void *userdata, const cp_log_line *line, const cp_error *err) {
    reader *r = userdata;
    (void)err;
    if (!line) {
        r->ended = true;
        return;
    }
    json_array_append_new(r->lines, json_pack("{s:I, s:s, s:b, s:s}", "at_ns", (json_int_t)line->at_ns, "stream",
                                              line->stderr_stream ? "stderr" : "stdout", "partial", line->partial,
                                              "cursor", line->cursor));
    cp_buf *text = cp_new0(cp_buf);
    cp_buf_add(text, line->text, line->len);
    cp_vec_push(&r->texts, text);
}

/* logs(instance_id, service | nil, { follow, since, tail, after }) -> number | nil, err: read with lines(number) */
static int logs(lua_State *L) {
    handle *h = check(L);
    cp_log_options options = {.tail = -1};
    if (lua_istable(L, 4)) {
        lua_getfield(L, 4, "follow");
        lua_getfield(L, 4, "since");
        lua_getfield(L, 4, "tail");
        lua_getfield(L, 4, "after");
        options.follow = lua_toboolean(L, 5);
        options.since = (int64_t)luaL_optnumber(L, 6, 0);
        options.tail = luaL_optinteger(L, 7, -1);
        options.after = luaL_optstring(L, 8, NULL);
    }
    cp_autoerror cp_error err = {0};
    reader *r = cp_new0(reader);
    r->provider = h->provider;
    r->lines = json_array();
    if (h->provider->class->logs(h->provider, luaL_checkstring(L, 2), luaL_optstring(L, 3, NULL), &options, on_line, r,
                                 &r->source, &err) < 0) {
        free_reader(r);
        return cp_lua_fail(L, &err);
    }
    cp_vec_push(&h->readers, r);
    lua_pushinteger(L, (lua_Integer)h->readers.count);
    return 1;
}

/* lines(number) -> { {text, at_ns, stream, partial, cursor} ... } that came since the last call, ended */
static int lines(lua_State *L) {
    handle *h = check(L);
    size_t index = (size_t)luaL_checkinteger(L, 2);
    luaL_argcheck(L, index >= 1 && index <= h->readers.count, 2, "no such reader");
    reader *r = h->readers.items[index - 1];
    lua_newtable(L);
    for (size_t i = 0; i < r->texts.count; i++) {
        cp_buf *text = r->texts.items[i];
        cp_lua_push_json(L, json_array_get(r->lines, i));
        lua_pushlstring(L, text->data ? text->data : "", text->len);
        lua_setfield(L, -2, "text");
        lua_rawseti(L, -2, (int)i + 1);
        cp_buf_clear(text);
        free(text);
    }
    cp_vec_clear(&r->texts);
    json_array_clear(r->lines);
    lua_pushboolean(L, r->ended);
    return 2;
}

static void on_exec(void *userdata, const cp_exec_result *result, const cp_error *err) {
    answer *a = userdata;
    a->done = true;
    a->op = NULL;
    if (err) {
        cp_error_copy(&a->err, err);
        return;
    }
    a->value = json_pack("{s:I}", "exit_code", (json_int_t)result->exit_code);
    cp_buf_add(&a->output, result->output, result->len);
}

/* exec(instance_id, service | nil, { command ... }, timeout ms) -> { exit_code =, output = } | nil, err */
static int exec(lua_State *L) {
    handle *h = check(L);
    cp_strings command = {0};
    for (int i = 1; i <= (int)lua_objlen(L, 4); i++) {
        lua_rawgeti(L, 4, i);
        cp_strings_add(&command, luaL_checkstring(L, -1));
        lua_pop(L, 1);
    }
    answer *a = new_answer(h);
    int r = h->provider->class->exec(h->provider, luaL_checkstring(L, 2), luaL_optstring(L, 3, NULL), &command,
                                     luaL_optinteger(L, 5, 0), on_exec, a, &a->op, &a->err);
    cp_strings_clear(&command);
    if (r < 0)
        return cp_lua_fail(L, &a->err);
    r = push_answer(L, h, a);
    if (r == 1) {
        lua_pushlstring(L, a->output.data ? a->output.data : "", a->output.len);
        lua_setfield(L, -2, "output");
    }
    return r;
}

static int info(lua_State *L) {
    handle *h = check(L);
    cp_autojson json_t *json = h->provider->class->info(h->provider);
    cp_lua_push_json(L, json);
    return 1;
}

void cp_lua_testing_process(lua_State *L);
void cp_lua_testing_process(lua_State *L) {
    static const luaL_Reg methods[] = {
        {"close", close_provider},
        {"operate", operate},
        {"begin", begin},
        {"finish", finish},
        {"cancel", cancel},
        {"resolve", resolve},
        {"prepare", prepare},
        {"retain", retain},
        {"status", status},
        {"list", list},
        {"turn", turn},
        {"hints", hints},
        {"logs", logs},
        {"lines", lines},
        {"exec", exec},
        {"info", info},
        {"__gc", close_provider},
        {NULL, NULL},
    };
    luaL_newmetatable(L, HANDLE);
    luaL_register(L, NULL, methods);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushcfunction(L, open_provider);
    lua_setfield(L, -2, "open");
    lua_setfield(L, -2, "process");
}
#endif
