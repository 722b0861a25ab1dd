/* engine/lua/json.c -- Values between Lua and JSON: objects and arrays told apart by the descriptor, never guessed
 * where it matters. Knows descriptors and the stack; must not know planes, tasks or entities. */
#include "base/limits.h"
#include "lua/lua.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char ARRAY_KEY; /* its address is the registry key of the metatable of arrays */

void cp_lua_push_array_metatable(lua_State *L) {
    lua_pushlightuserdata(L, (void *)&ARRAY_KEY);
    lua_rawget(L, LUA_REGISTRYINDEX);
    if (lua_istable(L, -1))
        return;
    lua_pop(L, 1);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "array");
    lua_setfield(L, -2, "__jsontype");
    lua_pushlightuserdata(L, (void *)&ARRAY_KEY);
    lua_pushvalue(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
}

void cp_lua_push_json(lua_State *L, const json_t *value) {
    luaL_checkstack(L, 6, "JSON is nested too deeply");
    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_OBJECT: {
        lua_createtable(L, 0, (int)json_object_size(value));
        const char *key;
        json_t *item;
        json_object_foreach((json_t *)value, key, item) {
            lua_pushstring(L, key);
            cp_lua_push_json(L, item);
            lua_rawset(L, -3);
        }
        break;
    }
    case JSON_ARRAY:
        lua_createtable(L, (int)json_array_size(value), 0);
        for (size_t i = 0; i < json_array_size(value); i++) {
            cp_lua_push_json(L, json_array_get(value, i));
            lua_rawseti(L, -2, (int)i + 1);
        }
        cp_lua_push_array_metatable(L);
        lua_setmetatable(L, -2);
        break;
    case JSON_STRING:
        lua_pushlstring(L, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER:
        lua_pushnumber(L, (lua_Number)json_integer_value(value));
        break;
    case JSON_REAL:
        lua_pushnumber(L, json_real_value(value));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        lua_pushboolean(L, json_is_true(value));
        break;
    case JSON_NULL:
        lua_pushlightuserdata(L, NULL);
        break;
    }
}

/* Where we are in the value: for messages, and to find cycles. */
typedef struct place {
    const struct place *up;
    const void *table;
    const char *key; /* of this value in up; NULL at the top */
    int64_t index;   /* when key is NULL and up is an array; 0-based */
    int depth;
} place;

static void write_path(const place *at, cp_buf *out) {
    if (!at->up)
        return;
    write_path(at->up, out);
    if (!at->key)
        cp_buf_printf(out, "[%" PRId64 "]", at->index);
    else
        cp_buf_printf(out, "%s%s", out->len ? "." : "", at->key);
}

static int fail_here(const place *at, cp_error *err, const char *what) {
    cp_autobuf cp_buf path = {0};
    write_path(at, &path);
    return cp_fail_at(err, CP_E_INVALID, path.len ? path.data : NULL, NULL, "%s %s", path.len ? path.data : "the value",
                      what);
}

static json_t *number_text(double number) {
    char text[32];
    snprintf(text, sizeof text, "%.14g", number);
    return json_string(text);
}

static int read_value(lua_State *L, int index, const cp_field *field, const place *at, json_t **ret, cp_error *err);

static bool is_text_type(const cp_field *field) {
    return field && field->type == CP_STRING;
}

/* The field that describes an item of a list or map. */
static const cp_field TEXT_ITEM = {.name = "item", .type = CP_STRING};

