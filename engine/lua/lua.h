/* engine/lua/lua.h -- What the bindings share: JSON <-> Lua by descriptor, errors as values, protected pushes.
 * One file per Lua-visible module. The Lua API is used inside protected calls only. */
#pragma once
#include "base/desc.h"
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

/* Modules: each pushes its table. */
int cp_lua_open_model(lua_State *L);  /* engine/lua/model.c: decide_workload, decide_instance, validate, slug ... */
int cp_lua_open_plane(lua_State *L);  /* engine/lua/plane.c: open, tasks, calls, streams */
int cp_lua_open_remote(lua_State *L); /* engine/lua/remote.c: an HTTP client call (unix socket or TCP) as a task */
int luaopen_ctrlplane_core(lua_State *L); /* engine/lua/core.c: build/lua/ctrlplane/core.so */
