/* engine/lua/error.c -- Errors as Lua values: a table with code, message, field, hint, details, where, that prints as
 * one line. Also how misuse of the API is raised. Knows the stack; must not know planes or tasks. */
#include "lua/lua.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char ERROR_KEY; /* its address is the registry key of the metatable */

static const char *text_of(lua_State *L, int index, const char *key) {
    lua_pushstring(L, key);
    lua_rawget(L, index);
    return lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL; /* stays on the stack, so it lives */
}

/* "where: field: message; hint (code)", leaving out what is absent or already said. */
static int error_tostring(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checkstack(L, 10, NULL);
    const char *code = text_of(L, 1, "code"), *message = text_of(L, 1, "message"), *field = text_of(L, 1, "field"),
               *hint = text_of(L, 1, "hint"), *where = text_of(L, 1, "where");
    message = message ? message : "";
    cp_autobuf cp_buf line = {0};
    if (where && !strstr(message, where))
        cp_buf_printf(&line, "%s: ", where);
    if (field && !strstr(message, field))
        cp_buf_printf(&line, "%s: ", field);
    cp_buf_puts(&line, message);
    if (hint && !strstr(message, hint))
        cp_buf_printf(&line, "; %s", hint);
    cp_buf_printf(&line, " (%s)", code ? code : "internal");
    for (size_t i = 0; i < line.len; i++)
        if (line.data[i] == '\n')
            line.data[i] = ' ';
    lua_pushlstring(L, line.data, line.len);
    return 1;
}

