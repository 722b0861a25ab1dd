/* engine/lua/testing_net.c -- For specs: an HTTP client and probes on a loop of their own, on the real clock. Answers
 * are kept as values; no Lua runs in a callback. */
#ifdef CP_FAILPOINTS
#include "lua/lua.h"
#include "net/probe.h"

#include <stdlib.h>

#define CLIENT "ctrlplane.testing.client"

typedef struct client {
    cp_loop *loop;
    cp_http *http;
    cp_vec asked; /* asked_one * */
} client;

typedef struct asked_one {
    client *c;
    cp_http_request *request;
    cp_probe *probe;
    bool done, cancel_on_chunk, close_on_done;
    json_t *answer, *chunks;
    cp_error err;
} asked_one;

static client *check(lua_State *L) {
    client *c = luaL_checkudata(L, 1, CLIENT);
    if (!c->loop)
        luaL_error(L, "this client is closed");
    return c;
}

static void close_http(client *c) {
    for (size_t i = 0; i < c->asked.count; i++) {
        asked_one *one = c->asked.items[i];
        one->request = NULL;
        cp_probe_free(one->probe);
        one->probe = NULL;
    }
    cp_http_free(c->http);
    c->http = NULL;
}

static int close_client(lua_State *L) {
    client *c = luaL_checkudata(L, 1, CLIENT);
    if (!c->loop)
        return 0;
    close_http(c);
    for (size_t i = 0; i < c->asked.count; i++) {
        asked_one *one = c->asked.items[i];
        json_decref(one->answer);
        json_decref(one->chunks);
        cp_error_clear(&one->err);
        free(one);
    }
    cp_vec_clear(&c->asked);
    cp_loop_free(c->loop);
    c->loop = NULL;
    return 0;
}

static int open_client(lua_State *L) {
    client *c = lua_newuserdata(L, sizeof *c);
    *c = (client){0};
    cp_autoerror cp_error err = {0};
    if (cp_loop_new(false, &c->loop, &err) < 0)
        return cp_lua_fail(L, &err);
    if (cp_http_new(c->loop, &c->http, &err) < 0) {
        cp_loop_free(c->loop);
        return cp_lua_fail(L, &err);
    }
    luaL_getmetatable(L, CLIENT);
    lua_setmetatable(L, -2);
    return 1;
}

static asked_one *ask(client *c) {
    asked_one *one = cp_new0(asked_one);
    one->c = c;
    one->chunks = json_array();
    cp_vec_push(&c->asked, one);
    return one;
}

static void on_chunk(void *userdata, const char *bytes, size_t len) {
    asked_one *one = userdata;
    json_array_append_new(one->chunks, json_stringn(bytes, len));
    if (one->cancel_on_chunk) {
        cp_http_cancel(one->request);
        one->request = NULL;
    }
}

static void on_response(void *userdata, const cp_http_response *response, const cp_error *err) {
    asked_one *one = userdata;
    one->request = NULL;
    one->done = true;
    if (err)
        cp_error_copy(&one->err, err);
    else
        one->answer = json_pack("{s:I, s:s%, s:s}", "status", (json_int_t)response->status, "body", response->body,
                                response->len, "content_type", response->content_type);
    if (one->close_on_done)
        close_http(one->c);
}