static int read_array(lua_State *L, int index, size_t count, const cp_field *field, const place *at, json_t **ret,
                      cp_error *err) {
    cp_field item = {0};
    const cp_field *item_field = NULL;
    if (field && field->type == CP_STRINGS)
        item_field = &TEXT_ITEM;
    if (field && field->type == CP_LIST) {
        item = (cp_field){.name = field->name, .type = CP_OBJECT, .desc = field->desc};
        item_field = &item;
    }
    cp_autojson json_t *array = json_array();
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, index, (int)i + 1);
        place inside = {.up = at, .index = (int64_t)i, .depth = at->depth + 1};
        json_t *value = NULL;
        int r = read_value(L, lua_gettop(L), item_field, &inside, &value, err);
        lua_pop(L, 1);
        if (r < 0)
            return r;
        json_array_append_new(array, value);
    }
    *ret = cp_take(array);
    return 0;
}

/* Keys in order of the alphabet, so that the same table gives the same text whatever its history. */
static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_object(lua_State *L, int index, const cp_field *field, const place *at, json_t **ret, cp_error *err) {
    const cp_desc *desc = field && (field->type == CP_OBJECT || field->type == CP_POINTER) ? field->desc : NULL;
    cp_vec keys = {0}; /* lent by the table */
    lua_pushnil(L);
    while (lua_next(L, index)) {
        cp_vec_push(&keys, (void *)lua_tostring(L, -2));
        lua_pop(L, 1);
    }
    if (keys.count)
        qsort(keys.items, keys.count, sizeof *keys.items, by_text);
    cp_autojson json_t *object = json_object();
    int r = 0;
    for (size_t i = 0; i < keys.count && r == 0; i++) {
        const char *key = keys.items[i];
        place inside = {.up = at, .key = key, .depth = at->depth + 1};
        lua_pushstring(L, key);
        lua_rawget(L, index);
        const cp_field *inner = field && field->type == CP_MAP ? &TEXT_ITEM : desc ? cp_desc_field(desc, key) : NULL;
        json_t *value = NULL;
        r = read_value(L, lua_gettop(L), inner, &inside, &value, err);
        lua_pop(L, 1);
        if (r == 0)
            json_object_set_new_nocheck(object, key, value);
    }
    cp_vec_clear(&keys);
    if (r < 0)
        return r;
    *ret = cp_take(object);
    return 0;
}

static bool marked_array(lua_State *L, int index) {
    if (!lua_getmetatable(L, index))
        return false;
    lua_pushliteral(L, "__jsontype");
    lua_rawget(L, -2);
    bool array = lua_type(L, -1) == LUA_TSTRING && cp_streq(lua_tostring(L, -1), "array");
    lua_pop(L, 2);
    return array;
}

static int read_table(lua_State *L, int index, const cp_field *field, const place *at, json_t **ret, cp_error *err) {
    size_t texts = 0, numbers = 0;
    double last = 0;
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TNUMBER) {
            double key = lua_tonumber(L, -1);
            if (key < 1 || key != floor(key)) {
                lua_pop(L, 1);
                return fail_here(at, err, "has a number that is no index as a key; keys are names, or 1, 2, 3 ...");
            }
            numbers++;
            last = key > last ? key : last;
        } else if (lua_type(L, -1) == LUA_TSTRING) {
            size_t len;
            const char *key = lua_tolstring(L, -1, &len);
            if (!cp_utf8_valid(key, len) || memchr(key, 0, len)) {
                lua_pop(L, 1);
                return fail_here(at, err, "has a key that is not UTF-8 text");
            }
            texts++;
        } else {
            lua_pop(L, 1);
            return fail_here(at, err, "has a key that is neither a name nor an index");
        }
    }
    if (texts && numbers)
        return fail_here(at, err, "mixes names and indices as keys; make it a list or a map");
    if (numbers && last != (double)numbers)
        return fail_here(at, err, "is a list with holes; indices must be 1, 2, 3 ... without a gap");
    if (at->depth >= CP_MAX_JSON_DEPTH)
        return fail_here(at, err, "is nested too deeply");
    bool wants_list = field && (field->type == CP_LIST || field->type == CP_STRINGS);
    if (numbers || (!texts && (wants_list || marked_array(L, index))))
        return read_array(L, index, numbers, field, at, ret, err);
    return read_object(L, index, field, at, ret, err);
}

