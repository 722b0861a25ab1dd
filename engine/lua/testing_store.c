/* engine/lua/testing_store.c -- What specs may see of the store: core.testing.store. Opens stores on files and on disks
 * in memory (store/fault_vfs.h); rows are tables with the columns of the descriptor, times and durations in ms.
 *   open(path, vfs?) -> store    owner(path) -> pid    schema(extra)    sql(path, text) -> rows    disk(seed) -> disk
 */
#ifdef CP_FAILPOINTS
#include "lua/lua.h"
#include "model/entity.h"
#include "store/fault_vfs.h"
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>

void cp_lua_testing_store(lua_State *L);
extern int cp_store_test_steps;

#define STORE "ctrlplane.testing.store"
#define DISK "ctrlplane.testing.disk"

static const cp_desc *const TABLES[] = {&cp_workload_desc,   &cp_replica_set_desc, &cp_instance_desc,
                                        &cp_release_desc,    &cp_deployment_desc,  &cp_command_desc,
                                        &cp_script_row_desc, &cp_event_desc};

static cp_store *check_store(lua_State *L) {
    cp_store **slot = luaL_checkudata(L, 1, STORE);
    if (!*slot)
        luaL_error(L, "the store is closed");
    return *slot;
}

static const cp_desc *check_table(lua_State *L, int index) {
    const char *name = luaL_checkstring(L, index);
    for (size_t i = 0; i < CP_COUNT(TABLES); i++)
        if (strcmp(TABLES[i]->table, name) == 0)
            return TABLES[i];
    luaL_error(L, "there is no table '%s'", name);
    return NULL;
}

/* true, or nil and the error. */
static int answer(lua_State *L, int r, const cp_error *err) {
    if (r < 0)
        return cp_lua_fail(L, err);
    lua_pushboolean(L, true);
    return 1;
}

static int store_open(lua_State *L) {
    const char *path = luaL_checkstring(L, 1), *vfs = luaL_optstring(L, 2, NULL);
    cp_store **slot = lua_newuserdata(L, sizeof *slot);
    *slot = NULL;
    luaL_getmetatable(L, STORE);
    lua_setmetatable(L, -2);
    cp_autoerror cp_error err = {0};
    return cp_store_open(path, vfs, slot, &err) < 0 ? cp_lua_fail(L, &err) : 1;
}

static int store_close(lua_State *L) {
    cp_store **slot = luaL_checkudata(L, 1, STORE);
    cp_store_close(*slot);
    *slot = NULL;
    return 0;
}

static json_t *row_json(const cp_desc *desc, const void *row) {
    json_t *object = json_object();
    for (size_t i = 0; i < desc->count; i++)
        if (cp_is_column(&desc->fields[i]))
            json_object_set_new(object, desc->fields[i].name, cp_field_store_json(&desc->fields[i], row));
    return object;
}

/* Reads the table at index into a row, over the defaults. */
static int read_row(lua_State *L, int index, const cp_desc *desc, void *row, cp_error *err) {
    cp_autojson json_t *object = NULL;
    int r = cp_lua_to_json(L, index, NULL, &object, err);
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        const cp_field *field = cp_desc_field(desc, key);
        if (r >= 0)
            r = field ? cp_field_store_parse(field, value, row, err)
                      : cp_fail(err, CP_E_INVALID, "%s has no column %s", desc->table, key);
    }
    return r;
}

typedef int write_row(cp_store *store, const cp_desc *desc, const void *row, cp_error *err);

static int write(lua_State *L, cp_store *store, const cp_desc *desc, int index, write_row *function) {
    cp_autoerror cp_error err = {0};
    cp_autofree void *row = cp_alloc0(desc->size);
    cp_desc_init(desc, row);
    int r = read_row(L, index, desc, row, &err);
    r = r < 0 ? r : function(store, desc, row, &err);
    cp_desc_clear(desc, row);
    return answer(L, r, &err);
}

static int store_put(lua_State *L) {
    return write(L, check_store(L), check_table(L, 2), 3, cp_store_put);
}

static int append(cp_store *store, const cp_desc *desc, const void *row, cp_error *err) {
    (void)desc;
    return cp_store_event_append(store, (void *)row, err);
}

static int store_event(lua_State *L) {
    cp_store *store = check_store(L);
    int n = write(L, store, &cp_event_desc, 2, append);
    if (n == 1)
        lua_pushnumber(L, (lua_Number)cp_store_event_last(store));
    return n;
}

