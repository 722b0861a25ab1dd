/* engine/api/route.c -- From a request to an operation and its arguments: paths, query parameters typed by the
 * operation's descriptor, JSON bodies. Must not know connections or planes. */
#include "api/internal.h"
#include "base/limits.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/keyvalq_struct.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define MAX_SEGMENTS 4

/* Splits at '/'; the parts point into text, which is changed. -1: too many. */
static int split(char *text, char *parts[MAX_SEGMENTS]) {
    int count = 0;
    for (char *part = text; part;) {
        char *slash = strchr(part, '/');
        if (slash)
            *slash++ = '\0';
        if (count == MAX_SEGMENTS)
            return -1;
        parts[count++] = part;
        part = slash;
    }
    return count;
}

void cp_routes_new(cp_server *server) {
    const cp_operation *operations = cp_operations(&server->route_count);
    server->routes = cp_alloc0(server->route_count * sizeof(route));
    for (size_t i = 0; i < server->route_count; i++) {
        route *r = &server->routes[i];
        r->op = &operations[i];
        cp_autofree char *path = cp_strdup(operations[i].path + 1);
        char *parts[MAX_SEGMENTS];
        int count = split(path, parts);
        for (int p = 0; p < count; p++)
            r->segments[r->count++] = cp_strdup(parts[p]);
    }
}

void cp_routes_free(cp_server *server) {
    for (size_t i = 0; i < server->route_count; i++)
        for (size_t p = 0; p < server->routes[i].count; p++)
            free(server->routes[i].segments[p]);
    free(server->routes);
}

