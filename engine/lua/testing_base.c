/* engine/lua/testing_base.c -- What specs may see of base: core.testing.base. Descriptors by one that has a field of
 * every type, text forms, ids, and the loop with Lua functions as its tasks. */
#ifdef CP_FAILPOINTS
#include "base/id.h"
#include "base/limits.h"
#include "base/loop.h"
#include "lua/lua.h"

#include <stdlib.h>
#include <string.h>

void cp_lua_testing_base(lua_State *L);

/* ---- a descriptor of everything ---- */

typedef struct part {
    char *name;
    int64_t size;
    char *secret;
} part;

typedef struct whole {
    char *id, *text, *port;
    int64_t count;
    double ratio;
    bool flag;
    int64_t at, wait, deadline;
    int word;
    cp_share share;
    cp_strings list;
    cp_map map;
    part object;
    part *pointer;
    cp_list parts;
    json_t *any;
    int64_t internal;
    uint64_t present;
} whole;

static void part_init(void *object) {
    ((part *)object)->size = 7;
}

static int whole_check(void *object, const char *path, cp_error *err) {
    const whole *w = object;
    if (w->count == 13)
        return cp_fail_at(err, CP_E_INVALID, "count", NULL, "count %s13 is refused", path);
    return 0;
}

static const char *const WORDS[] = {"blue_green", "rolling", "canary", NULL};

