/* engine/lua/lua.h -- What the bindings share: JSON <-> Lua by descriptor, errors as values, protected pushes.
 * One file per Lua-visible module. The Lua API is used inside protected calls only. */
#pragma once
#include "base/desc.h"
#include "base/table.h"
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

/* Pushes a JSON value: objects and arrays as tables (arrays carry a metatable with __jsontype = "array", so that an
 * empty one comes back as an array), null as ctrlplane.null (a light userdata NULL). */
void cp_lua_push_json(lua_State *L, const json_t *value);
/* Reads the value at index as JSON. desc (may be NULL) tells objects and arrays apart where a table is empty, and
 * numbers and text where a field is text. `invalid` with a path for cycles, functions, mixed keys, bad UTF-8, NaN.
 * Does not raise. */
int cp_lua_to_json(lua_State *L, int index, const cp_desc *desc, json_t **ret, cp_error *err);
/* Pushes a table with code, message, field, hint, details and the error metatable (__tostring: one line). */
void cp_lua_push_error(lua_State *L, const cp_error *err);
/* Pushes nil and the error; returns 2: `return cp_lua_fail(L, &err);` */
int cp_lua_fail(lua_State *L, const cp_error *err);
/* Reads the error at index back: one of ours, a table like one, or anything else as `script_error` with its text. */
void cp_lua_read_error(lua_State *L, int index, cp_error *ret);
void cp_lua_push_array_metatable(lua_State *L); /* see cp_lua_push_json */
/* The position "file:line: " of the code that called the running C function is put before the message, and raised. */
int cp_lua_misuse(lua_State *L, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Raises for keys of the table at index (nil is fine) that are not among `names`, with the nearest of them.
 * what: "open", "connect" ... */
void cp_lua_check_keys(lua_State *L, int index, const char *what, const char *const *names, size_t count);

/* Modules: each pushes its table. */
int cp_lua_open_json(lua_State *L);       /* engine/lua/json.c: decode, encode, array */
int cp_lua_open_error(lua_State *L);      /* engine/lua/error.c: the constructor of errors */
int cp_lua_open_testing(lua_State *L);    /* engine/lua/testing.c: test builds only */
int cp_lua_open_operations(lua_State *L); /* engine/lua/operations.c: operations and descriptors as tables */
int cp_lua_open_model(lua_State *L);      /* engine/lua/model.c: decide_workload, decide_instance, validate, slug ... */
int cp_lua_open_plane(lua_State *L);      /* engine/lua/plane.c: open, tasks, calls, streams */
int cp_lua_open_remote(lua_State *L);     /* engine/lua/remote.c: an HTTP client call (unix socket or TCP) as a task */
int luaopen_ctrlplane_core(lua_State *L); /* engine/lua/core.c: build/lua/ctrlplane/core.so */

/* A simulated world with its loop, which outlives the planes that use it (crash specs): testing.sim.open, test builds.
 * The userdata begins with this; `open { world = w }` takes loop and provider from it and frees neither. */
#define CP_LUA_WORLD "ctrlplane.world"
struct cp_loop;
struct cp_provider;
typedef struct cp_lua_world {
    struct cp_loop *loop;
    struct cp_provider *provider;
} cp_lua_world;