static void push_metatable(lua_State *L) {
    lua_pushlightuserdata(L, (void *)&ERROR_KEY);
    lua_rawget(L, LUA_REGISTRYINDEX);
    if (lua_istable(L, -1))
        return;
    lua_pop(L, 1);
    lua_createtable(L, 0, 2);
    lua_pushcfunction(L, error_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, "ctrlplane.Error");
    lua_setfield(L, -2, "__name");
    lua_pushlightuserdata(L, (void *)&ERROR_KEY);
    lua_pushvalue(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
}

void cp_lua_push_error(lua_State *L, const cp_error *err) {
    luaL_checkstack(L, 6, NULL);
    lua_createtable(L, 0, 4);
    lua_pushstring(L, cp_code_name(err->code));
    lua_setfield(L, -2, "code");
    lua_pushstring(L, err->message ? err->message : "");
    lua_setfield(L, -2, "message");
    if (err->field) {
        lua_pushstring(L, err->field);
        lua_setfield(L, -2, "field");
    }
    if (err->hint) {
        lua_pushstring(L, err->hint);
        lua_setfield(L, -2, "hint");
    }
    if (err->details) {
        cp_lua_push_json(L, err->details);
        lua_setfield(L, -2, "details");
        const char *where = json_string_value(json_object_get(err->details, "where"));
        if (where) {
            lua_pushstring(L, where);
            lua_setfield(L, -2, "where");
        }
    }
    push_metatable(L);
    lua_setmetatable(L, -2);
}

int cp_lua_fail(lua_State *L, const cp_error *err) {
    lua_pushnil(L);
    cp_lua_push_error(L, err);
    return 2;
}

void cp_lua_read_error(lua_State *L, int index, cp_error *ret) {
    int top = lua_gettop(L);
    if (index < 0 && index > LUA_REGISTRYINDEX)
        index = top + index + 1;
    luaL_checkstack(L, 8, NULL);
    if (lua_istable(L, index) && text_of(L, index, "code")) {
        const char *code = lua_tostring(L, -1), *message = text_of(L, index, "message");
        cp_fail_at(ret, cp_code_from_name(code), text_of(L, index, "field"), text_of(L, index, "hint"), "%s",
                   message ? message : "");
        lua_getfield(L, index, "details");
        cp_autoerror cp_error ignored = {0}; /* details that are no JSON do not travel */
        if (lua_istable(L, -1))
            cp_lua_to_json(L, -1, NULL, &ret->details, &ignored);
    } else {
        const char *text = lua_type(L, index) == LUA_TSTRING || luaL_callmeta(L, index, "__tostring")
                               ? lua_tostring(L, lua_gettop(L) > top ? -1 : index)
                               : NULL;
        if (text)
            cp_fail(ret, CP_E_SCRIPT_ERROR, "%s", text);
        else
            cp_fail(ret, CP_E_SCRIPT_ERROR, "the error is a %s", lua_typename(L, lua_type(L, index)));
    }
    lua_settop(L, top);
}

int cp_lua_misuse(lua_State *L, const char *format, ...) {
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    if (n < 0)
        abort();
    /* The innermost line of Lua: not always level 1, since a tail call leaves no frame. */
    lua_Debug frame;
    bool found = false;
    for (int level = 1; !found && lua_getstack(L, level, &frame); level++)
        found = lua_getinfo(L, "Sl", &frame) && frame.currentline > 0;
    if (found)
        lua_pushfstring(L, "%s:%d: ", frame.short_src, frame.currentline);
    else
        lua_pushliteral(L, "");
    lua_pushstring(L, text);
    free(text);
    lua_concat(L, 2);
    return lua_error(L);
}

void cp_lua_check_keys(lua_State *L, int index, const char *what, const char *const *names, size_t count) {
    if (lua_isnoneornil(L, index))
        return;
    if (!lua_istable(L, index)) {
        cp_lua_misuse(L, "%s takes a table of options; got a %s", what, luaL_typename(L, index));
        return;
    }
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) != LUA_TSTRING) {
            cp_lua_misuse(L, "the options of %s have a %s as a key; they are named, as in { timeout = \"5s\" }", what,
                          luaL_typename(L, -1));
            return;
        }
        const char *key = lua_tostring(L, -1);
        size_t i = 0;
        while (i < count && strcmp(names[i], key) != 0)
            i++;
        if (i < count)
            continue;
        const char *nearest = cp_nearest(key, names, count);
        if (nearest) {
            cp_lua_misuse(L, "unknown option '%s' of %s; did you mean '%s'?", key, what, nearest);
            return;
        }
        cp_autobuf cp_buf known = {0};
        for (i = 0; i < count; i++)
            cp_buf_printf(&known, "%s%s", i ? ", " : "", names[i]);
        if (count)
            cp_lua_misuse(L, "unknown option '%s' of %s; it takes %s", key, what, known.data);
        else
            cp_lua_misuse(L, "unknown option '%s' of %s; it takes no options", key, what);
        return;
    }
}

/* error { code =, message =, field =?, hint =?, where =?, details =? } -> the same table as an error */
static int error_new(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    const char *code = text_of(L, 1, "code"), *message = text_of(L, 1, "message");
    if (!code || !message)
        return cp_lua_misuse(L, "an error needs a code and a message, both texts");
    if (cp_code_from_name(code) == CP_E_INTERNAL && strcmp(code, "internal") != 0)
        return cp_lua_misuse(L, "'%s' is not an error code", code);
    push_metatable(L);
    lua_setmetatable(L, 1);
    lua_settop(L, 1);
    return 1;
}

/* is_error(value) -> boolean */
static int error_is(lua_State *L) {
    luaL_checkany(L, 1);
    if (!lua_istable(L, 1) || !lua_getmetatable(L, 1)) {
        lua_pushboolean(L, false);
        return 1;
    }
    push_metatable(L);
    lua_pushboolean(L, lua_rawequal(L, -1, -2));
    return 1;
}

int cp_lua_open_error(lua_State *L) {
    lua_createtable(L, 0, 2);
    lua_pushcfunction(L, error_new);
    lua_setfield(L, -2, "new");
    lua_pushcfunction(L, error_is);
    lua_setfield(L, -2, "is");
    return 1;
}
