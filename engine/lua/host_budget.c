/* engine/lua/host_budget.c -- Memory and instructions of a contained state, and the end that no pcall survives.
 * Instructions are counted, never time, so that a run that passes here passes everywhere. Must not know rollouts. */
#include "base/limits.h"
#include "lua/host.h"

#include <assert.h>
#include <inttypes.h>
#include <luajit.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define STEP 1000      /* instructions between two looks */
#define STEP_LARGE 100 /* the same while a single instruction may walk over a large block */
#define LARGE (64 << 10)
#define SPARE (2 << 20)   /* of the cap: lets the instruction that met it end, so that its line is known, and unwinds */
#define BYTES_PER_STEP 16 /* what is copied in about the time of an instruction */

static void on_count(lua_State *L, lua_Debug *ar);

static size_t large_class(size_t size) {
    size_t class = 0;
    while (size >= ((size_t)LARGE << (class + 1)) && class < 15)
        class ++;
    return class;
}

static void set_step(cp_sandbox *sandbox, int step) {
    sandbox->step = step;
    lua_sethook(sandbox->L, on_count, LUA_MASKCOUNT, step);
}

static void *allocate(void *userdata, void *block, size_t old_size, size_t size) {
    cp_sandbox *sandbox = userdata;
    if (!block)
        old_size = 0;
    if (size > old_size && sandbox->armed) {
        if (size > CP_SANDBOX_BLOCK || sandbox->used + (size - old_size) > sandbox->cap) {
            if (!sandbox->refused) { /* final, even where the spare lets it through */
                sandbox->refused = true;
                set_step(sandbox, 1);
            }
            if (sandbox->used + (size - old_size) > sandbox->cap + SPARE)
                return NULL;
        }
        if (size >= 16 * BYTES_PER_STEP) {
            sandbox->spent += (int64_t)(size / BYTES_PER_STEP);
            sandbox->slice += (int64_t)(size / BYTES_PER_STEP);
        }
    }
    void *moved = NULL;
    if (size == 0)
        free(block);
    else if (!(moved = realloc(block, size)))
        return NULL;
    sandbox->used += size - old_size;
    if (old_size >= LARGE)
        sandbox->large[large_class(old_size)]--;
    if (size >= LARGE) {
        sandbox->large[large_class(size)]++;
        if (sandbox->armed && sandbox->step == STEP)
            set_step(sandbox, STEP_LARGE);
    }
    return moved;
}

/* What an instruction may cost while the state holds a large block: it can be the operand of a comparison or a `..`
 * whose result exists already, which no allocation shows. */
static int64_t price(const cp_sandbox *sandbox) {
    for (size_t class = CP_COUNT(sandbox->large); class -- > 0;)
        if (sandbox->large[class])
            return 1 + (((int64_t)LARGE << class) >> 14);
    return 1;
}

cp_sandbox *cp_sandbox_of(lua_State *L) {
    void *userdata;
    lua_getallocf(L, &userdata);
    return userdata;
}

lua_State *cp_sandbox_state(cp_sandbox *sandbox) {
    sandbox->cap = CP_SCRIPT_MEMORY - SPARE;
    sandbox->budget = CP_SCRIPT_BUDGET;
    sandbox->L = lua_newstate(allocate, sandbox);
    if (sandbox->L)
        luaJIT_setmode(sandbox->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF); /* compiled code would not be counted */
    return sandbox->L;
}

void cp_sandbox_arm(cp_sandbox *sandbox) {
    sandbox->armed = true;
    sandbox->spent = sandbox->slice = sandbox->unbroken = 0;
    if (!sandbox->killed && !sandbox->refused)
        set_step(sandbox, price(sandbox) > 1 ? STEP_LARGE : STEP);
}

void cp_sandbox_disarm(cp_sandbox *sandbox) {
    sandbox->armed = false;
    lua_sethook(sandbox->L, NULL, 0, 0);
}