#define FIELD(owner, kind, member, ...)                                                                                \
    { .name = #member, .type = kind, .offset = offsetof(owner, member), __VA_ARGS__ }
static const cp_field PART_FIELDS[] = {
    FIELD(part, CP_STRING, name, .flags = CP_REQUIRED, .max = 8, .doc = "a name"),
    FIELD(part, CP_INT, size, .min = 0, .max = 100),
    FIELD(part, CP_STRING, secret, .flags = CP_NO_JSON),
};
static const cp_desc PART = {.name = "part",
                             .size = sizeof(part),
                             .fields = PART_FIELDS,
                             .count = CP_COUNT(PART_FIELDS),
                             .present = CP_NONE,
                             .init = part_init};
static const cp_field WHOLE_FIELDS[] = {
    FIELD(whole, CP_STRING, id, .flags = CP_READ_ONLY),
    FIELD(whole, CP_STRING, text, .flags = CP_REQUIRED | CP_BLANK_OK, .doc = "a text"),
    FIELD(whole, CP_STRING, port, .flags = CP_NUMBER_OK),
    FIELD(whole, CP_INT, count, .flags = CP_KEEP_EMPTY, .min = -5, .max = 1000),
    FIELD(whole, CP_DOUBLE, ratio, .min = 0, .max = 1),
    FIELD(whole, CP_BOOL, flag, .flags = 0),
    FIELD(whole, CP_TIME, at, .flags = 0),
    FIELD(whole, CP_DURATION, wait, .min = 100, .max = 60000),
    FIELD(whole, CP_DURATION, deadline, .min = -1),
    FIELD(whole, CP_ENUM, word, .values = WORDS),
    FIELD(whole, CP_SHARE, share, .flags = 0),
    FIELD(whole, CP_STRINGS, list, .max = 3),
    FIELD(whole, CP_MAP, map, .max = 3),
    FIELD(whole, CP_OBJECT, object, .desc = &PART),
    FIELD(whole, CP_POINTER, pointer, .flags = CP_NULLABLE, .desc = &PART),
    FIELD(whole, CP_LIST, parts, .desc = &PART, .max = 2),
    FIELD(whole, CP_JSON, any, .flags = 0),
    FIELD(whole, CP_INT, internal, .flags = CP_NO_JSON),
};
static const cp_desc WHOLE = {.name = "whole",
                              .size = sizeof(whole),
                              .fields = WHOLE_FIELDS,
                              .count = CP_COUNT(WHOLE_FIELDS),
                              .present = offsetof(whole, present),
                              .check = whole_check};

static void push_text(lua_State *L, const json_t *value) {
    cp_autofree char *text = cp_json_text(value);
    lua_pushstring(L, text);
}

/* parse(json text) -> json text of what was understood, sorted names that were given | nil, err */
static int parse(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    cp_autoerror cp_error err = {0};
    cp_autojson json_t *input = NULL;
    whole object, copy;
    cp_desc_init(&WHOLE, &object);
    if (cp_json_parse(text, len, CP_MAX_BODY, &input, &err) < 0 || cp_desc_parse(&WHOLE, input, &object, "", &err) < 0)
        return cp_lua_fail(L, &err);
    cp_desc_copy(&WHOLE, &copy, &object);
    cp_autojson json_t *json = cp_desc_json(&WHOLE, &copy), *given = json_array();
    for (size_t i = 0; i < WHOLE.count; i++)
        if (cp_desc_has(&WHOLE, &copy, WHOLE_FIELDS[i].name))
            json_array_append_new(given, json_string(WHOLE_FIELDS[i].name));
    bool equal = cp_desc_equal(&WHOLE, &object, &copy);
    cp_desc_clear(&WHOLE, &object);
    cp_desc_clear(&WHOLE, &copy);
    if (!equal)
        return luaL_error(L, "a copy differs from its original");
    push_text(L, json);
    push_text(L, given);
    return 2;
}

/* stored(json text) -> true when every field comes back from its stored form as it was; and that form */
static int stored(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    cp_autoerror cp_error err = {0};
    cp_autojson json_t *input = NULL, *form = json_object();
    whole object, back;
    cp_desc_init(&WHOLE, &object);
    if (cp_json_parse(text, len, CP_MAX_BODY, &input, &err) < 0 || cp_desc_parse(&WHOLE, input, &object, "", &err) < 0)
        return cp_lua_fail(L, &err);
    object.internal = 42;
    cp_set_string(&object.object.secret, "kept");
    cp_desc_init(&WHOLE, &back);
    int r = 0;
    for (size_t i = 0; i < WHOLE.count && r >= 0; i++) {
        json_t *value = cp_field_store_json(&WHOLE_FIELDS[i], &object);
        r = cp_field_store_parse(&WHOLE_FIELDS[i], value, &back, &err);
        json_object_set_new(form, WHOLE_FIELDS[i].name, value);
    }
    bool equal = r >= 0 && cp_desc_equal(&WHOLE, &object, &back);
    cp_desc_clear(&WHOLE, &object);
    cp_desc_clear(&WHOLE, &back);
    if (r < 0)
        return cp_lua_fail(L, &err);
    lua_pushboolean(L, equal);
    push_text(L, form);
    return 2;
}

/* json(text, max?) -> text, sorted text | nil, err */
static int json(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    cp_autoerror cp_error err = {0};
    cp_autojson json_t *value = NULL;
    if (cp_json_parse(text, len, (size_t)luaL_optnumber(L, 2, CP_MAX_BODY), &value, &err) < 0)
        return cp_lua_fail(L, &err);
    push_text(L, value);
    cp_autofree char *sorted = cp_json_sorted(value);
    lua_pushstring(L, sorted);
    return 2;
}

static int duration(lua_State *L) {
    int64_t ms = 0;
    cp_autoerror cp_error err = {0};
    if (cp_duration_parse(luaL_checkstring(L, 1), &ms, &err) < 0)
        return cp_lua_fail(L, &err);
    lua_pushnumber(L, (lua_Number)ms);
    return 1;
}

/* share(text, total, up) -> instances | nil, err */
static int share(lua_State *L) {
    cp_share value = {0};
    cp_autoerror cp_error err = {0};
    if (cp_share_parse(luaL_checkstring(L, 1), &value, &err) < 0)
        return cp_lua_fail(L, &err);
    lua_pushnumber(L, (lua_Number)cp_share_resolve(value, (int64_t)luaL_checknumber(L, 2), lua_toboolean(L, 3)));
    return 1;
}

/* time(text) -> ms, the same time as we write it | nil, err */
static int time_parse(lua_State *L) {
    int64_t ms = 0;
    char text[32];
    cp_autoerror cp_error err = {0};
    if (cp_time_parse(luaL_checkstring(L, 1), &ms, &err) < 0)
        return cp_lua_fail(L, &err);
    cp_time_format(ms, text);
    lua_pushnumber(L, (lua_Number)ms);
    lua_pushstring(L, text);
    return 2;
}

static int utf8(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_pushboolean(L, cp_utf8_valid(text, len));
    return 1;
}

static int id_new(lua_State *L) {
    cp_autofree char *id = cp_id_new(luaL_checkstring(L, 1), (int64_t)luaL_checknumber(L, 2));
    lua_pushstring(L, id);
    return 1;
}

static int id_seed(lua_State *L) {
    cp_id_seed((uint64_t)luaL_checknumber(L, 1));
    return 0;
}

/* ---- the loop ---- */

#define LOOP "ctrlplane.testing.loop"

typedef struct lua_loop {
    cp_loop *loop;
    lua_State *L;
    int hooks;     /* reference of the table of hooks */
    char *trouble; /* the first error of a task; raised when the turn is over */
    cp_timer *timers[16];
    struct task *tasks; /* of timers and of what is queued, freed with the loop */
} lua_loop;

typedef struct task {
    lua_loop *owner;
    int run, drop; /* references */
    struct task *next;
} task;

static lua_loop *check_loop(lua_State *L) {
    lua_loop *mine = luaL_checkudata(L, 1, LOOP);
    if (!mine->loop)
        luaL_error(L, "the loop is closed");
    return mine;
}

/* Calls the function on the stack's top without arguments; leaves one result. */
static void call(lua_loop *mine) {
    if (lua_pcall(mine->L, 0, 1, 0) == 0)
        return;
    if (!mine->trouble)
        mine->trouble = cp_strdup(lua_tostring(mine->L, -1));
}

static void call_reference(lua_loop *mine, int reference) {
    lua_rawgeti(mine->L, LUA_REGISTRYINDEX, reference);
    call(mine);
    lua_pop(mine->L, 1);
}

static void run_task(void *userdata) {
    task *t = userdata;
    call_reference(t->owner, t->run);
}

static void drop_task(void *userdata) {
    task *t = userdata;
    if (t->drop != LUA_REFNIL)
        call_reference(t->owner, t->drop);
}

static int ref_at(lua_State *L, int index) {
    lua_pushvalue(L, index);
    return luaL_ref(L, LUA_REGISTRYINDEX); /* LUA_REFNIL for nil */
}

static task *new_task(lua_State *L, lua_loop *mine, int run, int drop) {
    task *t = cp_new0(task);
    *t = (task){.owner = mine, .run = ref_at(L, run), .drop = ref_at(L, drop), .next = mine->tasks};
    mine->tasks = t;
    return t;
}

/* Calls hooks[name] when there is one; false when not. Leaves its result on the stack when it was called. */
static bool call_hook(lua_loop *mine, const char *name) {
    lua_rawgeti(mine->L, LUA_REGISTRYINDEX, mine->hooks);
    lua_getfield(mine->L, -1, name);
    lua_remove(mine->L, -2);
    if (lua_isnil(mine->L, -1)) {
        lua_pop(mine->L, 1);
        return false;
    }
    call(mine);
    return true;
}

static void hook_decide(void *userdata) {
    lua_loop *mine = userdata;
    if (call_hook(mine, "decide"))
        lua_pop(mine->L, 1);
}

static int hook_commit(void *userdata) {
    lua_loop *mine = userdata;
    bool held = true;
    if (call_hook(mine, "commit")) { /* false: it did not hold */
        held = lua_isnil(mine->L, -1) || lua_toboolean(mine->L, -1);
        lua_pop(mine->L, 1);
    }
    return held ? 0 : CP_E_STORAGE_FAILED;
}

static void hook_failed(void *userdata) {
    lua_loop *mine = userdata;
    if (call_hook(mine, "failed"))
        lua_pop(mine->L, 1);
}

static bool hook_pending(void *userdata) {
    lua_loop *mine = userdata;
    bool pending = false;
    if (call_hook(mine, "pending")) {
        pending = lua_toboolean(mine->L, -1);
        lua_pop(mine->L, 1);
    }
    return pending;
}

/* loop(virtual) -> loop */
static int loop_new(lua_State *L) {
    lua_loop *mine = lua_newuserdata(L, sizeof *mine);
    *mine = (lua_loop){.L = L, .hooks = LUA_NOREF};
    luaL_getmetatable(L, LOOP);
    lua_setmetatable(L, -2);
    cp_autoerror cp_error err = {0};
    return cp_loop_new(lua_toboolean(L, 1), &mine->loop, &err) < 0 ? cp_lua_fail(L, &err) : 1;
}

static int loop_close(lua_State *L) {
    lua_loop *mine = luaL_checkudata(L, 1, LOOP);
    mine->L = L;
    for (size_t i = 0; i < CP_COUNT(mine->timers); i++)
        cp_timer_free(mine->timers[i]);
    cp_loop_free(mine->loop);
    while (mine->tasks) {
        task *t = mine->tasks;
        mine->tasks = t->next;
        luaL_unref(L, LUA_REGISTRYINDEX, t->run);
        luaL_unref(L, LUA_REGISTRYINDEX, t->drop);
        free(t);
    }
    luaL_unref(L, LUA_REGISTRYINDEX, mine->hooks);
    free(mine->trouble);
    *mine = (lua_loop){.hooks = LUA_NOREF};
    return 0;
}

/* loop:hooks { decide, commit, failed, pending } */
static int loop_hooks(lua_State *L) {
    lua_loop *mine = check_loop(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_unref(L, LUA_REGISTRYINDEX, mine->hooks);
    mine->hooks = ref_at(L, 2);
    cp_loop_set_hooks(mine->loop, &(cp_loop_hooks){hook_decide, hook_commit, hook_failed, hook_pending, mine});
    return 0;
}

static int raise_trouble(lua_State *L, lua_loop *mine, int results) {
    if (!mine->trouble)
        return results;
    lua_pushstring(L, mine->trouble);
    free(mine->trouble);
    mine->trouble = NULL;
    return lua_error(L);
}

static int loop_turn(lua_State *L) {
    lua_loop *mine = check_loop(L);
    mine->L = L;
    lua_pushinteger(L, cp_loop_turn(mine->loop, (int64_t)luaL_optnumber(L, 2, 0)));
    return raise_trouble(L, mine, 1);
}

static bool until_true(void *userdata) {
    task *t = userdata;
    lua_rawgeti(t->owner->L, LUA_REGISTRYINDEX, t->run);
    call(t->owner);
    bool held = t->owner->trouble || lua_toboolean(t->owner->L, -1);
    lua_pop(t->owner->L, 1);
    return held;
}

/* loop:run(until?, timeout ms?) -> did it hold */
static int loop_run(lua_State *L) {
    lua_loop *mine = check_loop(L);
    mine->L = L;
    int64_t timeout = (int64_t)luaL_optnumber(L, 3, -1);
    lua_settop(L, 3);
    task *until = lua_isnil(L, 2) ? NULL : new_task(L, mine, 2, 3);
    lua_pushboolean(L, cp_loop_run(mine->loop, until ? until_true : NULL, until, timeout));
    return raise_trouble(L, mine, 1);
}

static int loop_advance(lua_State *L) {
    lua_loop *mine = check_loop(L);
    mine->L = L;
    cp_loop_advance(mine->loop, (int64_t)luaL_checknumber(L, 2));
    return raise_trouble(L, mine, 0);
}

static int loop_stop(lua_State *L) {
    cp_loop_stop(check_loop(L)->loop);
    return 0;
}

static int loop_defer(lua_State *L) {
    lua_loop *mine = check_loop(L);
    lua_settop(L, 3);
    task *t = new_task(L, mine, 2, 3);
    cp_loop_defer(mine->loop, run_task, t);
    lua_pushlightuserdata(L, t);
    return 1;
}

/* loop:effect(run, drop?) -> handle for forget */
static int loop_effect(lua_State *L) {
    lua_loop *mine = check_loop(L);
    lua_settop(L, 3);
    task *t = new_task(L, mine, 2, 3);
    cp_loop_effect(mine->loop, run_task, drop_task, t);
    lua_pushlightuserdata(L, t);
    return 1;
}

static int loop_forget(lua_State *L) {
    cp_loop_forget(check_loop(L)->loop, lua_touserdata(L, 2));
    return 0;
}

static int loop_mark(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)cp_loop_effect_mark(check_loop(L)->loop));
    return 1;
}

