/* engine/lua/operations.c -- The table of operations and the descriptors behind it, as plain Lua tables: what the
 * stubs, the command line and the docs are generated from. Knows the tables; must not know planes. */
#include "lua/lua.h"
#include "model/model.h"
#include "plane/plane.h"
#include "provider.h"

#include <string.h>

static const char *const TYPES[] = {
    [CP_STRING] = "string",   [CP_INT] = "integer",       [CP_DOUBLE] = "number", [CP_BOOL] = "boolean",
    [CP_TIME] = "time",       [CP_DURATION] = "duration", [CP_ENUM] = "enum",     [CP_SHARE] = "share",
    [CP_STRINGS] = "strings", [CP_MAP] = "map",           [CP_OBJECT] = "object", [CP_POINTER] = "object",
    [CP_LIST] = "list",       [CP_JSON] = "json",
};

static void set_text(lua_State *L, const char *key, const char *value) {
    if (!value)
        return;
    lua_pushstring(L, value);
    lua_setfield(L, -2, key);
}

static void set_flag(lua_State *L, const char *key, bool value) {
    if (!value)
        return;
    lua_pushboolean(L, true);
    lua_setfield(L, -2, key);
}

static void push_desc(lua_State *L, const cp_desc *desc, int known);

static void push_field(lua_State *L, const cp_field *field, int known) {
    lua_createtable(L, 0, 6);
    set_text(L, "name", field->name);
    set_text(L, "type", TYPES[field->type]);
    set_text(L, "doc", field->doc);
    set_text(L, "fallback", field->fallback);
    set_flag(L, "required", field->flags & CP_REQUIRED);
    set_flag(L, "read_only", field->flags & CP_READ_ONLY);
    set_flag(L, "kept", field->flags & CP_KEEP_EMPTY);
    if (field->min != 0 || field->max != 0) {
        lua_pushnumber(L, field->min);
        lua_setfield(L, -2, "min");
        lua_pushnumber(L, field->max);
        lua_setfield(L, -2, "max");
    }
    if (field->type == CP_ENUM) {
        lua_newtable(L);
        for (int i = 0; field->values[i]; i++) {
            lua_pushstring(L, field->values[i]);
            lua_rawseti(L, -2, i + 1);
        }
        lua_setfield(L, -2, "values");
    }
    if (field->desc) {
        push_desc(L, field->desc, known);
        lua_setfield(L, -2, "desc");
    }
}

/* known: index of a table name -> descriptor, so that each is made once. */
static void push_desc(lua_State *L, const cp_desc *desc, int known) {
    luaL_checkstack(L, 8, NULL);
    lua_getfield(L, known, desc->name);
    if (lua_istable(L, -1))
        return;
    lua_pop(L, 1);
    lua_createtable(L, 0, 3);
    lua_pushvalue(L, -1);
    lua_setfield(L, known, desc->name);
    set_text(L, "name", desc->name);
    set_text(L, "doc", desc->doc);
    lua_createtable(L, (int)desc->count, 0);
    int n = 0;
    for (size_t i = 0; i < desc->count; i++) {
        if (desc->fields[i].flags & CP_NO_JSON)
            continue;
        push_field(L, &desc->fields[i], known);
        lua_rawseti(L, -2, ++n);
    }
    lua_setfield(L, -2, "fields");
}

static void push_operation(lua_State *L, const cp_operation *op, int known) {
    const char *dot = strchr(op->name, '.');
    lua_createtable(L, 0, 10);
    set_text(L, "name", op->name);
    lua_pushlstring(L, op->name, (size_t)(dot - op->name));
    lua_setfield(L, -2, "namespace");
    set_text(L, "method", dot + 1);
    set_text(L, "http_method", op->method);
    set_text(L, "path", op->path);
    set_text(L, "id_of", op->id_of);
    set_text(L, "returns", op->returns);
    set_text(L, "doc", op->doc);
    set_flag(L, "mutates", op->flags & CP_OPERATION_MUTATES);
    set_flag(L, "id", op->flags & CP_OPERATION_ID);
    set_flag(L, "stream", op->flags & CP_OPERATION_STREAM);
    if (op->args) {
        push_desc(L, op->args, known);
        lua_setfield(L, -2, "args");
    }
}

/* -> list of operations in their order, table of descriptors by name */
int cp_lua_open_operations(lua_State *L) {
    static const cp_desc *const ENTITIES[] = {&cp_workload_desc,   &cp_instance_desc, &cp_release_desc,
                                              &cp_deployment_desc, &cp_command_desc,  &cp_event_desc,
                                              &cp_service_desc};
    lua_newtable(L);
    int known = lua_gettop(L);
    size_t count;
    const cp_operation *operations = cp_operations(&count);
    lua_createtable(L, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        push_operation(L, &operations[i], known);
        lua_rawseti(L, -2, (int)i + 1);
    }
    for (size_t i = 0; i < CP_COUNT(ENTITIES); i++) {
        push_desc(L, ENTITIES[i], known);
        lua_pop(L, 1);
    }
    lua_insert(L, known);
    return 2;
}