char *cp_sandbox_line(lua_State *L) {
    lua_Debug ar;
    for (int level = 0; lua_getstack(L, level, &ar); level++)
        if (lua_getinfo(L, "Sl", &ar) && ar.source[0] == '@') /* out of memory the line is lost, but not the function */
            return cp_printf("%s:%d", ar.source + 1, ar.currentline > 0 ? ar.currentline : ar.linedefined);
    return cp_strdup("");
}

static char *source_line(const cp_sandbox *sandbox, const char *where) {
    const char *colon = strrchr(where, ':');
    if (!colon)
        return NULL;
    cp_autofree char *path = cp_strndup(where, (size_t)(colon - where));
    const char *text = json_string_value(json_object_get(sandbox->files, path));
    for (long line = strtol(colon + 1, NULL, 10); text && line > 1; line--) {
        text = strchr(text, '\n');
        text = text ? text + 1 : NULL;
    }
    if (!text)
        return NULL;
    text += strspn(text, " \t");
    return cp_strndup(text, strcspn(text, "\r\n"));
}

/* A message that begins with its place: "half.lua:12: ...". */
static char *place_in(const cp_sandbox *sandbox, const char *message) {
    const char *end = message ? strstr(message, ": ") : NULL;
    const char *digits = end;
    while (digits && digits > message && digits[-1] >= '0' && digits[-1] <= '9')
        digits--;
    if (!digits || digits == end || digits == message || digits[-1] != ':')
        return NULL;
    cp_autofree char *path = cp_strndup(message, (size_t)(digits - 1 - message));
    return json_object_get(sandbox->files, path) ? cp_strndup(message, (size_t)(end - message)) : NULL;
}

/* The frames of the script itself, innermost first: our own Lua between them is of no use to its author. where: the
 * innermost line, which a frame that failed by itself does not know any more. */
static char *traceback(lua_State *L, const char *where) {
    cp_buf out = {0};
    lua_Debug ar;
    int shown = 0;
    for (int level = 0; lua_getstack(L, level, &ar); level++) {
        if (!lua_getinfo(L, "nSl", &ar) || ar.source[0] != '@')
            continue;
        if (shown++ == 30) {
            cp_buf_puts(&out, "\n  ...");
            break;
        }
        cp_buf_puts(&out, out.len ? "\n" : "");
        if (ar.currentline > 0)
            cp_buf_printf(&out, "%s:%d: in ", ar.source + 1, ar.currentline);
        else
            cp_buf_printf(&out, "%s: in ", where);
        if (*ar.what == 'm')
            cp_buf_puts(&out, "main chunk");
        else if (ar.name)
            cp_buf_printf(&out, "%s '%s'", *ar.namewhat ? ar.namewhat : "function", ar.name);
        else
            cp_buf_printf(&out, "function <%s:%d>", ar.source + 1, ar.linedefined);
    }
    if (!shown)
        cp_buf_puts(&out, where);
    return out.data;
}

void cp_sandbox_locate(cp_sandbox *sandbox, lua_State *L, cp_error *err) {
    if (err->details && json_object_get(err->details, "traceback"))
        return;
    const char *known = json_string_value(json_object_get(err->details, "where"));
    cp_autofree char *where = known ? cp_strdup(known) : place_in(sandbox, err->message);
    if (!where)
        where = cp_sandbox_line(L);
    if (cp_is_empty(where))
        return;
    if (!json_is_object(err->details)) {
        json_decref(err->details);
        err->details = json_object();
    }
    json_object_set_new(err->details, "where", json_string(where));
    cp_autofree char *line = source_line(sandbox, where);
    if (line)
        json_object_set_new(err->details, "source_line", json_string(line));
    cp_autofree char *frames = traceback(L, where);
    json_object_set_new(err->details, "traceback", json_string(frames));
}

void cp_sandbox_kill_with(lua_State *L, cp_error *reason) {
    cp_sandbox *sandbox = cp_sandbox_of(L);
    if (!sandbox->killed) {
        sandbox->killed = true;
        cp_error_move(&sandbox->end, reason);
        if (sandbox->end.code == CP_E_SCRIPT_ERROR)
            cp_sandbox_locate(sandbox, L, &sandbox->end);
        set_step(sandbox, 1);
    }
    cp_error_clear(reason);
}

