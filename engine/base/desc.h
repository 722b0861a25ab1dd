/* engine/base/desc.h -- Descriptors: one table per struct that drives JSON, SQL columns, Lua tables, docs and stubs.
 * A descriptor says, per field: name, C type, offset, flags, bounds, and one line of documentation. A new field is one
 * line in one table. Knows nothing of workloads. */
#pragma once
#include "base/error.h"

typedef enum cp_type {
    CP_STRING,   /* char *: UTF-8 text, owned; NULL and "" both mean empty */
    CP_INT,      /* int64_t */
    CP_DOUBLE,   /* double */
    CP_BOOL,     /* bool */
    CP_TIME,     /* int64_t: ms since the epoch, 0 = absent. RFC 3339 UTC with ms in JSON */
    CP_DURATION, /* int64_t ms. In requests "30s" or a number of seconds; in answers a number of seconds */
    CP_ENUM,     /* int: index into values; in JSON the word */
    CP_SHARE,    /* cp_share: a count or a percentage */
    CP_STRINGS,  /* cp_strings: list of strings */
    CP_MAP,      /* cp_map: string -> string, sorted by key */
    CP_OBJECT,   /* a struct embedded in this one, described by desc */
    CP_POINTER,  /* pointer to a heap struct described by desc; NULL = absent */
    CP_LIST,     /* cp_list of structs described by desc */
    CP_JSON,     /* json_t *: any value; owned reference */
} cp_type;

enum {
    CP_REQUIRED = 1 << 0,   /* parse: must be there and not empty */
    CP_KEEP_EMPTY = 1 << 1, /* to JSON: written even when empty (the default is to leave empty fields out) */
    CP_READ_ONLY = 1 << 2,  /* parse refuses it: set by the engine */
    CP_NO_SQL = 1 << 3,     /* not a column */
    CP_NO_JSON = 1 << 4,    /* a column only: internal */
    CP_NULLABLE = 1 << 5,   /* parse: null is accepted and means absent */
    CP_BLANK_OK = 1 << 6,   /* parse, with CP_REQUIRED: "" is an answer */
    CP_NUMBER_OK =
        1 << 7, /* parse, of a STRING: a whole number is taken as its text (a port that is a name or number) */
    CP_MINUS_NONE = 1 << 8, /* to JSON, of an INT: 0 is written, and what is below is none: left out */
};

typedef struct cp_share {
    bool set;     /* false: not given */
    bool percent; /* true: value is 0..100 percent; false: a count */
    double value;
} cp_share;

typedef struct cp_strings {
    char **items;
    size_t count;
} cp_strings;

typedef struct cp_pair {
    char *key, *value;
} cp_pair;

typedef struct cp_map {
    cp_pair *items; /* sorted by key, unique */
    size_t count;
} cp_map;

typedef struct cp_list {
    void *items; /* count structs of desc->size, owned, zero-initialised before parsing */
    size_t count;
} cp_list;
#define CP_LIST_AT(list, type, index) (&((type *)(list)->items)[index])

struct cp_desc;

typedef struct cp_field {
    const char *name;
    cp_type type;
    size_t offset;
    unsigned flags;
    const struct cp_desc *desc; /* OBJECT, POINTER, LIST */
    const char *const *values;  /* ENUM: NULL-terminated words; index 0 is the default */
    /* min -1 of a DURATION: the word "none" is accepted and means -1. */
    double min, max;      /* INT, DOUBLE, DURATION (ms), STRING (length), LIST/STRINGS/MAP (count); 0,0 = none */
    const char *doc;      /* one line, for docs and stubs */
    const char *fallback; /* the default as people read it: "10s", "TERM", or NULL */
} cp_field;

typedef struct cp_desc {
    const char *name;  /* "workload", "service" */
    const char *table; /* SQL table name for entities, else NULL */
    size_t size;       /* of the struct */
    const cp_field *fields;
    size_t count;
    size_t present; /* offset of a uint64_t bit set of the fields that the input gave (bit = index), or CP_NONE */
    void (*init)(void *object);                                  /* sets defaults; may be NULL */
    int (*check)(void *object, const char *path, cp_error *err); /* rules across fields; may be NULL. May normalise */
    const char *doc;
} cp_desc;
#define CP_NONE ((size_t)-1)

