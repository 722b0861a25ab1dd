/* engine/lua/testing_model.c -- For specs and benchmarks: a request as raw JSON, every row of a plane's store as text,
 * and the time that decide_workload takes beside a floor. */
#ifdef CP_FAILPOINTS
#include "base/limits.h"
#include "lua/plane.h"
#include "model/decide.h"
#include "plane/internal.h" /* specs look inside */

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- requests ---- */

static void on_reply(void *userdata, const json_t *result, const cp_error *err) {
    cp_lua_wait_finish(userdata, err ? NULL : json_incref((json_t *)result), err);
}

static void cancel_call(cp_lua_wait *wait) {
    cp_call_cancel(wait->work);
}

/* call(plane, "workloads.create", id or nil, JSON text) -> result | nil, err: as the server does it */
static int call(lua_State *L) {
    cp_lua_plane *plane = cp_lua_check_plane(L, 1);
    const cp_operation *op = cp_operation_find(luaL_checkstring(L, 2));
    const char *id = luaL_optstring(L, 3, NULL);
    size_t len;
    const char *text = luaL_checklstring(L, 4, &len);
    cp_autojson json_t *args = NULL;
    cp_autoerror cp_error err = {0};
    luaL_argcheck(L, op, 2, "no such operation");
    if (cp_json_parse(text, len, CP_MAX_BODY, &args, &err) < 0)
        return cp_lua_fail(L, &err);
    lua_settop(L, 4);
    cp_lua_wait *wait = cp_lua_wait_new(L, plane, op->name);
    cp_call *started = NULL;
    cp_plane_call(plane->engine.plane, op, id, args, NULL, on_reply, wait, &started);
    wait->work = started;
    wait->cancel = cancel_call;
    return cp_lua_wait_for(L, wait);
}

/* ---- rows ---- */

typedef struct dumper {
    const cp_desc *desc;
    cp_buf out;
} dumper;

static int dump_row(void *userdata, void *row) {
    dumper *d = userdata;
    cp_buf_puts(&d->out, d->desc->table);
    for (size_t i = 0; i < d->desc->count; i++) {
        if (d->desc->fields[i].flags & CP_NO_SQL)
            continue;
        cp_autojson json_t *value = cp_field_store_json(&d->desc->fields[i], row);
        cp_autofree char *text = cp_json_sorted(value);
        cp_buf_printf(&d->out, " %s=%s", d->desc->fields[i].name, text);
    }
    cp_buf_puts(&d->out, "\n");
    return 0;
}

/* dump(plane) -> every row of every table, one per line, and the last event's number */
static int dump(lua_State *L) {
    static const cp_desc *const TABLES[] = {&cp_workload_desc,   &cp_replica_set_desc, &cp_instance_desc,
                                            &cp_release_desc,    &cp_deployment_desc,  &cp_command_desc,
                                            &cp_script_row_desc, &cp_event_desc};
    cp_store *store = cp_lua_check_plane(L, 1)->engine.plane->store;
    dumper d = {0};
    for (size_t i = 0; i < CP_COUNT(TABLES); i++) {
        cp_autoerror cp_error err = {0};
        d.desc = TABLES[i];
        if (cp_store_each(store, TABLES[i], NULL, NULL, NULL, -1, dump_row, &d, &err) < 0)
            cp_buf_printf(&d.out, "%s: %s\n", TABLES[i]->table, err.message);
    }
    cp_buf_printf(&d.out, "last event %lld\n", (long long)cp_store_event_last(store));
    lua_pushlstring(L, d.out.data, d.out.len);
    cp_buf_clear(&d.out);
    return 1;
}

/* ---- time ---- */

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int by_text(const void *a, const void *b) {
    return strcmp(((const cp_decide_replica *)a)->id, ((const cp_decide_replica *)b)->id);
}

static cp_decide_input world(int64_t count, const char *scene) {
    bool rolling = cp_streq(scene, "rolling"), empty = cp_streq(scene, "empty"), down = cp_streq(scene, "down");
    cp_decide_input input = {.replicas = down ? count / 2 : count,
                             .surge = {.set = true, .percent = true, .value = 25},
                             .unavailable = {.set = true, .percent = true, .value = 25}};
    static const char *const RELEASES[] = {"rel_01jd0000000000000000000001", "rel_01jd0000000000000000000002"};
    for (int i = 0; i < 2; i++) {
        cp_decide_set *set = cp_list_add(&input.sets, &cp_decide_set_desc);
        set->release_id = cp_strdup(RELEASES[i]);
        set->role = i ? CP_SET_NEW : CP_SET_OLD;
        set->order = i;
        set->goal = (cp_share){.set = true, .percent = true, .value = (i == 1) == (rolling || empty) ? 100 : 0};
    }
    for (int64_t i = 0; i < count && !empty; i++) {
        cp_decide_replica *row = cp_list_add(&input.instances, &cp_decide_replica_desc);
        row->id = cp_printf("inst_01jd%022lld", (long long)((i * 7919) % count));
        row->release_id = cp_strdup(RELEASES[rolling && i % 2]);
        row->replica_index = rolling ? i / 2 : i;
        row->state = CP_INSTANCE_RUNNING;
        row->ready = row->available = row->seen = true;
        row->generation = 1;
    }
    return input;
}

static double best_of(int64_t repeats, double (*run)(const cp_decide_input *), const cp_decide_input *input) {
    double best = 1e9;
    for (int64_t i = 0; i < repeats; i++) {
        double took = run(input);
        best = took < best ? took : best;
    }
    return best;
}

static double decide_once(const cp_decide_input *input) {
    cp_decide_output output = {0};
    double start = seconds();
    cp_decide_workload(input, &output);
    double took = seconds() - start;
    cp_desc_clear(&cp_decide_output_desc, &output);
    return took;
}

/* The floor: the same rows sorted once by qsort. */
static double sort_once(const cp_decide_input *input) {
    size_t size = input->instances.count * sizeof(cp_decide_replica);
    cp_autofree void *copy = cp_alloc0(size + 1);
    memcpy(copy, input->instances.items, size);
    double start = seconds();
    qsort(copy, input->instances.count, sizeof(cp_decide_replica), by_text);
    return seconds() - start;
}

/* bench(instances, "steady" | "rolling" | "down" | "empty", repeats) -> best seconds of decide_workload, of the floor
 */
static int bench(lua_State *L) {
    int64_t count = luaL_checkinteger(L, 1), repeats = luaL_checkinteger(L, 3);
    cp_decide_input input = world(count, luaL_checkstring(L, 2));
    double decide = best_of(repeats, decide_once, &input), floor = best_of(repeats, sort_once, &input);
    cp_desc_clear(&cp_decide_input_desc, &input);
    lua_pushnumber(L, decide);
    lua_pushnumber(L, floor);
    return 2;
}

void cp_lua_testing_model(lua_State *L) {
    static const luaL_Reg functions[] = {{"call", call}, {"dump", dump}, {"bench", bench}, {NULL, NULL}};
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    lua_setfield(L, -2, "model");
}
#endif
