/* engine/lua/stream.c -- Streams as iterators: for event in plane.events:stream(opts) do ... end. Events queue here
 * until Lua asks for them; the source is paused while too many wait. Must not know what the events are. */
#include "lua/plane.h"

#include "base/limits.h"

#include <stdlib.h>

/* About: only log lines are long. */
static size_t weight(const json_t *event) {
    return json_string_length(json_object_get(event, "line")) +
           json_string_length(json_object_get(event, "line_base64")) + 256;
}

static json_t *take_event(cp_lua_stream *stream) {
    json_t *event = stream->queue.items[0];
    cp_vec_remove(&stream->queue, 0);
    stream->bytes -= weight(event);
    if (stream->paused && stream->queue.count <= CP_MAX_STREAM_BUFFER / 4 && stream->bytes <= CP_MAX_STREAM_BYTES / 4) {
        stream->paused = false;
        if (stream->source)
            cp_stream_resume(stream->source);
        if (stream->request)
            cp_http_resume(stream->request);
    }
    return event;
}

cp_lua_stream *cp_lua_stream_new(lua_State *L, int plane_index, cp_lua_plane *plane, const char *what) {
    cp_lua_stream *stream = lua_newuserdata(L, sizeof *stream);
    *stream = (cp_lua_stream){.plane = plane, .what = cp_strdup(what)};
    luaL_getmetatable(L, CP_LUA_STREAM);
    lua_setmetatable(L, -2);
    lua_createtable(L, 1, 0); /* its environment keeps the plane alive */
    lua_pushvalue(L, plane_index);
    lua_rawseti(L, -2, 1);
    lua_setfenv(L, -2);
    cp_vec_push(&plane->streams, stream);
    return stream;
}

/* Ends it: the source is freed, what is queued can still be read. */
static void end(cp_lua_stream *stream) {
    if (stream->ended)
        return;
    stream->ended = true;
    cp_stream_free(cp_take(stream->source));
    if (stream->request)
        cp_http_cancel(cp_take(stream->request));
    cp_timer_free(cp_take(stream->deadline));
    cp_buf_clear(&stream->text);
    cp_vec_drop(&stream->plane->streams, stream);
}

static void tell_end(cp_lua_stream *stream) {
    if (stream->waiting && !stream->queue.count)
        cp_lua_wait_finish(cp_take(stream->waiting), NULL, NULL);
}

void cp_lua_stream_close(cp_lua_stream *stream, const cp_error *err) {
    if (stream->ended)
        return;
    if (err) {
        stream->failed = true;
        cp_error_copy(&stream->err, err);
    }
    end(stream);
    tell_end(stream);
}

void cp_lua_stream_event(void *userdata, const json_t *event, const cp_error *err) {
    cp_lua_stream *stream = userdata;
    if (stream->ended)
        return;
    if (!event) {
        cp_lua_stream_close(stream, err);
        return;
    }
    cp_vec_push(&stream->queue, json_incref((json_t *)event));
    stream->bytes += weight(event);
    if (stream->waiting)
        cp_lua_wait_finish(cp_take(stream->waiting), NULL, NULL);
    if (stream->paused || (stream->queue.count < CP_MAX_STREAM_BUFFER && stream->bytes < CP_MAX_STREAM_BYTES))
        return;
    stream->paused = true;
    if (stream->source)
        cp_stream_pause(stream->source);
    if (stream->request)
        cp_http_pause(stream->request);
}

static void on_deadline(void *userdata) {
    cp_lua_stream_close(userdata, NULL); /* the time that was asked for is over: a plain end */
}

void cp_lua_stream_deadline(cp_lua_stream *stream, int64_t ms) {
    if (ms < 0 || stream->ended)
        return;
    stream->deadline = cp_timer_new(stream->plane->loop, on_deadline, stream);
    cp_timer_start(stream->deadline, ms);
}

