/* engine/lua/host_library.c -- What takes work in proportion to its operands, counted: texts, lists, keys in order.
 * The whitelist itself is in library.lua. Must not know rollouts. */
#include "lua/host.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* charge(value): pays for walking over a text or a list once. */
static int raw_charge(lua_State *L) {
    if (lua_type(L, 1) == LUA_TSTRING || lua_type(L, 1) == LUA_TTABLE)
        cp_sandbox_charge(L, (int64_t)lua_objlen(L, 1) / 16);
    return 0;
}

static int string_rep(lua_State *L) {
    size_t len, separator_len;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_Number times = luaL_checknumber(L, 2);
    const char *separator = luaL_optlstring(L, 3, "", &separator_len);
    if (!(times >= 1)) { /* NaN as well */
        lua_pushliteral(L, "");
        return 1;
    }
    double total = (double)len * times + (double)separator_len * (times - 1);
    if (total > CP_SANDBOX_BLOCK / 2)
        return luaL_error(L, "the result of rep would be too long: a text has at most %d bytes here",
                          CP_SANDBOX_BLOCK / 2);
    cp_sandbox_charge(L, (int64_t)total / 16 + (int64_t)(len + separator_len == 0 ? 1 : times));
    if (len + separator_len == 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    luaL_Buffer out;
    luaL_buffinit(L, &out);
    for (int64_t i = (int64_t)times; i > 0; i--) {
        luaL_addlstring(&out, text, len);
        if (i > 1)
            luaL_addlstring(&out, separator, separator_len);
    }
    luaL_pushresult(&out);
    return 1;
}

static int map_bytes(lua_State *L, int (*map)(int)) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    cp_sandbox_charge(L, (int64_t)len / 8);
    luaL_Buffer out;
    luaL_buffinit(L, &out);
    for (size_t i = 0; i < len; i++)
        luaL_addchar(&out, (char)(map ? map((unsigned char)text[i]) : text[len - 1 - i]));
    luaL_pushresult(&out);
    return 1;
}

static int string_upper(lua_State *L) {
    return map_bytes(L, toupper);
}

static int string_lower(lua_State *L) {
    return map_bytes(L, tolower);
}

static int string_reverse(lua_State *L) {
    return map_bytes(L, NULL);
}

/* concat(list, separator?, first?, last?) */
static int table_concat(lua_State *L) {
    size_t separator_len;
    luaL_checktype(L, 1, LUA_TTABLE);
    const char *separator = luaL_optlstring(L, 2, "", &separator_len);
    ptrdiff_t i = luaL_optinteger(L, 3, 1), last = luaL_optinteger(L, 4, (ptrdiff_t)lua_objlen(L, 1));
    luaL_Buffer out;
    luaL_buffinit(L, &out);
    for (; i <= last; i++) {
        lua_rawgeti(L, 1, (int)i);
        if (!lua_isstring(L, -1))
            return luaL_error(L, "concat meets a %s at index %d; it joins texts and numbers", luaL_typename(L, -1),
                              (int)i);
        cp_sandbox_charge(L, (int64_t)(lua_objlen(L, -1) + separator_len) / 16 + 1);
        luaL_addvalue(&out);
        if (i < last)
            luaL_addlstring(&out, separator, separator_len);
    }
    luaL_pushresult(&out);
    return 1;
}

static int table_insert(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    int top = lua_gettop(L), count = (int)lua_objlen(L, 1);
    if (top == 2) {
        lua_rawseti(L, 1, count + 1);
        return 0;
    }
    if (top != 3)
        return luaL_error(L, "insert takes a list, an index if wanted, and a value");
    lua_Integer at = luaL_checkinteger(L, 2);
    if (at < 1 || at > count + 1)
        return luaL_error(L, "insert at index %d of a list of %d; the index must be 1..%d", (int)at, count, count + 1);
    cp_sandbox_charge(L, count - at + 1);
    for (int i = count; i >= at; i--) {
        lua_rawgeti(L, 1, i);
        lua_rawseti(L, 1, i + 1);
    }
    lua_rawseti(L, 1, (int)at);
    return 0;
}

static int table_remove(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    int count = (int)lua_objlen(L, 1);
    lua_Integer at = luaL_optinteger(L, 2, count);
    if (count == 0 || at < 1 || at > count) {
        lua_pushnil(L);
        return 1;
    }
    cp_sandbox_charge(L, count - at + 1);
    lua_rawgeti(L, 1, (int)at);
    for (int i = (int)at; i < count; i++) {
        lua_rawgeti(L, 1, i + 1);
        lua_rawseti(L, 1, i);
    }
    lua_pushnil(L);
    lua_rawseti(L, 1, count);
    return 1;
}

/* Keys in an order that depends on nothing but the keys: numbers, texts, false, true. */

typedef struct key {
    int type;
    double number;
    const char *text;
    size_t len;
} key;

