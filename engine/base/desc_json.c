/* engine/base/desc_json.c -- Structs to JSON and back by descriptor: for people (parse, json) and for the store.
 * Must not know SQL or any entity. */
#include "base/desc.h"
#include "base/limits.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void *at(const cp_field *field, const void *object) {
    return (char *)object + field->offset;
}

/* ---- to JSON ---- */

static json_t *struct_json(const cp_desc *desc, const void *object, bool stored);

/* Whole numbers without ".0". */
static json_t *number_json(double value) {
    return value == floor(value) && fabs(value) < 9007199254740992.0 ? json_integer((json_int_t)value)
                                                                     : json_real(value);
}

static json_t *share_json(const cp_share *share) {
    if (!share->set)
        return json_null();
    if (!share->percent)
        return number_json(share->value);
    json_t *number = number_json(share->value);
    cp_autofree char *text = cp_json_text(number);
    json_decref(number);
    return json_sprintf("%s%%", text);
}

static json_t *text_json(const char *text) {
    json_t *value = json_string(text ? text : "");
    return value ? value : json_string("(not UTF-8)"); /* parse lets none in; an engine-made text could */
}

static json_t *time_json(int64_t ms) {
    if (!ms)
        return json_null();
    char text[32];
    cp_time_format(ms, text);
    return json_string(text);
}

static json_t *duration_json(int64_t ms) {
    return ms < 0 ? json_string("none") : number_json((double)ms / 1000);
}

static json_t *strings_json(const cp_strings *strings) {
    json_t *array = json_array();
    for (size_t i = 0; i < strings->count; i++)
        json_array_append_new(array, text_json(strings->items[i]));
    return array;
}

static json_t *map_json(const cp_map *map) {
    json_t *object = json_object();
    for (size_t i = 0; i < map->count; i++)
        json_object_set_new(object, map->items[i].key, text_json(map->items[i].value));
    return object;
}

static json_t *list_json(const cp_desc *desc, const cp_list *list, bool stored) {
    json_t *array = json_array();
    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(array, struct_json(desc, (const char *)list->items + i * desc->size, stored));
    return array;
}

static json_t *value_json(const cp_field *field, const void *object, bool stored) {
    const void *slot = at(field, object);
    switch (field->type) {
    case CP_STRING:
        return text_json(*(char *const *)slot);
    case CP_INT:
        return json_integer(*(const int64_t *)slot);
    case CP_DOUBLE:
        return isfinite(*(const double *)slot) ? number_json(*(const double *)slot) : json_null();
    case CP_BOOL:
        return json_boolean(*(const bool *)slot);
    case CP_TIME:
        return stored ? json_integer(*(const int64_t *)slot) : time_json(*(const int64_t *)slot);
    case CP_DURATION:
        return stored ? json_integer(*(const int64_t *)slot) : duration_json(*(const int64_t *)slot);
    case CP_ENUM:
        return json_string(field->values[*(const int *)slot]);
    case CP_SHARE:
        return share_json(slot);
    case CP_STRINGS:
        return strings_json(slot);
    case CP_MAP:
        return map_json(slot);
    case CP_OBJECT:
        return struct_json(field->desc, slot, stored);
    case CP_POINTER:
        return *(void *const *)slot ? struct_json(field->desc, *(void *const *)slot, stored) : json_null();
    case CP_LIST:
        return list_json(field->desc, slot, stored);
    case CP_JSON: /* deep: the value goes out of our hands */
        return *(json_t *const *)slot ? json_deep_copy(*(json_t *const *)slot) : json_null();
    }
    return json_null();
}

json_t *cp_field_json(const cp_field *field, const void *object) {
    if (field->flags & CP_MINUS_NONE) {
        if (*(const int64_t *)at(field, object) < 0)
            return NULL;
    } else if (!(field->flags & CP_KEEP_EMPTY) && cp_field_empty(field, object)) {
        return NULL;
    }
    return value_json(field, object, false);
}

json_t *cp_field_store_json(const cp_field *field, const void *object) {
    return value_json(field, object, true);
}