static const char *text_of(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

/* send { url, method?, unix?, body?, header?, timeout? (seconds), max?, stream?, no_reuse?, cancel_on_chunk?,
 * close_on_done? } -> number | nil, err */
static int send_request(lua_State *L) {
    client *c = check(L);
    cp_autojson json_t *json = NULL;
    cp_autoerror cp_error err = {0};
    if (cp_lua_to_json(L, 2, NULL, &json, &err) < 0)
        return cp_lua_fail(L, &err);
    const json_t *max = json_object_get(json, "max"), *body = json_object_get(json, "body");
    const char *headers[] = {text_of(json, "header"), NULL}, *method = text_of(json, "method");
    cp_http_options options = {
        .method = method ? method : "GET",
        .url = text_of(json, "url"),
        .unix_socket = text_of(json, "unix"),
        .body = json_string_value(body),
        .body_len = json_string_length(body),
        .headers = headers,
        .timeout = (int64_t)(json_number_value(json_object_get(json, "timeout")) * 1000),
        .max_body = max ? (size_t)json_integer_value(max) : 1 << 20,
        .no_reuse = json_is_true(json_object_get(json, "no_reuse")),
        .chunk = json_is_true(json_object_get(json, "stream")) ? on_chunk : NULL,
    };
    asked_one *one = ask(c);
    one->cancel_on_chunk = json_is_true(json_object_get(json, "cancel_on_chunk"));
    one->close_on_done = json_is_true(json_object_get(json, "close_on_done"));
    if (cp_http_send(c->http, &options, on_response, one, &one->request, &err) < 0)
        return cp_lua_fail(L, &err);
    lua_pushinteger(L, (lua_Integer)c->asked.count);
    return 1;
}

static void on_probed(void *userdata, const cp_probe_result *result) {
    asked_one *one = userdata;
    one->done = true;
    one->answer =
        json_pack("{s:b, s:I, s:I, s:s?}", "healthy", result->healthy, "status_code", (json_int_t)result->status_code,
                  "latency_us", (json_int_t)result->latency_us, "message", result->message);
}

/* probe(target, timeout in ms) -> number | nil, err */
static int probe(lua_State *L) {
    client *c = check(L);
    const char *target = luaL_checkstring(L, 2);
    int64_t timeout = luaL_checkinteger(L, 3);
    asked_one *one = ask(c);
    cp_autoerror cp_error err = {0};
    if (cp_probe_start(c->http, target, timeout, on_probed, one, &one->probe, &err) < 0)
        return cp_lua_fail(L, &err);
    lua_pushinteger(L, (lua_Integer)c->asked.count);
    return 1;
}

static asked_one *check_asked(lua_State *L, client *c) {
    lua_Integer n = luaL_checkinteger(L, 2);
    luaL_argcheck(L, n >= 1 && (size_t)n <= c->asked.count, 2, "nothing with this number was asked");
    return c->asked.items[n - 1];
}

/* turn(ms?): one turn of the loop, at most so long */
static int turn(lua_State *L) {
    cp_loop_turn(check(L)->loop, luaL_optinteger(L, 2, 0));
    return 0;
}

static bool is_done(void *userdata) {
    return ((asked_one *)userdata)->done;
}

/* answer(number, ms to wait?) -> table | nil, err | "pending" */
static int answer(lua_State *L) {
    client *c = check(L);
    asked_one *one = check_asked(L, c);
    cp_loop_run(c->loop, is_done, one, luaL_optinteger(L, 3, 0));
    if (!one->done)
        lua_pushliteral(L, "pending");
    else if (one->err.code)
        return cp_lua_fail(L, &one->err);
    else
        cp_lua_push_json(L, one->answer);
    return 1;
}

static int chunks(lua_State *L) {
    cp_lua_push_json(L, check_asked(L, check(L))->chunks);
    return 1;
}

static int cancel(lua_State *L) {
    asked_one *one = check_asked(L, check(L));
    cp_http_cancel(one->request);
    cp_probe_free(one->probe);
    one->request = NULL;
    one->probe = NULL;
    return 0;
}

/* now() -> ms of the loop, ms of it that were watched */
static int now(lua_State *L) {
    client *c = check(L);
    lua_pushnumber(L, (lua_Number)cp_loop_mono(c->loop));
    lua_pushnumber(L, (lua_Number)cp_loop_watched(c->loop));
    return 2;
}

void cp_lua_testing_net(lua_State *L) {
    static const luaL_Reg methods[] = {
        {"close", close_client}, {"send", send_request}, {"probe", probe}, {"turn", turn}, {"answer", answer},
        {"chunks", chunks},      {"cancel", cancel},     {"now", now},     {NULL, NULL},
    };
    luaL_newmetatable(L, CLIENT);
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, close_client);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, open_client);
    lua_setfield(L, -2, "open");
    lua_setfield(L, -2, "net");
}
#endif