static int loop_rewind(lua_State *L) {
    cp_loop_effect_rewind(check_loop(L)->loop, (size_t)luaL_checkinteger(L, 2));
    return 0;
}

/* loop:timer(slot 1..16, fn): makes a timer; loop:start(slot, ms), loop:disarm(slot), loop:free(slot), loop:armed(slot)
 */
static cp_timer **check_slot(lua_State *L, lua_loop *mine) {
    int slot = luaL_checkint(L, 2);
    luaL_argcheck(L, slot >= 1 && slot <= (int)CP_COUNT(mine->timers), 2, "1..16");
    return &mine->timers[slot - 1];
}

static int loop_timer(lua_State *L) {
    lua_loop *mine = check_loop(L);
    lua_settop(L, 4);
    *check_slot(L, mine) = cp_timer_new(mine->loop, run_task, new_task(L, mine, 3, 4));
    return 0;
}

static int loop_start(lua_State *L) {
    cp_timer_start(*check_slot(L, check_loop(L)), (int64_t)luaL_checknumber(L, 3));
    return 0;
}

static int loop_disarm(lua_State *L) {
    cp_timer_stop(*check_slot(L, check_loop(L)));
    return 0;
}

static int loop_armed(lua_State *L) {
    lua_pushboolean(L, cp_timer_armed(*check_slot(L, check_loop(L))));
    return 1;
}