static json_t *struct_json(const cp_desc *desc, const void *object, bool stored) {
    json_t *result = json_object();
    for (size_t i = 0; i < desc->count; i++) {
        const cp_field *field = &desc->fields[i];
        if (field->flags & (stored ? CP_NO_SQL : CP_NO_JSON))
            continue;
        json_t *value = stored ? value_json(field, object, true) : cp_field_json(field, object);
        if (value)
            json_object_set_new(result, field->name, value);
    }
    return result;
}

json_t *cp_desc_json(const cp_desc *desc, const void *object) {
    return struct_json(desc, object, false);
}

/* ---- from JSON ---- */

static int struct_parse(const cp_desc *desc, const json_t *input, void *object, const char *path, bool stored,
                        cp_error *err);

static const char *type_name(const json_t *value) {
    static const char *const NAMES[] = {"an object", "an array", "text",  "a number",
                                        "a number",  "true",     "false", "null"};
    return value ? NAMES[json_typeof(value)] : "nothing";
}

/* Values of users in messages are cut: one line, whatever they sent. */
static int wrong_type(const json_t *value, const char *path, const char *wanted, const char *hint, cp_error *err) {
    if (json_is_string(value))
        return cp_fail_at(err, CP_E_INVALID, path, hint, "%s is the text '%.60s'; it must be %s", path,
                          json_string_value(value), wanted);
    if (json_is_number(value))
        return cp_fail_at(err, CP_E_INVALID, path, hint, "%s is the number %.15g; it must be %s", path,
                          json_number_value(value), wanted);
    return cp_fail_at(err, CP_E_INVALID, path, hint, "%s is %s; it must be %s", path, type_name(value), wanted);
}

/* what: "3 items", "70 bytes" in front; value is compared with the field's bounds. */
static int check_bounds(const cp_field *field, double value, const char *unit, const char *path, cp_error *err) {
    if (field->min == 0 && field->max == 0)
        return 0;
    bool open = field->max == 0 && field->min > 0; /* a least and no most */
    if (value >= field->min && (open || value <= field->max))
        return 0;
    if (open)
        return cp_fail_at(err, CP_E_INVALID, path, NULL, "%s is %.15g%s; it must be at least %.15g", path, value, unit,
                          field->min);
    return cp_fail_at(err, CP_E_INVALID, path, NULL, "%s is %.15g%s; it must be %.15g..%.15g", path, value, unit,
                      field->min, field->max);
}

static int check_count(const cp_field *field, size_t count, const char *unit, const char *path, cp_error *err) {
    double min = field->min > 0 ? field->min : 0;
    if ((field->min == 0 && field->max == 0) ||
        ((double)count >= min && (field->max == 0 || (double)count <= field->max)))
        return 0;
    return cp_fail_at(err, CP_E_INVALID, path, NULL, "%s has %zu %s; it must have %.15g..%.15g", path, count, unit, min,
                      field->max);
}

/* Text without NUL and in UTF-8; lent. */
static int read_text(const json_t *value, const char *path, const char *hint, const char **ret, cp_error *err) {
    if (!json_is_string(value))
        return wrong_type(value, path, "text", hint, err);
    const char *text = json_string_value(value);
    if (strlen(text) != json_string_length(value))
        return cp_fail_at(err, CP_E_INVALID, path, NULL, "%s contains a NUL byte", path);
    if (!cp_utf8_valid(text, strlen(text)))
        return cp_fail_at(err, CP_E_INVALID, path, NULL, "%s is not UTF-8", path);
    *ret = text;
    return 0;
}

static int parse_string(const cp_field *field, const json_t *value, char **slot, const char *path, bool stored,
                        cp_error *err) {
    if (json_is_integer(value) && field->flags & CP_NUMBER_OK) {
        free(*slot);
        *slot = cp_printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return 0;
    }
    const char *text = NULL;
    int r = read_text(value, path, json_is_string(value) ? NULL : "put it in quotes", &text, err);
    if (r >= 0 && !stored)
        r = check_count(field, strlen(text), "bytes", path, err);
    if (r < 0)
        return r;
    cp_set_string(slot, *text ? text : NULL);
    return 0;
}

static int parse_int(const json_t *value, int64_t *slot, const char *path, cp_error *err) {
    double number = json_number_value(value);
    if (json_is_integer(value)) {
        *slot = json_integer_value(value);
        return 0;
    }
    if (!json_is_real(value) || number != floor(number) || fabs(number) > 9007199254740992.0)
        return wrong_type(value, path, "a whole number", NULL, err);
    *slot = (int64_t)number;
    return 0;
}

