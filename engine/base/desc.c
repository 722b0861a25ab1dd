/* engine/base/desc.c -- What a descriptor knows of a struct in memory: defaults, freeing, copying, comparing; and the
 * small containers. Must not know JSON text or SQL. */
#include "base/desc.h"

#include <assert.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

static void *at(const cp_field *field, const void *object) {
    return (char *)object + field->offset;
}

void cp_desc_init(const cp_desc *desc, void *object) {
    memset(object, 0, desc->size);
    for (size_t i = 0; i < desc->count; i++)
        if (desc->fields[i].type == CP_OBJECT)
            cp_desc_init(desc->fields[i].desc, at(&desc->fields[i], object));
    if (desc->init)
        desc->init(object);
}

void cp_field_clear(const cp_field *field, void *object) {
    void *slot = at(field, object);
    switch (field->type) {
    case CP_STRING:
        free(*(char **)slot);
        *(char **)slot = NULL;
        break;
    case CP_STRINGS:
        cp_strings_clear(slot);
        break;
    case CP_MAP:
        cp_map_clear(slot);
        break;
    case CP_OBJECT:
        cp_desc_clear(field->desc, slot);
        break;
    case CP_POINTER:
        if (*(void **)slot)
            cp_desc_clear(field->desc, *(void **)slot);
        free(*(void **)slot);
        *(void **)slot = NULL;
        break;
    case CP_LIST:
        cp_list_clear(slot, field->desc);
        break;
    case CP_JSON:
        json_decref(*(json_t **)slot);
        *(json_t **)slot = NULL;
        break;
    case CP_SHARE:
        *(cp_share *)slot = (cp_share){0};
        break;
    case CP_INT:
    case CP_TIME:
    case CP_DURATION:
        *(int64_t *)slot = 0;
        break;
    case CP_DOUBLE:
        *(double *)slot = 0;
        break;
    case CP_BOOL:
        *(bool *)slot = false;
        break;
    case CP_ENUM:
        *(int *)slot = 0;
        break;
    }
}

void cp_desc_clear(const cp_desc *desc, void *object) {
    for (size_t i = 0; i < desc->count; i++)
        cp_field_clear(&desc->fields[i], object);
    memset(object, 0, desc->size);
}

static void copy_field(const cp_field *field, void *to, const void *from) {
    void *target = at(field, to);
    const void *source = at(field, from);
    switch (field->type) {
    case CP_STRING:
        *(char **)target = cp_strdup(*(char *const *)source);
        break;
    case CP_STRINGS: {
        const cp_strings *strings = source;
        *(cp_strings *)target = (cp_strings){0};
        for (size_t i = 0; i < strings->count; i++)
            cp_strings_add(target, strings->items[i]);
        break;
    }
    case CP_MAP: {
        const cp_map *map = source;
        cp_map *copy = target;
        *copy = (cp_map){0};
        if (map->count)
            copy->items = cp_alloc0(map->count * sizeof *copy->items);
        for (; copy->count < map->count; copy->count++)
            copy->items[copy->count] = (cp_pair){
                .key = cp_strdup(map->items[copy->count].key),
                .value = cp_strdup(map->items[copy->count].value),
            };
        break;
    }
    case CP_OBJECT:
        cp_desc_copy(field->desc, target, source);
        break;
    case CP_POINTER: {
        const void *original = *(void *const *)source;
        *(void **)target = original ? cp_alloc0(field->desc->size) : NULL;
        if (original)
            cp_desc_copy(field->desc, *(void **)target, original);
        break;
    }
    case CP_LIST: {
        const cp_list *list = source;
        cp_list *copy = target;
        *copy = (cp_list){.count = list->count};
        if (list->count)
            copy->items = cp_alloc0(list->count * field->desc->size);
        for (size_t i = 0; i < list->count; i++)
            cp_desc_copy(field->desc, (char *)copy->items + i * field->desc->size,
                         (const char *)list->items + i * field->desc->size);
        break;
    }
    case CP_JSON: /* deep: whoever changes the copy must not change the original */
        *(json_t **)target = json_deep_copy(*(json_t *const *)source);
        break;
    default: /* copied with the struct */
        break;
    }
}

void cp_desc_copy(const cp_desc *desc, void *to, const void *from) {
    memcpy(to, from, desc->size);
    for (size_t i = 0; i < desc->count; i++)
        copy_field(&desc->fields[i], to, from);
}

static bool equal_text(const char *a, const char *b) {
    return strcmp(a ? a : "", b ? b : "") == 0;
}

static bool equal_share(const cp_share *a, const cp_share *b) {
    return a->set == b->set && (!a->set || (a->percent == b->percent && a->value == b->value));
}

static bool equal_strings(const cp_strings *a, const cp_strings *b) {
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++)
        same = equal_text(a->items[i], b->items[i]);
    return same;
}

static bool equal_map(const cp_map *a, const cp_map *b) {
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++)
        same = equal_text(a->items[i].key, b->items[i].key) && equal_text(a->items[i].value, b->items[i].value);
    return same;
}

static bool equal_list(const cp_desc *desc, const cp_list *a, const cp_list *b) {
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++)
        same = cp_desc_equal(desc, (const char *)a->items + i * desc->size, (const char *)b->items + i * desc->size);
    return same;
}