static int store_event_last(lua_State *L) {
    lua_pushnumber(L, (lua_Number)cp_store_event_last(check_store(L)));
    return 1;
}

static int store_delete(lua_State *L) {
    cp_autoerror cp_error err = {0};
    return answer(L, cp_store_delete(check_store(L), check_table(L, 2), luaL_checkstring(L, 3), &err), &err);
}

static int store_get(lua_State *L) {
    cp_store *store = check_store(L);
    const cp_desc *desc = check_table(L, 2);
    const char *id = luaL_checkstring(L, 3);
    cp_autoerror cp_error err = {0};
    cp_autofree void *row = cp_alloc0(desc->size);
    if (cp_store_get(store, desc, id, row, &err) < 0)
        return cp_lua_fail(L, &err);
    cp_autojson json_t *object = row_json(desc, row);
    cp_desc_clear(desc, row);
    cp_lua_push_json(L, object);
    return 1;
}

struct gather {
    const cp_desc *desc;
    json_t *list;
};

static int gather_row(void *userdata, void *row) {
    struct gather *gather = userdata;
    json_array_append_new(gather->list, row_json(gather->desc, row));
    return 0;
}

enum { MOST_VALUES = 8 };

/* A list of texts at index, NULL-terminated; lent by the table. */
static void read_values(lua_State *L, int index, const char *values[MOST_VALUES + 1]) {
    int count = lua_istable(L, index) ? (int)lua_objlen(L, index) : 0;
    for (int i = 0; i < count && i < MOST_VALUES; i++) {
        lua_rawgeti(L, index, i + 1);
        values[i] = luaL_checkstring(L, -1);
        lua_pop(L, 1);
    }
}

/* store:each(table, where?, values?, order?, limit?) -> list of rows */
static int store_each(lua_State *L) {
    cp_store *store = check_store(L);
    struct gather gather = {.desc = check_table(L, 2)};
    const char *values[MOST_VALUES + 1] = {NULL};
    read_values(L, 4, values);
    const char *where = luaL_optstring(L, 3, NULL), *order = luaL_optstring(L, 5, NULL);
    int64_t limit = (int64_t)luaL_optnumber(L, 6, 0);
    cp_autoerror cp_error err = {0};
    cp_autojson json_t *list = gather.list = json_array();
    if (cp_store_each(store, gather.desc, where, values, order, limit, gather_row, &gather, &err) < 0)
        return cp_lua_fail(L, &err);
    cp_lua_push_json(L, list);
    return 1;
}

static int store_count(lua_State *L) {
    cp_store *store = check_store(L);
    const cp_desc *desc = check_table(L, 2);
    const char *values[MOST_VALUES + 1] = {NULL};
    read_values(L, 4, values);
    int64_t count = 0;
    cp_autoerror cp_error err = {0};
    if (cp_store_count(store, desc, luaL_optstring(L, 3, NULL), values, &count, &err) < 0)
        return cp_lua_fail(L, &err);
    lua_pushnumber(L, (lua_Number)count);
    return 1;
}

static int store_prune(lua_State *L) {
    const char *values[MOST_VALUES + 1] = {NULL};
    read_values(L, 4, values);
    cp_autoerror cp_error err = {0};
    return answer(L, cp_store_prune(check_store(L), check_table(L, 2), luaL_checkstring(L, 3), values, &err), &err);
}

static int store_commit(lua_State *L) {
    cp_autoerror cp_error err = {0};
    return answer(L, cp_store_commit(check_store(L), &err), &err);
}

static int store_rollback(lua_State *L) {
    cp_store_rollback(check_store(L));
    return 0;
}

static int store_savepoint(lua_State *L) {
    cp_autoerror cp_error err = {0};
    return answer(L, cp_store_savepoint(check_store(L), &err), &err);
}

static int store_release(lua_State *L) {
    cp_store_release(check_store(L));
    return 0;
}

static int store_undo(lua_State *L) {
    cp_store_undo(check_store(L));
    return 0;
}

static int store_dirty(lua_State *L) {
    lua_pushboolean(L, cp_store_dirty(check_store(L)));
    return 1;
}

static int store_failed(lua_State *L) {
    lua_pushboolean(L, cp_store_failed(check_store(L)));
    return 1;
}

static int store_recover(lua_State *L) {
    cp_autoerror cp_error err = {0};
    return answer(L, cp_store_recover(check_store(L), &err), &err);
}