static int loop_free(lua_State *L) {
    cp_timer **slot = check_slot(L, check_loop(L));
    cp_timer_free(*slot);
    *slot = NULL;
    return 0;
}

/* loop:time() -> { wall, mono, watched, stall_max, next_timer }, all in ms */
static int loop_time(lua_State *L) {
    const cp_loop *loop = check_loop(L)->loop;
    cp_autojson json_t *times =
        json_pack("{s:I, s:I, s:I, s:I, s:I}", "wall", (json_int_t)cp_loop_wall(loop), "mono",
                  (json_int_t)cp_loop_mono(loop), "watched", (json_int_t)cp_loop_watched(loop), "stall_max",
                  (json_int_t)cp_loop_stall_max(loop), "next_timer", (json_int_t)cp_loop_next_timer(loop));
    cp_lua_push_json(L, times);
    return 1;
}

static int loop_fd(lua_State *L) {
    lua_pushinteger(L, cp_loop_fd(check_loop(L)->loop));
    return 1;
}

static int loop_random(lua_State *L) {
    cp_loop *loop = check_loop(L)->loop;
    if (!lua_isnoneornil(L, 2))
        cp_loop_seed(loop, (uint64_t)luaL_checknumber(L, 2));
    lua_pushnumber(L, (lua_Number)(cp_loop_random(loop) >> 11));
    return 1;
}

