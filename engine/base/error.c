/* engine/base/error.c -- Errors and the table of public codes. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    int code;
    const char *name;
    int http_status;
} CODES[] = {
    {CP_E_INVALID, "invalid", 400},
    {CP_E_NOT_FOUND, "not_found", 404},
    {CP_E_ALREADY_EXISTS, "already_exists", 409},
    {CP_E_INVALID_STATE, "invalid_state", 409},
    {CP_E_CONFLICT, "conflict", 409},
    {CP_E_UNAUTHORIZED, "unauthorized", 401},
    {CP_E_FORBIDDEN, "forbidden", 403},
    {CP_E_DENIED, "denied", 403},
    {CP_E_QUOTA_EXCEEDED, "quota_exceeded", 403},
    {CP_E_RATE_LIMITED, "rate_limited", 429},
    {CP_E_PROVIDER_NOT_FOUND, "provider_not_found", 404},
    {CP_E_PROVIDER_UNAVAILABLE, "provider_unavailable", 503},
    {CP_E_PROVIDER_FAILED, "provider_failed", 502},
    {CP_E_UNSUPPORTED, "unsupported", 422},
    {CP_E_DEPLOYMENT_FAILED, "deployment_failed", 409},
    {CP_E_HEALTH_CHECK_FAILED, "health_check_failed", 409},
    {CP_E_TIMEOUT, "timeout", 504},
    {CP_E_CANCELLED, "cancelled", 409},
    {CP_E_NONDETERMINISM, "nondeterminism", 409},
    {CP_E_SCRIPT_ERROR, "script_error", 422},
    {CP_E_STORAGE_FAILED, "storage_failed", 503},
    {CP_E_TOO_LARGE, "too_large", 413},
    {CP_E_INTERNAL, "internal", 500},
};

static void set_message(cp_error *err, const char *format, va_list args) {
    char *message = NULL;
    if (vasprintf(&message, format, args) < 0)
        abort();
    for (char *c = message; *c; c++) /* one line, whatever name or text of a user is in it */
        if ((unsigned char)*c < ' ' || *c == 127)
            *c = ' ';
    err->message = message;
}

int cp_fail(cp_error *err, int code, const char *format, ...) {
    if (!err)
        return code;
    va_list args;
    va_start(args, format);
    cp_error fresh = {.code = code};
    set_message(&fresh, format, args); /* first: the arguments may be parts of the old error */
    va_end(args);
    cp_error_move(err, &fresh);
    return code;
}

int cp_fail_at(cp_error *err, int code, const char *field, const char *hint, const char *format, ...) {
    if (!err)
        return code;
    va_list args;
    va_start(args, format);
    cp_error fresh = {.code = code, .field = cp_strdup(field), .hint = cp_strdup(hint)};
    set_message(&fresh, format, args);
    va_end(args);
    cp_error_move(err, &fresh);
    return code;
}

int cp_error_wrap(cp_error *err, const char *format, ...) {
    if (!err)
        return CP_E_INTERNAL;
    va_list args;
    va_start(args, format);
    cp_error prefix = {0};
    set_message(&prefix, format, args);
    va_end(args);
    char *old = err->message;
    err->message = cp_printf("%s: %s", prefix.message, old ? old : "");
    free(old);
    cp_error_clear(&prefix);
    return err->code;
}

void cp_error_clear(cp_error *err) {
    free(err->message);
    free(err->field);
    free(err->hint);
    json_decref(err->details);
    *err = (cp_error){0};
}

void cp_error_copy(cp_error *to, const cp_error *from) {
    cp_error copy = {
        .code = from->code,
        .message = cp_strdup(from->message),
        .field = cp_strdup(from->field),
        .hint = cp_strdup(from->hint),
        .details = json_incref(from->details),
    };
    cp_error_clear(to);
    *to = copy;
}

void cp_error_move(cp_error *to, cp_error *from) {
    cp_error_clear(to);
    *to = *from;
    *from = (cp_error){0};
}

const char *cp_code_name(int code) {
    for (size_t i = 0; i < CP_COUNT(CODES); i++)
        if (CODES[i].code == code)
            return CODES[i].name;
    return "internal";
}

int cp_code_from_name(const char *name) {
    for (size_t i = 0; i < CP_COUNT(CODES); i++)
        if (cp_streq(CODES[i].name, name))
            return CODES[i].code;
    return CP_E_INTERNAL;
}

int cp_code_http_status(int code) {
    for (size_t i = 0; i < CP_COUNT(CODES); i++)
        if (CODES[i].code == code)
            return CODES[i].http_status;
    return 500;
}

json_t *cp_error_json(const cp_error *err) {
    json_t *object = json_object();
    json_object_set_new(object, "code", json_string(cp_code_name(err->code)));
    json_t *message = json_string(err->message ? err->message : "");
    json_object_set_new(object, "message", message ? message : json_string("(a message that is not UTF-8)"));
    if (err->field)
        json_object_set_new(object, "field", json_string(err->field));
    if (err->hint)
        json_object_set_new(object, "hint", json_string(err->hint));
    if (err->details)
        json_object_set(object, "details", err->details);
    return object;
}

void cp_error_from_json(cp_error *err, const json_t *object) {
    cp_error fresh = {
        .code = cp_code_from_name(json_string_value(json_object_get(object, "code"))),
        .message = cp_strdup(json_string_value(json_object_get(object, "message"))),
        .field = cp_strdup(json_string_value(json_object_get(object, "field"))),
        .hint = cp_strdup(json_string_value(json_object_get(object, "hint"))),
        .details = json_incref(json_object_get(object, "details")),
    };
    cp_error_move(err, &fresh);
}

/* Edit distance (Levenshtein, with a swap of neighbours as one step) of two short words; '-' and '_' are the same. */
static size_t distance(const char *a, const char *b) {
    enum { LONGEST = 64 };
    size_t m = strlen(a), n = strlen(b);
    if (m >= LONGEST || n >= LONGEST)
        return LONGEST;
    size_t row[3][LONGEST + 1];
    for (size_t j = 0; j <= n; j++)
        row[0][j] = j;
    for (size_t i = 1; i <= m; i++) {
        size_t *now = row[i % 3], *above = row[(i - 1) % 3], *before = row[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= n; j++) {
            char x = a[i - 1] == '-' ? '_' : a[i - 1], y = b[j - 1] == '-' ? '_' : b[j - 1];
            size_t best = above[j - 1] + (x != y);
            best = above[j] + 1 < best ? above[j] + 1 : best;
            best = now[j - 1] + 1 < best ? now[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[m % 3][n];
}

const char *cp_nearest(const char *word, const char *const *names, size_t count) {
    const char *best = NULL;
    size_t best_distance = strlen(word) / 3 > 1 ? strlen(word) / 3 : 1;
    for (size_t i = 0; i < count; i++) {
        if (!names[i])
            continue;
        size_t d = distance(word, names[i]);
        if (d < best_distance || (d == best_distance && !best)) {
            best = names[i];
            best_distance = d;
        }
    }
    return best;
}