/* Parses a JSON object into *object (which must be zeroed, or initialised with cp_desc_init).
 *   path   prefix for error fields ("" at the top); an index is written [0]-based as in services[1].image
 * Fails with `invalid`: wrong type, unknown key (with the nearest known), missing, out of bounds, bad UTF-8, NUL.
 * On failure *object is cleared. A key that is absent leaves the field as it was. */
int cp_desc_parse(const cp_desc *desc, const json_t *input, void *object, const char *path, cp_error *err);
json_t *cp_desc_json(const cp_desc *desc, const void *object); /* a new reference */
void cp_desc_init(const cp_desc *desc, void *object);          /* zeroes, then desc->init, recursively in OBJECTs */
void cp_desc_clear(const cp_desc *desc, void *object);         /* frees what the fields own; leaves zeroes */
void cp_desc_copy(const cp_desc *desc, void *to, const void *from); /* to is overwritten, not freed: clear it first */
bool cp_desc_equal(const cp_desc *desc, const void *a, const void *b);
bool cp_desc_has(const cp_desc *desc, const void *object, const char *field); /* was it in the input? needs present */
const cp_field *cp_desc_field(const cp_desc *desc, const char *name);         /* NULL when unknown */
json_t *cp_field_json(const cp_field *field, const void *object); /* one field's value; NULL when empty and not kept */
int cp_field_parse(const cp_field *field, const json_t *value, void *object, const char *path, cp_error *err);

/* The same two for the store: every field but CP_NO_SQL ones is written, also empty, internal and read-only ones, times
 * and durations as ms; reading refuses wrong types only and ignores keys that it does not know. What was written is
 * what is read, whatever the defaults are by then. */
json_t *cp_field_store_json(const cp_field *field, const void *object); /* a new reference, never NULL */
int cp_field_store_parse(const cp_field *field, const json_t *value, void *object, cp_error *err);
void cp_field_clear(const cp_field *field, void *object);       /* frees what the field owns; leaves zeroes */
bool cp_field_empty(const cp_field *field, const void *object); /* "", 0, false, no items; an ENUM never is */

/* JSON text to a value: duplicate keys, depth over CP_MAX_JSON_DEPTH, NUL, bad UTF-8 and trailing text are `invalid`
 * with the line and column; text over `max` bytes is `too_large`. *ret is a new reference. */
int cp_json_parse(const char *text, size_t len, size_t max, json_t **ret, cp_error *err);
char *cp_json_text(const json_t *value);   /* compact, keys in insertion order; the caller frees */
char *cp_json_sorted(const json_t *value); /* compact, keys sorted: for hashing and comparing */
#define cp_autojson CP_CLEANUP(json_decrefp)

/* Small containers. */
void cp_strings_add(cp_strings *strings, const char *text);
void cp_strings_clear(cp_strings *strings);
const char *cp_map_get(const cp_map *map, const char *key);       /* NULL when absent */
void cp_map_set(cp_map *map, const char *key, const char *value); /* NULL value removes */
void cp_map_clear(cp_map *map);
void *cp_list_add(cp_list *list, const cp_desc *desc); /* the new, initialised last item; earlier pointers move */
void cp_list_clear(cp_list *list, const cp_desc *desc);

/* Text forms. */
int cp_duration_parse(const char *text, int64_t *ret_ms,
                      cp_error *err);                               /* "250ms", "30s", "1h30m"; bare number: seconds */
int cp_share_parse(const char *text, cp_share *ret, cp_error *err); /* "25%", "3" */
int64_t cp_share_resolve(cp_share share, int64_t total, bool round_up); /* never NaN; 0 when not set */
void cp_time_format(int64_t ms, char out[32]);                          /* 2026-01-31T12:00:00.123Z */
int cp_time_parse(const char *text, int64_t *ret_ms, cp_error *err);
bool cp_utf8_valid(const char *text, size_t len);
