/* engine/base/table.c -- Hash table (open addressing, linear probing), array of pointers, growing text. */
#include "base/table.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct slot {
    char *key; /* NULL: never used; REMOVED: was */
    void *value;
} slot;

struct cp_table {
    slot *slots;
    size_t capacity, count, used; /* used counts removed ones, too */
};

static char REMOVED[1];

static uint64_t hash(const char *key) { /* FNV-1a */
    uint64_t h = 14695981039346656037u;
    for (; *key; key++)
        h = (h ^ (unsigned char)*key) * 1099511628211u;
    return h;
}

cp_table *cp_table_new(void) {
    cp_table *table = cp_new0(cp_table);
    table->capacity = 16;
    table->slots = cp_alloc0(table->capacity * sizeof(slot));
    return table;
}

void cp_table_free(cp_table *table) {
    if (!table)
        return;
    for (size_t i = 0; i < table->capacity; i++)
        if (table->slots[i].key != REMOVED)
            free(table->slots[i].key);
    free(table->slots);
    free(table);
}

/* The slot of the key, or the one where it would go. */
static slot *find(const cp_table *table, const char *key) {
    slot *vacant = NULL;
    for (size_t i = hash(key) & (table->capacity - 1);; i = (i + 1) & (table->capacity - 1)) {
        slot *s = &table->slots[i];
        if (!s->key)
            return vacant ? vacant : s;
        if (s->key == REMOVED)
            vacant = vacant ? vacant : s;
        else if (strcmp(s->key, key) == 0)
            return s;
    }
}

static void resize(cp_table *table) {
    slot *old = table->slots;
    size_t capacity = table->capacity;
    while (table->count * 2 >= table->capacity)
        table->capacity *= 2;
    table->slots = cp_alloc0(table->capacity * sizeof(slot));
    table->used = table->count;
    for (size_t i = 0; i < capacity; i++)
        if (old[i].key && old[i].key != REMOVED)
            *find(table, old[i].key) = old[i];
    free(old);
}

void cp_table_set(cp_table *table, const char *key, void *value) {
    slot *s = find(table, key);
    bool present = s->key && s->key != REMOVED;
    if (!value) {
        if (present) {
            free(s->key);
            *s = (slot){.key = REMOVED};
            table->count--;
        }
        return;
    }
    if (!present) {
        table->used += !s->key;
        table->count++;
        s->key = cp_strdup(key);
    }
    s->value = value;
    if (table->used * 4 >= table->capacity * 3)
        resize(table);
}

void *cp_table_get(const cp_table *table, const char *key) {
    if (!key)
        return NULL;
    slot *s = find(table, key);
    return s->key && s->key != REMOVED ? s->value : NULL;
}

size_t cp_table_count(const cp_table *table) {
    return table->count;
}

bool cp_table_next(const cp_table *table, size_t *cursor, const char **key, void **value) {
    for (; *cursor < table->capacity; (*cursor)++) {
        slot *s = &table->slots[*cursor];
        if (!s->key || s->key == REMOVED)
            continue;
        if (key)
            *key = s->key;
        if (value)
            *value = s->value;
        (*cursor)++;
        return true;
    }
    return false;
}

void cp_vec_push(cp_vec *vec, void *item) {
    if (vec->count == vec->capacity) {
        vec->capacity = vec->capacity ? vec->capacity * 2 : 4;
        vec->items = cp_realloc(vec->items, vec->capacity * sizeof *vec->items);
    }
    vec->items[vec->count++] = item;
}

void cp_vec_remove(cp_vec *vec, size_t index) {
    vec->count--;
    memmove(&vec->items[index], &vec->items[index + 1], (vec->count - index) * sizeof *vec->items);
}

bool cp_vec_drop(cp_vec *vec, const void *item) {
    for (size_t i = 0; i < vec->count; i++)
        if (vec->items[i] == item) {
            cp_vec_remove(vec, i);
            return true;
        }
    return false;
}

void cp_vec_clear(cp_vec *vec) {
    free(vec->items);
    *vec = (cp_vec){0};
}

static void reserve(cp_buf *buf, size_t more) {
    size_t need = buf->len + more + 1;
    if (need <= buf->capacity)
        return;
    buf->capacity = need > buf->capacity * 2 ? need : buf->capacity * 2;
    buf->data = cp_realloc(buf->data, buf->capacity);
}

void cp_buf_add(cp_buf *buf, const void *bytes, size_t len) {
    reserve(buf, len);
    memcpy(buf->data + buf->len, bytes, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
}

void cp_buf_puts(cp_buf *buf, const char *text) {
    cp_buf_add(buf, text, strlen(text));
}

void cp_buf_printf(cp_buf *buf, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len > 0) {
        reserve(buf, (size_t)len);
        vsnprintf(buf->data + buf->len, (size_t)len + 1, format, again);
        buf->len += (size_t)len;
    }
    va_end(again);
}

void cp_buf_consume(cp_buf *buf, size_t len) {
    if (!len)
        return;
    buf->len -= len;
    memmove(buf->data, buf->data + len, buf->len + 1);
}

void cp_buf_clear(cp_buf *buf) {
    free(buf->data);
    *buf = (cp_buf){0};
}