static bool matches(const route *r, char *const parts[], size_t count) {
    if (r->count != count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (strcmp(r->segments[i], "{id}") != 0 && strcmp(r->segments[i], parts[i]) != 0)
            return false;
    return true;
}

/* The path that was probably meant: every route of this shape, with what was given for {id}. */
static char *nearest(const cp_server *server, const char *path, char *const parts[], size_t count) {
    char **candidates = cp_alloc0((server->route_count + 1) * sizeof(char *));
    for (size_t i = 0; i < server->route_count; i++) {
        const route *r = &server->routes[i];
        cp_autobuf cp_buf text = {0};
        cp_buf_puts(&text, "/v1");
        for (size_t p = 0; p < r->count; p++)
            cp_buf_printf(&text, "/%s", strcmp(r->segments[p], "{id}") == 0 && p < count ? parts[p] : r->segments[p]);
        candidates[i] = cp_strdup(text.data);
    }
    const char *found = cp_nearest(path, (const char *const *)candidates, server->route_count);
    char *hint = found ? cp_printf("did you mean '%s'?", found) : NULL;
    for (size_t i = 0; i < server->route_count; i++)
        free(candidates[i]);
    free(candidates);
    return hint;
}

/* The method for which a route is listed, unless another route of the path was listed before. */
static void allow_method(cp_buf *allow, const char *method) {
    if (allow->len && strstr(allow->data, method))
        return;
    cp_buf_printf(allow, "%s%s", allow->len ? ", " : "", method);
}

/* Decodes %XX in place. False for NUL. */
static bool decode(char **part) {
    size_t len;
    char *decoded = evhttp_uridecode(*part, 0, &len);
    *part = decoded;
    return decoded && strlen(decoded) == len;
}

static bool is_stream(const route *r) {
    return r->op->flags & CP_OPERATION_STREAM;
}

int cp_route_find(const cp_server *server, const char *method, const char *path, bool stream, const cp_operation **ret,
                  char **ret_id, char **allow, cp_error *err) {
    cp_autofree char *text = cp_strdup(strncmp(path, "/v1/", 4) == 0 ? path + 4 : path);
    char *parts[MAX_SEGMENTS] = {0};
    int count = text[0] == '/' ? -1 : split(text, parts);
    const route *best = NULL;
    cp_autobuf cp_buf others = {0};
    for (size_t i = 0; count > 0 && i < server->route_count; i++) {
        const route *r = &server->routes[i];
        if (!matches(r, parts, (size_t)count))
            continue;
        bool streams = is_stream(r);
        if (strcmp(r->op->method, method) != 0)
            allow_method(&others, r->op->method);
        else if (!best || (streams == stream && is_stream(best) != stream)) /* one path, with and without a stream */
            best = r;
    }
    if (!best && others.len) {
        *allow = cp_strdup(others.data);
        return cp_fail(err, CP_E_UNSUPPORTED, "%s is not a method of %s; it has %s", method, path, others.data);
    }
    if (!best) {
        cp_autofree char *hint = nearest(server, path, parts, count > 0 ? (size_t)count : 0);
        return cp_fail_at(err, CP_E_NOT_FOUND, NULL, hint, "there is no route %s", path);
    }
    for (size_t i = 0; i < best->count; i++) {
        if (strcmp(best->segments[i], "{id}") != 0)
            continue;
        char *id = parts[i];
        if (!decode(&id)) {
            free(id);
            return cp_fail_at(err, CP_E_INVALID, "id", NULL, "the %s in the path contains a NUL byte", best->op->id_of);
        }
        *ret_id = id;
    }
    *ret = best->op;
    return 0;
}

/* A query parameter is text; the field says what it stands for. */
static int value_of(const cp_field *field, const char *name, const char *text, json_t **ret, cp_error *err) {
    char *end;
    errno = 0;
    if (field && field->type == CP_INT) {
        long long number = strtoll(text, &end, 10);
        if (errno || end == text || *end)
            return cp_fail_at(err, CP_E_INVALID, name, NULL, "%s is '%s'; it must be a whole number", name, text);
        *ret = json_integer(number);
    } else if (field && field->type == CP_DOUBLE) {
        double number = strtod(text, &end);
        if (errno || end == text || *end || number != number)
            return cp_fail_at(err, CP_E_INVALID, name, NULL, "%s is '%s'; it must be a number", name, text);
        *ret = json_real(number);
    } else if (field && field->type == CP_BOOL) {
        bool yes = strcmp(text, "true") == 0 || strcmp(text, "1") == 0 || *text == '\0'; /* ?follow */
        if (!yes && strcmp(text, "false") != 0 && strcmp(text, "0") != 0)
            return cp_fail_at(err, CP_E_INVALID, name, NULL, "%s is '%s'; it must be true or false", name, text);
        *ret = json_boolean(yes);
    } else if (field && field->type >= CP_MAP) {
        return cp_fail_at(err, CP_E_INVALID, name, NULL, "%s cannot be given in the query; put it into the body", name);
    } else {
        *ret = json_string(text);
        if (!*ret)
            return cp_fail_at(err, CP_E_INVALID, name, NULL, "%s is not valid UTF-8", name);
    }
    return 0;
}

/* "a,b" and "types=a&types=b" are both lists. */
static int add_words(json_t *args, const char *name, const char *text, cp_error *err) {
    json_t *list = json_object_get(args, name);
    if (!list) {
        list = json_array();
        json_object_set_new(args, name, list);
    }
    while (*text) {
        size_t len = strcspn(text, ",");
        json_t *word = json_stringn(text, len);
        if (!word)
            return cp_fail_at(err, CP_E_INVALID, name, NULL, "%s is not valid UTF-8", name);
        json_array_append_new(list, word);
        text += len + (text[len] == ',');
    }
    return 0;
}

static int add_parameter(const cp_operation *op, const char *name, const char *text, json_t *args, cp_error *err) {
    const cp_field *field = cp_desc_field(op->args, name);
    if (field && field->type == CP_STRINGS)
        return add_words(args, name, text, err);
    if (json_object_get(args, name))
        return cp_fail_at(err, CP_E_INVALID, name, NULL, "%s is given twice", name);
    json_t *value;
    int r = value_of(field, name, text, &value, err);
    if (r < 0)
        return r;
    if (json_object_set_new(args, name, value) < 0)
        return cp_fail(err, CP_E_INVALID, "a parameter's name is not valid UTF-8");
    return 0;
}

static int add_query(const cp_operation *op, const struct evhttp_uri *uri, json_t *args, cp_error *err) {
    const char *query = evhttp_uri_get_query(uri);
    if (cp_is_empty(query))
        return 0;
    struct evkeyvalq parameters;
    if (evhttp_parse_query_str(query, &parameters) < 0)
        return cp_fail(err, CP_E_INVALID, "the query '%s' cannot be read; write it like name=value&name=value", query);
    int r = 0;
    struct evkeyval *parameter;
    TAILQ_FOREACH(parameter, &parameters, next) {
        r = add_parameter(op, parameter->key, parameter->value, args, err);
        if (r < 0)
            break;
    }
    evhttp_clear_headers(&parameters);
    return r;
}

static int read_body(struct evhttp_request *request, json_t **ret, cp_error *err) {
    struct evbuffer *body = evhttp_request_get_input_buffer(request);
    size_t len = evbuffer_get_length(body);
    if (len == 0) {
        *ret = json_object();
        return 0;
    }
    if (len > CP_MAX_BODY)
        return cp_fail(err, CP_E_TOO_LARGE, "the body has %zu bytes; at most %d are taken", len, CP_MAX_BODY);
    const char *type = evhttp_find_header(evhttp_request_get_input_headers(request), "Content-Type");
    if (!type || strncasecmp(type, "application/json", strlen("application/json")) != 0)
        return cp_fail_at(err, CP_E_INVALID, "Content-Type", NULL, "Content-Type is '%s'; send application/json",
                          type ? type : "");
    cp_autojson json_t *value = NULL;
    int r = cp_json_parse((const char *)evbuffer_pullup(body, -1), len, CP_MAX_BODY, &value, err);
    if (r < 0)
        return r;
    if (!json_is_object(value))
        return cp_fail(err, CP_E_INVALID, "the body is not an object; write it like {\"name\": \"web\"}");
    *ret = cp_take(value);
    return 0;
}

int cp_route_args(const cp_operation *op, struct evhttp_request *request, json_t **ret, cp_error *err) {
    cp_autojson json_t *args = NULL;
    if (!evbuffer_get_length(evhttp_request_get_input_buffer(request)) &&
        !evhttp_uri_get_query(evhttp_request_get_evhttp_uri(request)) && !(op->flags & CP_OPERATION_STREAM)) {
        *ret = NULL; /* nothing was given */
        return 0;
    }
    int r = read_body(request, &args, err);
    if (r == 0)
        r = add_query(op, evhttp_request_get_evhttp_uri(request), args, err);
    if (r < 0)
        return r;
    *ret = cp_take(args);
    return 0;
}