static int read_value(lua_State *L, int index, const cp_field *field, const place *at, json_t **ret, cp_error *err) {
    if (!lua_checkstack(L, 6))
        return fail_here(at, err, "is nested too deeply");
    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN:
        *ret = json_boolean(lua_toboolean(L, index));
        return 0;
    case LUA_TNUMBER: {
        double number = lua_tonumber(L, index);
        if (!isfinite(number))
            return fail_here(at, err, "is not a finite number");
        if (is_text_type(field)) /* env = { PORT = 8080 } means the text */
            *ret = number_text(number);
        else if (number == floor(number) && fabs(number) <= 9007199254740992.0)
            *ret = json_integer((json_int_t)number);
        else
            *ret = json_real(number);
        return 0;
    }
    case LUA_TSTRING: {
        size_t len;
        const char *text = lua_tolstring(L, index, &len);
        if (!cp_utf8_valid(text, len))
            return fail_here(at, err, "is not UTF-8 text");
        *ret = json_stringn_nocheck(text, len);
        return 0;
    }
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, index) != NULL)
            return fail_here(at, err, "is a userdata; JSON has no such thing");
        *ret = json_null();
        return 0;
    case LUA_TTABLE: {
        place here = *at;
        here.table = lua_topointer(L, index);
        for (const place *up = at->up; up; up = up->up)
            if (up->table == here.table)
                return fail_here(at, err, "is a cycle: it contains itself");
        return read_table(L, index, field, &here, ret, err);
    }
    default: {
        char what[64];
        snprintf(what, sizeof what, "is a %s; JSON has no such thing", lua_typename(L, lua_type(L, index)));
        return fail_here(at, err, what);
    }
    }
}

int cp_lua_to_json(lua_State *L, int index, const cp_desc *desc, json_t **ret, cp_error *err) {
    int top = lua_gettop(L);
    if (index < 0 && index > LUA_REGISTRYINDEX)
        index = top + index + 1;
    cp_field field = {.name = desc ? desc->name : "value", .type = CP_OBJECT, .desc = desc};
    int r = read_value(L, index, desc ? &field : NULL, &(place){0}, ret, err);
    lua_settop(L, top);
    return r;
}

/* json.decode(text) -> value | nil, err */
static int json_decode(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    cp_autojson json_t *value = NULL;
    cp_autoerror cp_error err = {0};
    if (cp_json_parse(text, len, SIZE_MAX, &value, &err) < 0)
        return cp_lua_fail(L, &err);
    cp_lua_push_json(L, value);
    return 1;
}

/* json.encode(value, { indent = n }?) -> text | nil, err. Keys in order of the alphabet. */
static int json_encode(lua_State *L) {
    luaL_checkany(L, 1);
    size_t indent = 0;
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        lua_getfield(L, 2, "indent");
        indent = (size_t)luaL_optinteger(L, -1, 0) & 0x1f;
        lua_pop(L, 1);
    }
    cp_autojson json_t *value = NULL;
    cp_autoerror cp_error err = {0};
    if (cp_lua_to_json(L, 1, NULL, &value, &err) < 0)
        return cp_lua_fail(L, &err);
    cp_autofree char *text =
        json_dumps(value, JSON_ENCODE_ANY | JSON_SORT_KEYS | (indent ? JSON_INDENT(indent) : JSON_COMPACT));
    lua_pushstring(L, text);
    return 1;
}

/* json.array(list?) -> the same table, marked: it stays an array when it is empty. */
static int json_mark_array(lua_State *L) {
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    cp_lua_push_array_metatable(L);
    lua_setmetatable(L, 1);
    return 1;
}

int cp_lua_open_json(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"decode", json_decode}, {"encode", json_encode}, {"array", json_mark_array}, {NULL, NULL}};
    lua_createtable(L, 0, 3);
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
    return 1;
}
