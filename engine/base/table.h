/* engine/base/table.h -- A hash table from text to pointers, and a growing array of pointers. Own keys, lend values. */
#pragma once
#include "base/mem.h"

typedef struct cp_table cp_table;
cp_table *cp_table_new(void);
void cp_table_free(cp_table *table);                              /* values are not touched; NULL is fine */
void cp_table_set(cp_table *table, const char *key, void *value); /* key copied; NULL value removes */
void *cp_table_get(const cp_table *table, const char *key);       /* NULL when absent or key is NULL */
size_t cp_table_count(const cp_table *table);
/* Iterates in no particular order: start with *cursor = 0; false at the end. Removing the current key is allowed. */
bool cp_table_next(const cp_table *table, size_t *cursor, const char **key, void **value);

typedef struct cp_vec {
    void **items;
    size_t count, capacity;
} cp_vec;
void cp_vec_push(cp_vec *vec, void *item);
void cp_vec_remove(cp_vec *vec, size_t index);   /* keeps the order */
bool cp_vec_drop(cp_vec *vec, const void *item); /* removes the first equal; false when absent */
void cp_vec_clear(cp_vec *vec);                  /* frees the array, not the items */

/* Growing text. */
typedef struct cp_buf {
    char *data; /* NUL-terminated once anything was added */
    size_t len, capacity;
} cp_buf;
void cp_buf_add(cp_buf *buf, const void *bytes, size_t len);
void cp_buf_puts(cp_buf *buf, const char *text);
void cp_buf_printf(cp_buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void cp_buf_consume(cp_buf *buf, size_t len); /* drops the first len bytes */
void cp_buf_clear(cp_buf *buf);
#define cp_autobuf CP_CLEANUP(cp_buf_clear)