static bool equal_field(const cp_field *field, const void *x, const void *y) {
    const void *a = at(field, x), *b = at(field, y);
    switch (field->type) {
    case CP_STRING:
        return equal_text(*(char *const *)a, *(char *const *)b);
    case CP_INT:
    case CP_TIME:
    case CP_DURATION:
        return *(const int64_t *)a == *(const int64_t *)b;
    case CP_DOUBLE:
        return *(const double *)a == *(const double *)b;
    case CP_BOOL:
        return *(const bool *)a == *(const bool *)b;
    case CP_ENUM:
        return *(const int *)a == *(const int *)b;
    case CP_SHARE:
        return equal_share(a, b);
    case CP_STRINGS:
        return equal_strings(a, b);
    case CP_MAP:
        return equal_map(a, b);
    case CP_OBJECT:
        return cp_desc_equal(field->desc, a, b);
    case CP_POINTER: {
        const void *one = *(void *const *)a, *two = *(void *const *)b;
        return one && two ? cp_desc_equal(field->desc, one, two) : one == two;
    }
    case CP_LIST:
        return equal_list(field->desc, a, b);
    case CP_JSON: {
        const json_t *one = *(json_t *const *)a, *two = *(json_t *const *)b;
        return one && two ? json_equal(one, two) : one == two;
    }
    }
    return false;
}

bool cp_desc_equal(const cp_desc *desc, const void *a, const void *b) {
    for (size_t i = 0; i < desc->count; i++)
        if (!equal_field(&desc->fields[i], a, b))
            return false;
    return true;
}

bool cp_field_empty(const cp_field *field, const void *object) {
    const void *slot = at(field, object);
    switch (field->type) {
    case CP_STRING:
        return cp_is_empty(*(char *const *)slot);
    case CP_INT:
    case CP_TIME:
    case CP_DURATION:
        return *(const int64_t *)slot == 0;
    case CP_DOUBLE:
        return *(const double *)slot == 0;
    case CP_BOOL:
        return !*(const bool *)slot;
    case CP_ENUM:
        return false;
    case CP_SHARE:
        return !((const cp_share *)slot)->set;
    case CP_STRINGS:
        return ((const cp_strings *)slot)->count == 0;
    case CP_MAP:
        return ((const cp_map *)slot)->count == 0;
    case CP_LIST:
        return ((const cp_list *)slot)->count == 0;
    case CP_POINTER:
        return !*(void *const *)slot;
    case CP_JSON:
        return !*(json_t *const *)slot || json_is_null(*(json_t *const *)slot);
    case CP_OBJECT:
        for (size_t i = 0; i < field->desc->count; i++)
            if (field->desc->fields[i].type == CP_ENUM || !cp_field_empty(&field->desc->fields[i], slot))
                return false;
        return true;
    }
    return true;
}

const cp_field *cp_desc_field(const cp_desc *desc, const char *name) {
    for (size_t i = 0; i < desc->count; i++)
        if (strcmp(desc->fields[i].name, name) == 0)
            return &desc->fields[i];
    return NULL;
}

bool cp_desc_has(const cp_desc *desc, const void *object, const char *field) {
    const cp_field *found = cp_desc_field(desc, field);
    assert(found && desc->present != CP_NONE); /* a slip of ours, never of a user */
    size_t bit = (size_t)(found - desc->fields);
    return *(const uint64_t *)((const char *)object + desc->present) >> bit & 1;
}

void cp_strings_add(cp_strings *strings, const char *text) {
    strings->items = cp_realloc(strings->items, (strings->count + 1) * sizeof *strings->items);
    strings->items[strings->count++] = cp_strdup(text);
}

void cp_strings_clear(cp_strings *strings) {
    for (size_t i = 0; i < strings->count; i++)
        free(strings->items[i]);
    free(strings->items);
    *strings = (cp_strings){0};
}

/* Where the key is, or where it would go. */
static size_t map_find(const cp_map *map, const char *key, bool *found) {
    size_t low = 0, high = map->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(map->items[middle].key, key);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *found = false;
    return low;
}

const char *cp_map_get(const cp_map *map, const char *key) {
    bool found;
    size_t index = map_find(map, key, &found);
    return found ? map->items[index].value : NULL;
}

void cp_map_set(cp_map *map, const char *key, const char *value) {
    bool found;
    size_t index = map_find(map, key, &found);
    if (found && value) {
        cp_set_string(&map->items[index].value, value);
    } else if (found) {
        free(map->items[index].key);
        free(map->items[index].value);
        map->count--;
        memmove(&map->items[index], &map->items[index + 1], (map->count - index) * sizeof *map->items);
    } else if (value) {
        map->items = cp_realloc(map->items, (map->count + 1) * sizeof *map->items);
        memmove(&map->items[index + 1], &map->items[index], (map->count - index) * sizeof *map->items);
        map->items[index] = (cp_pair){.key = cp_strdup(key), .value = cp_strdup(value)};
        map->count++;
    }
}

void cp_map_clear(cp_map *map) {
    for (size_t i = 0; i < map->count; i++) {
        free(map->items[i].key);
        free(map->items[i].value);
    }
    free(map->items);
    *map = (cp_map){0};
}

void *cp_list_add(cp_list *list, const cp_desc *desc) {
    size_t need = (list->count + 1) * desc->size;
    if (malloc_usable_size(list->items) < need) /* double: lists of 10,000 are built item by item */
        list->items = cp_realloc(list->items, list->count ? list->count * 2 * desc->size : need);
    void *item = (char *)list->items + list->count++ * desc->size;
    cp_desc_init(desc, item);
    return item;
}

void cp_list_clear(cp_list *list, const cp_desc *desc) {
    for (size_t i = 0; i < list->count; i++)
        cp_desc_clear(desc, (char *)list->items + i * desc->size);
    free(list->items);
    *list = (cp_list){0};
}