/* What there is now: an event, nil at the end, or nil and the error. Zero when there is nothing yet. */
static int push_next(lua_State *L, cp_lua_stream *stream) {
    if (stream->queue.count) {
        cp_autojson json_t *event = take_event(stream);
        cp_lua_push_json(L, event);
        return 1;
    }
    if (!stream->ended)
        return 0;
    if (stream->failed)
        return cp_lua_fail(L, &stream->err);
    lua_pushnil(L);
    return 1;
}

static void stop_waiting(cp_lua_wait *wait) {
    ((cp_lua_stream *)wait->work)->waiting = NULL;
}

static int push_waited(lua_State *L, cp_lua_wait *wait) {
    int n = push_next(L, wait->work); /* alive: the waiting call has it as its argument */
    if (n)
        return n;
    lua_pushnil(L);
    return 1;
}

/* stream:next({ timeout = }?) -> event | nil at the end | nil, err */
static int stream_next(lua_State *L) {
    static const char *const KEYS[] = {"timeout"};
    cp_lua_stream *stream = luaL_checkudata(L, 1, CP_LUA_STREAM);
    int options = lua_istable(L, 2) ? 2 : 0; /* a for loop passes its control variables */
    cp_autoerror cp_error err = {0};
    int64_t timeout = -1;
    if (options) {
        cp_lua_check_keys(L, 2, "next", KEYS, 1);
        if (cp_lua_duration_option(L, 2, "timeout", &timeout, &err) < 0)
            return cp_lua_fail(L, &err);
    }
    int n = push_next(L, stream);
    if (n)
        return n;
    if (stream->waiting)
        return cp_lua_misuse(L, "%s is being read by another task already", stream->what);
    cp_lua_wait *wait = cp_lua_wait_new(L, stream->plane, stream->what);
    wait->work = stream;
    wait->cancel = stop_waiting;
    wait->push = push_waited;
    stream->waiting = wait;
    cp_lua_wait_timeout(wait, timeout);
    return cp_lua_wait_for(L, wait);
}

/* A for loop has no place for an error: there it is raised. Lua, since a C function that was suspended cannot raise. */
static const char ITERATE[] = "local next = ... "
                              "return function(stream) "
                              "local event, err = next(stream) "
                              "if err ~= nil then error(err, 0) end "
                              "return event end";

/* stream:close(): what is queued is dropped */
static int stream_close(lua_State *L) {
    cp_lua_stream *stream = luaL_checkudata(L, 1, CP_LUA_STREAM);
    while (stream->queue.count)
        json_decref(take_event(stream));
    cp_lua_stream_close(stream, NULL);
    return 0;
}

static int stream_gc(lua_State *L) {
    cp_lua_stream *stream = lua_touserdata(L, 1);
    stream_close(L);
    cp_vec_clear(&stream->queue);
    cp_error_clear(&stream->err);
    free(cp_take(stream->what));
    return 0;
}

static int stream_tostring(lua_State *L) {
    const cp_lua_stream *stream = luaL_checkudata(L, 1, CP_LUA_STREAM);
    lua_pushfstring(L, "stream of %s%s", stream->what, stream->ended ? " (ended)" : "");
    return 1;
}

void cp_lua_open_stream(lua_State *L) {
    static const luaL_Reg METHODS[] = {{"next", stream_next}, {"close", stream_close}, {NULL, NULL}};
    if (luaL_newmetatable(L, CP_LUA_STREAM)) {
        lua_newtable(L);
        luaL_setfuncs(L, METHODS, 0);
        lua_setfield(L, -2, "__index");
        if (luaL_loadbuffer(L, ITERATE, sizeof ITERATE - 1, "=ctrlplane.stream") != 0)
            lua_error(L);
        lua_pushcfunction(L, stream_next);
        lua_call(L, 1, 1);
        lua_setfield(L, -2, "__call");
        lua_pushcfunction(L, stream_gc);
        lua_setfield(L, -2, "__gc");
        lua_pushcfunction(L, stream_tostring);
        lua_setfield(L, -2, "__tostring");
        lua_pushliteral(L, "a stream");
        lua_setfield(L, -2, "__metatable");
    }
    lua_pop(L, 1);
}
