/* engine/lua/call.c -- Operations as methods: plane.workloads:scale("web", { replicas = 5 }). Everything is generated
 * from cp_operations(); what a program gets wrong raises at its line, what is wrong in operation is nil and an error.
 * Must not know what any operation does. */
#include "lua/plane.h"

#include <stdio.h>
#include <string.h>

/* "workloads.scale" -> "workloads:scale" */
static const char *method_name(const cp_operation *op, char out[64]) {
    snprintf(out, 64, "%s", op->name);
    char *dot = strchr(out, '.');
    if (dot)
        *dot = ':';
    return out;
}

static const char *wanted_by(const cp_field *field, int type) {
    bool text = type == LUA_TSTRING, number = type == LUA_TNUMBER, table = type == LUA_TTABLE;
    switch (field->type) {
    case CP_STRING:
        return text || number ? NULL : "a text";
    case CP_TIME:
        return text || number ? NULL : "a time such as \"2026-01-31T12:00:00Z\"";
    case CP_ENUM:
        return text ? NULL : "one of its words";
    case CP_INT:
    case CP_DOUBLE:
        return number ? NULL : "a number";
    case CP_BOOL:
        return type == LUA_TBOOLEAN ? NULL : "true or false";
    case CP_DURATION:
        return text || number ? NULL : "a duration such as \"30s\", or a number of seconds";
    case CP_SHARE:
        return text || number ? NULL : "a count, or a share such as \"25%\"";
    case CP_STRINGS:
    case CP_LIST:
        return table ? NULL : "a list";
    case CP_MAP:
    case CP_OBJECT:
    case CP_POINTER:
        return table ? NULL : "a table";
    case CP_JSON:
        return type == LUA_TFUNCTION || type == LUA_TTHREAD || type == LUA_TUSERDATA ? "a plain value" : NULL;
    }
    return NULL;
}

/* Raises for a key that is not known, with the nearest, and for a type that cannot be meant. */
static void check_options(lua_State *L, int index, const cp_operation *op, const char *what) {
    const char *names[128];
    size_t count = 0;
    for (size_t i = 0; op->args && i < op->args->count && count < CP_COUNT(names) - 1; i++)
        names[count++] = op->args->fields[i].name;
    names[count++] = "timeout";
    cp_lua_check_keys(L, index, what, names, count);
    if (!lua_istable(L, index))
        return;
    lua_pushnil(L);
    while (lua_next(L, index)) {
        const cp_field *field = op->args ? cp_desc_field(op->args, lua_tostring(L, -2)) : NULL;
        bool null = lua_islightuserdata(L, -1);
        const char *wanted = field && !null ? wanted_by(field, lua_type(L, -1)) : NULL;
        if (wanted) {
            cp_lua_misuse(L, "option '%s' of %s is a %s; it must be %s", field->name, what, luaL_typename(L, -1),
                          wanted);
            return;
        }
        lua_pop(L, 1);
    }
}

static void on_reply(void *userdata, const json_t *result, const cp_error *err) {
    cp_lua_wait_finish(userdata, err ? NULL : json_incref((json_t *)result), err);
}

static void cancel_call(cp_lua_wait *wait) {
    cp_call_cancel(wait->work);
}

static int start_call(lua_State *L, cp_lua_plane *plane, const cp_operation *op, const char *id, json_t *args,
                      int64_t timeout, const char *what) {
    cp_lua_wait *wait = cp_lua_wait_new(L, plane, what);
    if (plane->http) {
        cp_autoerror cp_error err = {0};
        if (cp_lua_remote_call(plane, op, id, args, wait, &err) < 0) {
            cp_lua_wait_free(wait);
            return cp_lua_fail(L, &err);
        }
    } else {
        cp_call *call = NULL;
        cp_plane_call(plane->engine.plane, op, id, args, NULL, on_reply, wait, &call);
        wait->work = call;
        wait->cancel = cancel_call;
    }
    cp_lua_wait_timeout(wait, timeout);
    return cp_lua_wait_for(L, wait);
}