static int store_check(lua_State *L) {
    cp_autoerror cp_error err = {0};
    return answer(L, cp_store_check(check_store(L), &err), &err);
}

static int store_stats(lua_State *L) {
    cp_autojson json_t *stats = cp_store_stats(check_store(L));
    cp_lua_push_json(L, stats);
    return 1;
}

/* store:meta(key) -> value | nil; store:meta(key, value) -> true | nil, err */
static int store_meta(lua_State *L) {
    cp_store *store = check_store(L);
    const char *key = luaL_checkstring(L, 2);
    cp_autoerror cp_error err = {0};
    if (!lua_isnoneornil(L, 3))
        return answer(L, cp_store_meta_set(store, key, luaL_checkstring(L, 3), &err), &err);
    cp_autofree char *value = cp_store_meta_get(store, key);
    lua_pushstring(L, value); /* nil when NULL */
    return 1;
}

/* store:exec(sql): anything, outside of the turn's bookkeeping. */
static int store_exec(lua_State *L) {
    cp_autoerror cp_error err = {0};
    return answer(L, cp_store_exec(check_store(L), luaL_checkstring(L, 2), &err), &err);
}

static const luaL_Reg STORE_METHODS[] = {
    {"put", store_put},
    {"delete", store_delete},
    {"get", store_get},
    {"each", store_each},
    {"count", store_count},
    {"prune", store_prune},
    {"event", store_event},
    {"event_last", store_event_last},
    {"commit", store_commit},
    {"rollback", store_rollback},
    {"savepoint", store_savepoint},
    {"release", store_release},
    {"undo", store_undo},
    {"dirty", store_dirty},
    {"failed", store_failed},
    {"recover", store_recover},
    {"check", store_check},
    {"stats", store_stats},
    {"meta", store_meta},
    {"exec", store_exec},
    {"close", store_close},
    {"__gc", store_close},
    {NULL, NULL},
};

/* ---- disks ---- */

typedef struct lua_disk {
    cp_disk *disk;
    lua_State *L;
    int hook;      /* reference, or LUA_NOREF */
    char *trouble; /* the first error of the hook */
} lua_disk;

static lua_disk *check_disk(lua_State *L) {
    lua_disk *disk = luaL_checkudata(L, 1, DISK);
    if (!disk->disk)
        luaL_error(L, "the disk is gone");
    return disk;
}

static int push_disk(lua_State *L, cp_disk *made) {
    lua_disk *disk = lua_newuserdata(L, sizeof *disk);
    *disk = (lua_disk){.disk = made, .L = L, .hook = LUA_NOREF};
    luaL_getmetatable(L, DISK);
    lua_setmetatable(L, -2);
    return 1;
}

static int disk_new(lua_State *L) {
    return push_disk(L, cp_disk_new((uint64_t)luaL_optnumber(L, 1, 1)));
}

static int disk_clone(lua_State *L) {
    return push_disk(L, cp_disk_clone(check_disk(L)->disk));
}

static int disk_vfs(lua_State *L) {
    lua_pushstring(L, cp_disk_vfs(check_disk(L)->disk));
    return 1;
}

static int disk_crash(lua_State *L) {
    cp_disk_crash(check_disk(L)->disk, (uint64_t)luaL_checknumber(L, 2));
    return 0;
}

/* disk:fail { call = "sync", n = 3, times = 1 (0: for ever), full = false }; disk:fail(nil) ends it */
static int disk_fail(lua_State *L) {
    cp_disk *disk = check_disk(L)->disk;
    if (lua_isnoneornil(L, 2)) {
        cp_disk_fail(disk, CP_DISK_ANY, 0, 0, false);
        return 0;
    }
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_getfield(L, 2, "call");
    lua_getfield(L, 2, "n");
    lua_getfield(L, 2, "times");
    lua_getfield(L, 2, "full");
    int call = luaL_checkoption(L, -4, "any", cp_disk_calls);
    cp_disk_fail(disk, (cp_disk_call)call, (int64_t)luaL_optnumber(L, -3, 1), (int64_t)luaL_optnumber(L, -2, 1),
                 lua_toboolean(L, -1));
    return 0;
}

static int disk_came(lua_State *L) {
    lua_pushboolean(L, cp_disk_failing(check_disk(L)->disk));
    return 1;
}