static int parse_time(const json_t *value, int64_t *slot, const char *path, bool stored, cp_error *err) {
    if (stored)
        return parse_int(value, slot, path, err);
    const char *text = NULL;
    int r = read_text(value, path, "write it like 2026-01-31T12:00:00.123Z", &text, err);
    if (r < 0)
        return r;
    cp_autoerror cp_error why = {0};
    if (cp_time_parse(text, slot, &why) < 0)
        return cp_fail_at(err, CP_E_INVALID, path, why.hint, "%s: %s", path, why.message);
    return 0;
}

static int parse_duration(const cp_field *field, const json_t *value, int64_t *slot, const char *path, bool stored,
                          cp_error *err) {
    static const char WANTED[] = "a duration", HINT[] = "write it like \"250ms\", \"30s\" or a number of seconds";
    if (stored)
        return parse_int(value, slot, path, err);
    int64_t ms = 0;
    if (json_is_string(value)) {
        const char *text = NULL;
        int r = read_text(value, path, NULL, &text, err);
        if (r < 0)
            return r;
        if (field->min < 0 && strcmp(text, "none") == 0) {
            *slot = -1;
            return 0;
        }
        cp_autoerror cp_error why = {0};
        if (cp_duration_parse(text, &ms, &why) < 0)
            return cp_fail_at(err, CP_E_INVALID, path, why.hint, "%s: %s", path, why.message);
    } else if (json_is_number(value) && json_number_value(value) >= 0 &&
               json_number_value(value) <= (double)CP_MAX_DURATION_MS / 1000) {
        ms = llround(json_number_value(value) * 1000);
    } else {
        return wrong_type(value, path, WANTED, HINT, err);
    }
    bool open = field->max == 0; /* bounds are ms; people think in seconds */
    if ((double)ms < field->min || (!open && (double)ms > field->max))
        return open ? cp_fail_at(err, CP_E_INVALID, path, NULL, "%s is %.15g s; it must be at least %.15g s", path,
                                 (double)ms / 1000, field->min / 1000)
                    : cp_fail_at(err, CP_E_INVALID, path, NULL, "%s is %.15g s; it must be %.15g..%.15g s", path,
                                 (double)ms / 1000, field->min > 0 ? field->min / 1000 : 0, field->max / 1000);
    *slot = ms;
    return 0;
}

static int parse_enum(const cp_field *field, const json_t *value, int *slot, const char *path, cp_error *err) {
    size_t count = 0;
    const char *text = json_is_string(value) ? json_string_value(value) : NULL;
    for (; field->values[count]; count++)
        if (text && strcmp(text, field->values[count]) == 0) {
            *slot = (int)count;
            return 0;
        }
    cp_autofree char *wanted = cp_strdup(field->values[0]);
    for (size_t i = 1; i < count; i++) {
        char *longer = cp_printf("%s%s%s", wanted, i + 1 == count ? " or " : ", ", field->values[i]);
        free(wanted);
        wanted = longer;
    }
    const char *near = text ? cp_nearest(text, field->values, count) : NULL;
    cp_autofree char *hint = near ? cp_printf("did you mean '%s'?", near) : NULL;
    return wrong_type(value, path, wanted, hint, err);
}

static int parse_share(const json_t *value, cp_share *slot, const char *path, bool stored, cp_error *err) {
    if (stored && json_is_null(value)) {
        *slot = (cp_share){0};
        return 0;
    }
    cp_autofree char *number =
        json_is_number(value) && json_number_value(value) >= 0 ? cp_printf("%.15g", json_number_value(value)) : NULL;
    const char *text = number;
    if (!text && !json_is_string(value))
        return wrong_type(value, path, "a count or a percentage", "write it like 3 or \"25%\"", err);
    int r = text ? 0 : read_text(value, path, NULL, &text, err);
    if (r < 0)
        return r;
    cp_autoerror cp_error why = {0};
    if (cp_share_parse(text, slot, &why) < 0)
        return cp_fail_at(err, CP_E_INVALID, path, why.hint, "%s: %s", path, why.message);
    return 0;
}

