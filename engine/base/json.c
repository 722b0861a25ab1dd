/* engine/base/json.c -- JSON text to values and back, on jansson. Knows no descriptors. */
#include "base/desc.h"
#include "base/limits.h"

#include <stdlib.h>
#include <string.h>

/* jansson's own depth limit is a constant of its build, far above ours. */
static int check_depth(const char *text, size_t len, cp_error *err) {
    bool quoted = false;
    size_t depth = 0, line = 1, start = 0;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '\n') {
            line++;
            start = i + 1;
        }
        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
            continue;
        }
        quoted = c == '"';
        if ((c == '[' || c == '{') && ++depth > CP_MAX_JSON_DEPTH)
            return cp_fail(err, CP_E_INVALID, "JSON is nested more than %d deep (line %zu, column %zu)",
                           CP_MAX_JSON_DEPTH, line, i - start + 1);
        if ((c == ']' || c == '}') && depth > 0)
            depth--;
    }
    return 0;
}

int cp_json_parse(const char *text, size_t len, size_t max, json_t **ret, cp_error *err) {
    if (len > max)
        return cp_fail(err, CP_E_TOO_LARGE, "JSON text has %zu bytes; at most %zu are accepted", len, max);
    int r = check_depth(text, len, err);
    if (r < 0)
        return r;
    json_error_t detail;
    json_t *value = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &detail);
    if (!value && json_error_code(&detail) == json_error_null_character)
        return cp_fail(err, CP_E_INVALID, "not JSON: a text contains a NUL (line %d, column %d)", detail.line,
                       detail.column);
    if (!value)
        return cp_fail(err, CP_E_INVALID, "not JSON: %s (line %d, column %d)", detail.text, detail.line, detail.column);
    *ret = value;
    return 0;
}

/* How many digits the numbers need to come back as they are: 15 prints 0.1 as people write it; some need 17. */
static size_t digits(const json_t *value) {
    size_t most = 15, index;
    const char *key;
    json_t *item;
    switch (json_typeof(value)) {
    case JSON_REAL: {
        char text[40];
        for (; most < 17; most++) {
            snprintf(text, sizeof text, "%.*g", (int)most, json_real_value(value));
            if (strtod(text, NULL) == json_real_value(value))
                break;
        }
        return most;
    }
    case JSON_ARRAY:
        json_array_foreach(value, index, item) {
            size_t n = digits(item);
            most = n > most ? n : most;
        }
        return most;
    case JSON_OBJECT:
        json_object_foreach((json_t *)value, key, item) {
            size_t n = digits(item);
            most = n > most ? n : most;
        }
        return most;
    default:
        return most;
    }
}

static char *dump(const json_t *value, size_t flags) {
    char *text = json_dumps(value, flags | JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits(value)));
    return text ? text : cp_strdup("null"); /* only for NULL and for cycles, which nothing here can make */
}

char *cp_json_text(const json_t *value) {
    return value ? dump(value, 0) : cp_strdup("null");
}

char *cp_json_sorted(const json_t *value) {
    return value ? dump(value, JSON_SORT_KEYS) : cp_strdup("null");
}