static const luaL_Reg LOOP_METHODS[] = {
    {"hooks", loop_hooks},     {"turn", loop_turn},     {"run", loop_run},
    {"advance", loop_advance}, {"stop", loop_stop},     {"defer", loop_defer},
    {"effect", loop_effect},   {"forget", loop_forget}, {"mark", loop_mark},
    {"rewind", loop_rewind},   {"timer", loop_timer},   {"start", loop_start},
    {"disarm", loop_disarm},   {"armed", loop_armed},   {"free", loop_free},
    {"time", loop_time},       {"fd", loop_fd},         {"random", loop_random},
    {"close", loop_close},     {"__gc", loop_close},    {NULL, NULL},
};

void cp_lua_testing_base(lua_State *L) {
    static const luaL_Reg FUNCTIONS[] = {{"parse", parse},       {"stored", stored}, {"json", json},
                                         {"duration", duration}, {"share", share},   {"time", time_parse},
                                         {"utf8", utf8},         {"id", id_new},     {"seed", id_seed},
                                         {"loop", loop_new},     {NULL, NULL}};
    luaL_newmetatable(L, LOOP);
    luaL_register(L, NULL, LOOP_METHODS);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_newtable(L);
    luaL_register(L, NULL, FUNCTIONS);
    lua_setfield(L, -2, "base");
}
#endif