static void read_key(lua_State *L, int index, key *ret) {
    *ret = (key){.type = lua_type(L, index)};
    switch (ret->type) {
    case LUA_TNUMBER:
        ret->number = lua_tonumber(L, index);
        break;
    case LUA_TSTRING:
        ret->text = lua_tolstring(L, index, &ret->len);
        break;
    case LUA_TBOOLEAN:
        ret->number = lua_toboolean(L, index);
        break;
    default:
        luaL_error(L,
                   "a %s as a key of a table has no order that is the same in every run; use names or numbers as keys",
                   lua_typename(L, ret->type));
    }
}

static int rank(int type) {
    return type == LUA_TNUMBER ? 0 : type == LUA_TSTRING ? 1 : 2;
}

static int compare_keys(const void *left, const void *right) {
    const key *a = left, *b = right;
    if (a->type != b->type)
        return rank(a->type) - rank(b->type);
    if (a->type == LUA_TSTRING) {
        size_t len = a->len < b->len ? a->len : b->len;
        int order = memcmp(a->text, b->text, len);
        return order ? order : (a->len > b->len) - (a->len < b->len);
    }
    return (a->number > b->number) - (a->number < b->number);
}

/* keys(table) -> list of its keys in order */
static int raw_keys(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    size_t count = 0;
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        lua_pop(L, 1);
        count++;
    }
    cp_sandbox_charge(L, (int64_t)count * 16);
    key *keys = lua_newuserdata(L, (count + 1) * sizeof(key)); /* counted memory, and freed whatever is raised */
    size_t i = 0;
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        lua_pop(L, 1);
        read_key(L, -1, &keys[i++]); /* texts stay where they are: the table holds them */
    }
    qsort(keys, count, sizeof *keys, compare_keys);
    lua_createtable(L, (int)count, 0);
    for (i = 0; i < count; i++) {
        if (keys[i].type == LUA_TSTRING)
            lua_pushlstring(L, keys[i].text, keys[i].len);
        else if (keys[i].type == LUA_TNUMBER)
            lua_pushnumber(L, keys[i].number);
        else
            lua_pushboolean(L, keys[i].number != 0);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

/* next(table, key?) in the same order; a walk over all keys each time. */
static int raw_next(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    bool first = lua_isnil(L, 2), found = false;
    key after = {0}, best = {0}, here;
    if (!first)
        read_key(L, 2, &after);
    int64_t count = 1;
    lua_pushnil(L); /* 3: the best key so far */
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        lua_pop(L, 1);
        count++;
        read_key(L, -1, &here);
        if ((first || compare_keys(&here, &after) > 0) && (!found || compare_keys(&here, &best) < 0)) {
            best = here;
            found = true;
            lua_pushvalue(L, -1);
            lua_replace(L, 3);
        }
    }
    cp_sandbox_charge(L, count);
    if (!found) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushvalue(L, 3);
    lua_pushvalue(L, 3);
    lua_rawget(L, 1);
    return 2;
}

/* Random numbers: xorshift128+ from the seed, the same on every machine. */
static int raw_random(lua_State *L) {
    cp_sandbox *sandbox = cp_sandbox_of(L);
    uint64_t a = sandbox->random[0], b = sandbox->random[1];
    sandbox->random[0] = b;
    a ^= a << 23;
    sandbox->random[1] = a ^ b ^ (a >> 17) ^ (b >> 26);
    lua_pushnumber(L, (double)((sandbox->random[1] + b) >> 11) * (1.0 / 9007199254740992.0));
    return 1;
}

static int raw_now(lua_State *L) {
    lua_pushnumber(L, (double)cp_sandbox_of(L)->now_wall / 1000.0);
    return 1;
}

/* nearest(word, names) -> name | nil */
static int raw_nearest(lua_State *L) {
    const char *word = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    const char *names[64];
    size_t count = lua_objlen(L, 2) < CP_COUNT(names) ? lua_objlen(L, 2) : CP_COUNT(names);
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, 2, (int)i + 1);
        names[i] = luaL_checkstring(L, -1);
        lua_pop(L, 1); /* the list holds it */
    }
    lua_pushstring(L, strlen(word) < 64 ? cp_nearest(word, names, count) : NULL);
    return 1;
}

void cp_sandbox_open_library(lua_State *L) {
    static const luaL_Reg functions[] = {{"charge", raw_charge},      {"rep", string_rep},
                                         {"upper", string_upper},     {"lower", string_lower},
                                         {"reverse", string_reverse}, {"concat", table_concat},
                                         {"insert", table_insert},    {"remove", table_remove},
                                         {"keys", raw_keys},          {"next", raw_next},
                                         {"random", raw_random},      {"now", raw_now},
                                         {"nearest", raw_nearest},    {NULL, NULL}};
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
}