static int start_stream(lua_State *L, cp_lua_plane *plane, const cp_operation *op, const char *id, json_t *args,
                        int64_t timeout, const char *what) {
    cp_lua_stream *stream = cp_lua_stream_new(L, 1, plane, what);
    cp_autoerror cp_error err = {0};
    int r = plane->http ? cp_lua_remote_stream(stream, op, id, args, &err)
                        : cp_plane_stream(plane->engine.plane, op, id, args, NULL, cp_lua_stream_event, stream,
                                          &stream->source, &err);
    if (r < 0) {
        cp_lua_stream_close(stream, NULL);
        return cp_lua_fail(L, &err);
    }
    cp_lua_stream_deadline(stream, timeout);
    return 1;
}

/* Upvalue: the operation. (namespace, id?, options?) -> what the operation returns | nil, err */
static int call_operation(lua_State *L) {
    const cp_operation *op = lua_touserdata(L, lua_upvalueindex(1));
    char name[64];
    const char *what = method_name(op, name);
    cp_lua_plane *plane = cp_lua_check_namespace(L, what);
    const char *id = NULL;
    int options = 2;
    if (op->flags & CP_OPERATION_ID) {
        if (lua_type(L, 2) != LUA_TSTRING)
            return cp_lua_misuse(L, "%s takes the %s of a %s first; got %s", what,
                                 cp_streq(op->id_of, "workload") ? "id or slug" : "id", op->id_of,
                                 lua_isnoneornil(L, 2) ? "nothing" : luaL_typename(L, 2));
        id = lua_tostring(L, 2);
        options = 3;
    }
    if (lua_gettop(L) > options)
        return cp_lua_misuse(L, "%s takes %s; got %d more arguments", what,
                             id ? "an id and one table of options" : "one table of options", lua_gettop(L) - options);
    lua_settop(L, options);
    check_options(L, options, op, what);

    cp_autojson json_t *args = NULL;
    cp_autoerror cp_error err = {0};
    int64_t timeout = -1;
    bool own_timeout = op->args && cp_desc_field(op->args, "timeout"); /* then it is the operation's */
    if (!own_timeout && cp_lua_duration_option(L, options, "timeout", &timeout, &err) < 0)
        return cp_lua_fail(L, &err);
    if (lua_isnil(L, options))
        args = json_object();
    else if (cp_lua_to_json(L, options, op->args, &args, &err) < 0)
        return cp_lua_fail(L, &err);
    if (!own_timeout)
        json_object_del(args, "timeout");
    return op->flags & CP_OPERATION_STREAM ? start_stream(L, plane, op, id, args, timeout, what)
                                           : start_call(L, plane, op, id, args, timeout, what);
}

static bool in_namespace(const cp_operation *op, const char *name) {
    size_t len = strlen(name);
    return strncmp(op->name, name, len) == 0 && op->name[len] == '.';
}

bool cp_lua_push_namespace(lua_State *L, const char *name) {
    size_t count;
    const cp_operation *operations = cp_operations(&count);
    bool found = false;
    for (size_t i = 0; i < count; i++) {
        if (!in_namespace(&operations[i], name))
            continue;
        if (!found)
            lua_newtable(L);
        found = true;
        lua_pushlightuserdata(L, (void *)&operations[i]);
        lua_pushcclosure(L, call_operation, 1);
        lua_setfield(L, -2, operations[i].name + strlen(name) + 1);
    }
    return found;
}

int cp_lua_list_namespaces(const char **names, int max) {
    static char texts[32][32];
    size_t operations_count;
    const cp_operation *operations = cp_operations(&operations_count);
    int count = 0;
    for (size_t i = 0; i < operations_count && count < max && count < (int)CP_COUNT(texts); i++) {
        snprintf(texts[count], sizeof texts[count], "%.*s", (int)strcspn(operations[i].name, "."), operations[i].name);
        int known = 0;
        while (known < count && strcmp(names[known], texts[count]) != 0)
            known++;
        if (known == count) {
            names[count] = texts[count];
            count++;
        }
    }
    return count;
}