static int disk_count(lua_State *L) {
    cp_disk *disk = check_disk(L)->disk;
    lua_pushnumber(L, (lua_Number)cp_disk_count(disk, (cp_disk_call)luaL_checkoption(L, 2, "any", cp_disk_calls)));
    return 1;
}

static void on_sync(void *userdata, cp_disk *disk) {
    (void)disk;
    lua_disk *mine = userdata;
    lua_rawgeti(mine->L, LUA_REGISTRYINDEX, mine->hook);
    if (lua_pcall(mine->L, 0, 0, 0) != 0) { /* it must not unwind SQLite */
        if (!mine->trouble)
            mine->trouble = cp_strdup(lua_tostring(mine->L, -1));
        lua_pop(mine->L, 1);
    }
}

/* disk:on_sync(fn): called before each sync; disk:on_sync(nil) ends that and raises what fn raised. */
static int disk_on_sync(lua_State *L) {
    lua_disk *disk = check_disk(L);
    luaL_unref(L, LUA_REGISTRYINDEX, disk->hook);
    disk->hook = LUA_NOREF;
    cp_disk_on_sync(disk->disk, NULL, NULL);
    if (disk->trouble) {
        lua_pushstring(L, disk->trouble);
        free(disk->trouble);
        disk->trouble = NULL;
        return lua_error(L);
    }
    if (lua_isnoneornil(L, 2))
        return 0;
    lua_settop(L, 2);
    disk->L = L;
    disk->hook = luaL_ref(L, LUA_REGISTRYINDEX);
    cp_disk_on_sync(disk->disk, on_sync, disk);
    return 0;
}

static int disk_free(lua_State *L) {
    lua_disk *disk = luaL_checkudata(L, 1, DISK);
    luaL_unref(L, LUA_REGISTRYINDEX, disk->hook);
    free(disk->trouble);
    cp_disk_free(disk->disk);
    *disk = (lua_disk){.hook = LUA_NOREF};
    return 0;
}

/* No __gc: a store on it may be collected later. Specs free their disks. */
static const luaL_Reg DISK_METHODS[] = {
    {"vfs", disk_vfs},     {"crash", disk_crash},     {"clone", disk_clone}, {"fail", disk_fail}, {"came", disk_came},
    {"count", disk_count}, {"on_sync", disk_on_sync}, {"free", disk_free},   {NULL, NULL},
};

/* ---- the module ---- */

static int store_owner(lua_State *L) {
    lua_pushnumber(L, (lua_Number)cp_store_owner(luaL_checkstring(L, 1)));
    return 1;
}

static int store_schema(lua_State *L) {
    cp_store_test_steps = (int)luaL_optnumber(L, 1, 0);
    lua_pushnumber(L, (lua_Number)cp_store_schema());
    return 1;
}

static int add_sql_row(void *userdata, int columns, char **values, char **names) {
    (void)names;
    json_t *row = json_array();
    for (int i = 0; i < columns; i++)
        json_array_append_new(row, values[i] ? json_string(values[i]) : json_null());
    json_array_append_new(userdata, row);
    return 0;
}

/* sql(path, text) -> rows of texts | nil, message: as any other program that opens the file would. */
static int store_sql(lua_State *L) {
    const char *path = luaL_checkstring(L, 1), *text = luaL_checkstring(L, 2);
    sqlite3 *db = NULL;
    cp_autojson json_t *rows = json_array();
    int r = sqlite3_open(path, &db);
    r = r == SQLITE_OK ? sqlite3_exec(db, text, add_sql_row, rows, NULL) : r;
    cp_autofree char *message = cp_strdup(sqlite3_errmsg(db));
    sqlite3_close(db);
    if (r != SQLITE_OK) {
        lua_pushnil(L);
        lua_pushstring(L, message);
        return 2;
    }
    cp_lua_push_json(L, rows);
    return 1;
}

static void add_class(lua_State *L, const char *name, const luaL_Reg *methods) {
    luaL_newmetatable(L, name);
    luaL_register(L, NULL, methods);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

void cp_lua_testing_store(lua_State *L) {
    static const luaL_Reg FUNCTIONS[] = {{"open", store_open}, {"owner", store_owner}, {"schema", store_schema},
                                         {"sql", store_sql},   {"disk", disk_new},     {NULL, NULL}};
    add_class(L, STORE, STORE_METHODS);
    add_class(L, DISK, DISK_METHODS);
    lua_newtable(L);
    luaL_register(L, NULL, FUNCTIONS);
    lua_setfield(L, -2, "store");
}
#endif