void cp_sandbox_kill(lua_State *L, int code, const char *format, ...) {
    cp_error reason = {.code = code};
    va_list args;
    va_start(args, format);
    if (vasprintf(&reason.message, format, args) < 0)
        abort();
    va_end(args);
    cp_sandbox_kill_with(L, &reason);
}

static void check(lua_State *L) {
    cp_sandbox *sandbox = cp_sandbox_of(L);
    if (sandbox->refused && !sandbox->killed)
        cp_sandbox_kill(L, CP_E_SCRIPT_ERROR, "the script used more than its %d MiB of memory", CP_SCRIPT_MEMORY >> 20);
    if (!sandbox->killed && sandbox->spent > sandbox->budget)
        cp_sandbox_kill(L, CP_E_SCRIPT_ERROR,
                        "the script ran %" PRId64 " instructions between two commands without end", sandbox->budget);
    if (!sandbox->killed && sandbox->unbroken > CP_SANDBOX_UNBROKEN)
        cp_sandbox_kill(L, CP_E_SCRIPT_ERROR,
                        "the script ran %d instructions in a place where it cannot be interrupted",
                        CP_SANDBOX_UNBROKEN);
    if (sandbox->killed) {
        lua_pushliteral(L, "the script is being ended");
        lua_error(L);
    }
}

void cp_sandbox_charge(lua_State *L, int64_t instructions) {
    cp_sandbox *sandbox = cp_sandbox_of(L);
    sandbox->spent += instructions;
    sandbox->slice += instructions;
    check(L);
}

void cp_sandbox_unbroken(lua_State *L, int64_t steps) {
    cp_sandbox *sandbox = cp_sandbox_of(L);
    if (steps > CP_SANDBOX_UNBROKEN)
        sandbox->unbroken = steps;
    cp_sandbox_charge(L, steps);
}

static void on_count(lua_State *L, lua_Debug *ar) {
    (void)ar;
    cp_sandbox *sandbox = cp_sandbox_of(L);
    int64_t cost = sandbox->step * price(sandbox);
    sandbox->spent += cost;
    sandbox->slice += cost;
    check(L);
    int step = cost > sandbox->step ? STEP_LARGE : STEP;
    if (step != sandbox->step)
        set_step(sandbox, step);
    if (sandbox->slice < CP_SCRIPT_SLICE)
        return;
    if (sandbox->may_yield && sandbox->unyieldable == 0 && lua_isyieldable(L)) {
        sandbox->slice = sandbox->unbroken = 0;
        sandbox->suspending = true;
        lua_yield(L, 0);
        return;
    }
    sandbox->unbroken += sandbox->slice;
    sandbox->slice = 0;
}

void cp_sandbox_error(cp_sandbox *sandbox, lua_State *L, cp_error *ret) {
    if (sandbox->refused && !sandbox->killed)
        cp_sandbox_kill(L, CP_E_SCRIPT_ERROR, "the script used more than its %d MiB of memory", CP_SCRIPT_MEMORY >> 20);
    sandbox->armed = false; /* our own work from here on */
    lua_sethook(sandbox->L, NULL, 0, 0);
    if (sandbox->killed) {
        cp_error_copy(ret, &sandbox->end);
    } else if (lua_type(L, -1) == LUA_TSTRING) {
        cp_fail(ret, CP_E_SCRIPT_ERROR, "%s", lua_tostring(L, -1));
    } else if (lua_type(L, -1) == LUA_TTABLE) {
        lua_xmove(L, sandbox->L, 1); /* after a stack overflow there is no room to read it where it is */
        lua_pushnil(sandbox->L);     /* nothing of the script's runs any more, no metamethod either */
        lua_setmetatable(sandbox->L, -2);
        cp_lua_read_error(sandbox->L, -1, ret);
        lua_pop(sandbox->L, 1);
    } else {
        cp_fail(ret, CP_E_SCRIPT_ERROR, "the script raised a %s; raise a text", luaL_typename(L, -1));
    }
    cp_sandbox_locate(sandbox, L, ret);
}