static int parse_strings(const cp_field *field, const json_t *value, cp_strings *slot, const char *path, bool stored,
                         cp_error *err) {
    if (!json_is_array(value))
        return wrong_type(value, path, "a list of texts", NULL, err);
    int r = stored ? 0 : check_count(field, json_array_size(value), "items", path, err);
    size_t index;
    json_t *item;
    json_array_foreach(value, index, item) {
        cp_autofree char *where = cp_printf("%s[%zu]", path, index);
        const char *text = NULL;
        r = r < 0 ? r : read_text(item, where, "put it in quotes", &text, err);
        if (r < 0)
            return r;
        cp_strings_add(slot, text);
    }
    return r;
}

static int parse_map(const cp_field *field, const json_t *value, cp_map *slot, const char *path, bool stored,
                     cp_error *err) {
    if (!json_is_object(value))
        return wrong_type(value, path, "a table of names and texts", NULL, err);
    int r = stored ? 0 : check_count(field, json_object_size(value), "entries", path, err);
    const char *key;
    json_t *item;
    json_object_foreach((json_t *)value, key, item) {
        cp_autofree char *where = cp_printf("%s.%s", path, key);
        if (r >= 0 && !cp_utf8_valid(key, strlen(key)))
            r = cp_fail_at(err, CP_E_INVALID, path, NULL, "%s has a name that is not UTF-8", path);
        const char *text = NULL;
        r = r < 0 ? r : read_text(item, where, "put it in quotes", &text, err);
        if (r < 0)
            return r;
        cp_map_set(slot, key, text);
    }
    return r;
}

static int parse_list(const cp_field *field, const json_t *value, cp_list *slot, const char *path, bool stored,
                      cp_error *err) {
    if (!json_is_array(value)) {
        cp_autofree char *wanted = cp_printf("a list of %s objects", field->desc->name);
        return wrong_type(value, path, wanted, NULL, err);
    }
    int r = stored ? 0 : check_count(field, json_array_size(value), "items", path, err);
    size_t index;
    json_t *item;
    json_array_foreach(value, index, item) {
        cp_autofree char *where = cp_printf("%s[%zu]", path, index);
        r = r < 0 ? r : struct_parse(field->desc, item, cp_list_add(slot, field->desc), where, stored, err);
        if (r < 0)
            return r;
    }
    return r;
}

static int parse_pointer(const cp_field *field, const json_t *value, void **slot, const char *path, bool stored,
                         cp_error *err) {
    *slot = cp_alloc0(field->desc->size);
    cp_desc_init(field->desc, *slot);
    return struct_parse(field->desc, value, *slot, path, stored, err);
}

static int parse_value(const cp_field *field, const json_t *value, void *object, const char *path, bool stored,
                       cp_error *err) {
    void *slot = at(field, object);
    if (field->type != CP_OBJECT) /* an embedded struct keeps what the input does not name */
        cp_field_clear(field, object);
    if (json_is_null(value) && field->type != CP_JSON && (stored || field->flags & CP_NULLABLE)) {
        cp_field_clear(field, object);
        return 0;
    }
    int r = 0;
    switch (field->type) {
    case CP_STRING:
        return parse_string(field, value, slot, path, stored, err);
    case CP_INT:
        r = parse_int(value, slot, path, err);
        return r < 0 || stored ? r : check_bounds(field, (double)*(int64_t *)slot, "", path, err);
    case CP_DOUBLE:
        if (!json_is_number(value))
            return wrong_type(value, path, "a number", NULL, err);
        *(double *)slot = json_number_value(value);
        return stored ? 0 : check_bounds(field, *(double *)slot, "", path, err);
    case CP_BOOL:
        if (!json_is_boolean(value))
            return wrong_type(value, path, "true or false", NULL, err);
        *(bool *)slot = json_is_true(value);
        return 0;
    case CP_TIME:
        return parse_time(value, slot, path, stored, err);
    case CP_DURATION:
        return parse_duration(field, value, slot, path, stored, err);
    case CP_ENUM:
        return parse_enum(field, value, slot, path, err);
    case CP_SHARE:
        return parse_share(value, slot, path, stored, err);
    case CP_STRINGS:
        return parse_strings(field, value, slot, path, stored, err);
    case CP_MAP:
        return parse_map(field, value, slot, path, stored, err);
    case CP_OBJECT:
        return struct_parse(field->desc, value, slot, path, stored, err);
    case CP_POINTER:
        return parse_pointer(field, value, slot, path, stored, err);
    case CP_LIST:
        return parse_list(field, value, slot, path, stored, err);
    case CP_JSON:
        *(json_t **)slot = json_is_null(value) ? NULL : json_deep_copy(value);
        return 0;
    }
    return r;
}

