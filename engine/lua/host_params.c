/* engine/lua/host_params.c -- Parameters of strategies: what a declaration may say, and values checked against it.
 * Durations become seconds, shares stay as people write them. Pure; must not know Lua or workloads. */
#include "base/limits.h"
#include "lua/host.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const TYPES[] = {"duration", "share", "percent", "int", "number", "bool", "string", "enum", "list"};
static const char *const KEYS[] = {"type", "default", "doc", "min", "max", "values", "of", "required"};

static int bad(cp_error *err, const char *field, const char *hint, const char *what, const json_t *value) {
    cp_autofree char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    if (text && strlen(text) > 60)
        strcpy(text + 57, "...");
    return cp_fail_at(err, CP_E_INVALID, field, hint, "%s is %s; %s", field, text ? text : "missing", what);
}

static const char *text_of(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

/* A number from text or number; false when it is neither. percent: "25%" and 25 are the same. */
static bool read_number(const json_t *value, bool percent, double *ret) {
    if (json_is_number(value)) {
        *ret = json_number_value(value);
        return isfinite(*ret);
    }
    const char *text = json_string_value(value);
    if (!text || !*text || strspn(text, "0123456789.+-eE%") != strlen(text))
        return false;
    char *end;
    *ret = strtod(text, &end);
    if (percent && *end == '%')
        end++;
    return *end == '\0' && end != text && isfinite(*ret);
}

/* min and max are written like values: "10s", "50%", 3. */
static bool bound_of(const json_t *declared, const char *key, const char *type, double *ret) {
    const json_t *bound = json_object_get(declared, key);
    if (!bound)
        return false;
    int64_t ms;
    if (strcmp(type, "duration") == 0 && json_is_string(bound)) {
        if (cp_duration_parse(json_string_value(bound), &ms, NULL) < 0)
            return false;
        *ret = (double)ms / 1000.0;
        return true;
    }
    return read_number(bound, true, ret);
}

static int in_bounds(const json_t *declared, const char *type, const char *field, const json_t *given, double number,
                     double lowest, double highest, cp_error *err) {
    double low = lowest, high = highest;
    bound_of(declared, "min", type, &low);
    bound_of(declared, "max", type, &high);
    if (number >= low && number <= high)
        return 0;
    char what[160];
    const char *unit = strcmp(type, "duration") == 0 ? " seconds" : "";
    if (isinf(high))
        snprintf(what, sizeof what, "it must be at least %.10g%s", low, unit);
    else if (isinf(low))
        snprintf(what, sizeof what, "it must be at most %.10g%s", high, unit);
    else
        snprintf(what, sizeof what, "it must be %.10g..%.10g%s", low, high, unit);
    return bad(err, field, NULL, what, given);
}

static json_t *number_json(double number) {
    return number == floor(number) && fabs(number) < 9e15 ? json_integer((json_int_t)number) : json_real(number);
}

static int check_enum(const json_t *declared, const char *field, const json_t *value, json_t **ret, cp_error *err) {
    const json_t *values = json_object_get(declared, "values");
    const char *words[64];
    size_t count = 0;
    const json_t *item;
    size_t i;
    cp_autobuf cp_buf known = {0};
    json_array_foreach(values, i, item) {
        if (count < CP_COUNT(words))
            words[count++] = json_string_value(item);
        cp_buf_printf(&known, "%s%s", i ? ", " : "it must be one of ", json_string_value(item));
    }
    const char *text = json_string_value(value);
    for (i = 0; text && i < count; i++)
        if (strcmp(words[i], text) == 0) {
            *ret = json_string(text);
            return 0;
        }
    const char *near = text && strlen(text) < 64 ? cp_nearest(text, words, count) : NULL;
    cp_autofree char *hint = near ? cp_printf("did you mean '%s'?", near) : NULL;
    return bad(err, field, hint, known.data ? known.data : "there is nothing to choose from", value);
}

static int check_value(const json_t *declared, const char *type, const char *field, const json_t *value, json_t **ret,
                       cp_error *err) {
    double number;
    if (strcmp(type, "duration") == 0) {
        int64_t ms;
        if (json_is_number(value))
            number = json_number_value(value);
        else if (json_is_string(value) && cp_duration_parse(json_string_value(value), &ms, NULL) == 0)
            number = (double)ms / 1000.0;
        else
            return bad(err, field, NULL, "write a duration like 250ms, 30s or 1h30m", value);
        *ret = number_json(number);
        return in_bounds(declared, type, field, value, number, 0, CP_MAX_DURATION_MS / 1000.0, err);
    }
    if (strcmp(type, "share") == 0) {
        bool percent = json_is_string(value) && strchr(json_string_value(value), '%');
        if (!read_number(value, true, &number) || (!percent && number != floor(number)))
            return bad(err, field, NULL, "write a count like 2 or a percentage like \"25%\"", value);
        *ret = percent ? json_copy((json_t *)value) : number_json(number);
        return in_bounds(declared, type, field, value, number, 0, percent ? 100 : CP_MAX_REPLICAS, err);
    }
    if (strcmp(type, "percent") == 0) {
        if (!read_number(value, true, &number))
            return bad(err, field, NULL, "write a percentage like 25 or \"25%\"", value);
        *ret = number_json(number);
        return in_bounds(declared, type, field, value, number, 0, 100, err);
    }
    if (strcmp(type, "int") == 0 || strcmp(type, "number") == 0) {
        bool whole = *type == 'i';
        if (!read_number(value, false, &number) || (whole && number != floor(number)))
            return bad(err, field, NULL, whole ? "it must be a whole number" : "it must be a number", value);
        *ret = number_json(number);
        return in_bounds(declared, type, field, value, number, whole ? -9e15 : -INFINITY, whole ? 9e15 : INFINITY, err);
    }
    if (strcmp(type, "bool") == 0) {
        const char *text = json_string_value(value);
        bool on = json_is_true(value) || cp_streq(text, "true"), off = json_is_false(value) || cp_streq(text, "false");
        if (!on && !off)
            return bad(err, field, NULL, "it must be true or false", value);
        *ret = json_boolean(on);
        return 0;
    }
    if (strcmp(type, "enum") == 0)
        return check_enum(declared, field, value, ret, err);
    if (!json_is_string(value))
        return bad(err, field, NULL, "it must be a text", value);
    *ret = json_copy((json_t *)value);
    return in_bounds(declared, type, field, value, (double)json_string_length(value), 0, 4096, err);
}

/* "10, 50" as a command line gives it. */
static json_t *split_list(const char *text) {
    json_t *items = json_array();
    while (*text) {
        text += strspn(text, " ");
        size_t len = strcspn(text, ","), end = len;
        while (end > 0 && text[end - 1] == ' ')
            end--;
        json_array_append_new(items, json_stringn(text, end));
        text += len + (text[len] == ',');
    }
    return items;
}

static int check_list(const json_t *declared, const char *field, const json_t *value, json_t **ret, cp_error *err) {
    const char *of = text_of(declared, "of");
    cp_autojson json_t *split = json_is_string(value) ? split_list(json_string_value(value)) : NULL;
    if (split)
        value = split;
    if (!json_is_array(value) && !(json_is_object(value) && json_object_size(value) == 0))
        return bad(err, field, NULL, "it must be a list", value);
    cp_autojson json_t *list = json_array();
    if (json_array_size(value) > 1000)
        return cp_fail_at(err, CP_E_INVALID, field, NULL, "%s has %zu items; it must be at most 1000", field,
                          json_array_size(value));
    const json_t *item;
    size_t i;
    json_array_foreach(value, i, item) {
        cp_autofree char *path = cp_printf("%s[%zu]", field, i);
        json_t *checked = NULL;
        int r = check_value(declared, of, path, item, &checked, err);
        if (checked)
            json_array_append_new(list, checked);
        if (r < 0)
            return r;
    }
    *ret = cp_take(list);
    return 0;
}

static int check_one(const json_t *declared, const char *field, const json_t *value, json_t **ret, cp_error *err) {
    const char *type = text_of(declared, "type");
    cp_autojson json_t *checked = NULL;
    int r = strcmp(type, "list") == 0 ? check_list(declared, field, value, &checked, err)
                                      : check_value(declared, type, field, value, &checked, err);
    if (r == 0)
        *ret = cp_take(checked);
    return r;
}

static int unknown(cp_error *err, int code, const char *field, const char *what, const char *word,
                   const char *const *names, size_t count) {
    const char *near = strlen(word) < 64 ? cp_nearest(word, names, count) : NULL;
    cp_autobuf cp_buf known = {0};
    for (size_t i = 0; i < count; i++)
        cp_buf_printf(&known, "%s%s", i ? ", " : "", names[i]);
    cp_autofree char *hint = near ? cp_printf("did you mean '%s'?", near) : NULL;
    return cp_fail_at(err, code, field, hint, "unknown %s '%.63s'; %s%s", what, word,
                      count ? "known: " : "there is none", known.len ? known.data : "");
}

static bool is_word(const char *word, const char *const *words, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (word && strcmp(words[i], word) == 0)
            return true;
    return false;
}

static int check_declaration(const char *name, const json_t *declared, cp_error *err) {
    cp_autofree char *field = cp_printf("params.%s", name);
    if (!json_is_object(declared))
        return cp_fail_at(err, CP_E_INVALID, field, NULL, "%s must be a table such as { type = \"duration\" }", field);
    const char *key;
    const json_t *value;
    json_object_foreach((json_t *)declared, key, value) {
        if (!is_word(key, KEYS, CP_COUNT(KEYS)))
            return unknown(err, CP_E_INVALID, field, "key of a parameter", key, KEYS, CP_COUNT(KEYS));
    }
    const char *type = text_of(declared, "type");
    if (!is_word(type, TYPES, CP_COUNT(TYPES)))
        return unknown(err, CP_E_INVALID, field, "type", type ? type : "", TYPES, CP_COUNT(TYPES));
    const char *of = text_of(declared, "of");
    bool list = strcmp(type, "list") == 0;
    if (list && (!is_word(of, TYPES, CP_COUNT(TYPES) - 1)))
        return unknown(err, CP_E_INVALID, field, "type of a list's items (`of`)", of ? of : "", TYPES,
                       CP_COUNT(TYPES) - 1);
    const json_t *values = json_object_get(declared, "values");
    if (strcmp(list ? of : type, "enum") == 0) {
        size_t i;
        if (json_array_size(values) == 0 || json_array_size(values) > 64)
            return cp_fail_at(err, CP_E_INVALID, field, NULL, "%s is an enum; it needs values = { ... }, 1..64 texts",
                              field);
        json_array_foreach(values, i, value) {
            if (!json_is_string(value))
                return cp_fail_at(err, CP_E_INVALID, field, NULL, "the values of %s must be texts", field);
        }
    }
    static const char *const bounds[] = {"min", "max"};
    for (size_t i = 0; i < 2; i++) {
        double ignored;
        if (json_object_get(declared, bounds[i]) && !bound_of(declared, bounds[i], list ? of : type, &ignored))
            return cp_fail_at(err, CP_E_INVALID, field, NULL, "%s of %s is not a %s", bounds[i], field,
                              list ? of : type);
    }
    const json_t *fallback = json_object_get(declared, "default");
    cp_autojson json_t *checked = NULL;
    if (!fallback || json_is_null(fallback))
        return 0;
    int r = check_one(declared, field, fallback, &checked, err);
    return r < 0 ? cp_error_wrap(err, "the default") : 0;
}

int cp_params_declared(const json_t *declared, cp_error *err) {
    const char *name;
    const json_t *one;
    json_object_foreach((json_t *)declared, name, one) {
        int r = check_declaration(name, one, err);
        if (r < 0)
            return r;
    }
    return 0;
}

int cp_params_check(const json_t *declared, const json_t *params, json_t **ret, cp_error *err) {
    cp_autojson json_t *all = json_object();
    const char *name;
    const json_t *value;
    bool none = !params || json_is_null(params) || (json_is_array(params) && json_array_size(params) == 0);
    if (!none && !json_is_object(params))
        return cp_fail_at(err, CP_E_INVALID, "params", NULL, "params must be an object of names and values");
    json_object_foreach((json_t *)params, name, value) {
        if (json_object_get(declared, name))
            continue;
        const char *names[64];
        size_t count = 0;
        const char *known;
        const json_t *ignored;
        json_object_foreach((json_t *)declared, known, ignored) {
            if (count < CP_COUNT(names))
                names[count++] = known;
        }
        cp_autofree char *field = cp_printf("params.%.63s", name);
        return unknown(err, CP_E_INVALID, field, "parameter", name, names, count);
    }
    const json_t *one;
    json_object_foreach((json_t *)declared, name, one) {
        cp_autofree char *field = cp_printf("params.%s", name);
        value = json_object_get(params, name);
        if (!value || json_is_null(value))
            value = json_object_get(one, "default");
        if (!value || json_is_null(value)) {
            if (json_is_true(json_object_get(one, "required")))
                return bad(err, field, NULL, "the strategy needs it", NULL);
            continue;
        }
        json_t *checked = NULL;
        int r = check_one(one, field, value, &checked, err);
        if (r < 0)
            return r;
        json_object_set_new(all, name, checked);
    }
    *ret = cp_take(all);
    return 0;
}