int cp_field_parse(const cp_field *field, const json_t *value, void *object, const char *path, cp_error *err) {
    return parse_value(field, value, object, path, false, err);
}

int cp_field_store_parse(const cp_field *field, const json_t *value, void *object, cp_error *err) {
    return parse_value(field, value, object, field->name, true, err);
}

static int unknown_key(const cp_desc *desc, const char *key, const char *path, cp_error *err) {
    const char *names[64];
    size_t count = 0;
    for (size_t i = 0; i < desc->count && count < CP_COUNT(names); i++)
        if (!(desc->fields[i].flags & (CP_NO_JSON | CP_READ_ONLY)))
            names[count++] = desc->fields[i].name;
    const char *near = cp_nearest(key, names, count);
    cp_autofree char *hint = near ? cp_printf("did you mean '%s'?", near) : NULL;
    return cp_fail_at(err, CP_E_INVALID, path, hint, "unknown field '%.80s' of %s", key, desc->name);
}

/* REQUIRED: there, and not empty where emptiness can be seen. */
static int check_required(const cp_desc *desc, const void *object, uint64_t given, const char *path, cp_error *err) {
    for (size_t i = 0; i < desc->count; i++) {
        const cp_field *field = &desc->fields[i];
        if (!(field->flags & CP_REQUIRED))
            continue;
        bool here = given >> i & 1, scalar = field->type <= CP_ENUM && field->type != CP_STRING;
        bool empty = cp_field_empty(field, object);
        if (here ? scalar || !empty || field->flags & CP_BLANK_OK : !empty && field->type != CP_ENUM)
            continue;
        cp_autofree char *where = *path ? cp_printf("%s.%s", path, field->name) : cp_strdup(field->name);
        return cp_fail_at(err, CP_E_INVALID, where, NULL, "%s is %s; give %s", where, here ? "empty" : "missing",
                          field->doc ? field->doc : "a value");
    }
    return 0;
}

static int struct_parse(const cp_desc *desc, const json_t *input, void *object, const char *path, bool stored,
                        cp_error *err) {
    if (!json_is_object(input)) {
        if (!*path)
            return cp_fail(err, CP_E_INVALID, "%s is %s; it must be an object", desc->name, type_name(input));
        cp_autofree char *wanted = cp_printf("an object (%s)", desc->name);
        return wrong_type(input, path, wanted, NULL, err);
    }
    assert(desc->count <= 64);
    uint64_t given = 0;
    int r = 0;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)input, key, value) {
        cp_autofree char *where = *path ? cp_printf("%s.%s", path, key) : cp_strdup(key);
        const cp_field *field = cp_desc_field(desc, key);
        if (stored) {
            r = field ? parse_value(field, value, object, where, true, err) : 0;
        } else if (!field || field->flags & CP_NO_JSON) {
            r = unknown_key(desc, key, where, err);
        } else if (field->flags & CP_READ_ONLY) {
            r = cp_fail_at(err, CP_E_INVALID, where, NULL, "%s is set by the engine; leave it out", where);
        } else {
            r = parse_value(field, value, object, where, false, err);
            given |= (uint64_t)1 << (field - desc->fields);
        }
        if (r < 0)
            return r;
    }
    if (stored)
        return 0;
    if (desc->present != CP_NONE)
        *(uint64_t *)((char *)object + desc->present) |= given;
    r = check_required(desc, object, given, path, err);
    return r < 0 || !desc->check ? r : desc->check(object, path, err);
}

int cp_desc_parse(const cp_desc *desc, const json_t *input, void *object, const char *path, cp_error *err) {
    int r = struct_parse(desc, input, object, path ? path : "", false, err);
    if (r < 0)
        cp_desc_clear(desc, object);
    return r;
}
