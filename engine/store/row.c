/* engine/store/row.c -- Rows by descriptor, and the cache of prepared statements.
 * Plain fields are columns of their own; what is nested is a column of JSON. Must not know any entity. */
#include "store/internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- statements ---- */

sqlite3_stmt *cp_statement(cp_store *store, const char *sql, cp_error *err) {
    sqlite3_stmt *statement = cp_table_get(store->statements, sql);
    if (statement) {
        cp_table_set(store->statements, sql, NULL); /* in use: a nested call prepares another */
        return statement;
    }
    if (sqlite3_prepare_v3(store->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) != SQLITE_OK) {
        cp_store_error(store, err, "prepare '%.60s'", sql);
        return NULL;
    }
    return statement;
}

void cp_statement_done(cp_store *store, sqlite3_stmt *statement) {
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    const char *sql = sqlite3_sql(statement);
    if (cp_table_get(store->statements, sql))
        sqlite3_finalize(statement);
    else
        cp_table_set(store->statements, sql, statement);
}

void cp_statements_free(cp_store *store) {
    size_t cursor = 0;
    void *statement;
    while (cp_table_next(store->statements, &cursor, NULL, &statement))
        sqlite3_finalize(statement);
    for (cursor = 0; cp_table_next(store->puts, &cursor, NULL, &statement);)
        sqlite3_finalize(statement);
}

int cp_store_number(cp_store *store, const char *sql, int64_t *ret, cp_error *err) {
    sqlite3_stmt *s = cp_statement(store, sql, err);
    if (!s)
        return CP_E_STORAGE_FAILED;
    int r = sqlite3_step(s) == SQLITE_ROW ? 0 : cp_store_error(store, err, "run '%.60s'", sql);
    if (r >= 0)
        *ret = sqlite3_column_int64(s, 0);
    cp_statement_done(store, s);
    return r;
}

/* ---- columns ---- */

bool cp_is_column(const cp_field *field) {
    return !(field->flags & CP_NO_SQL);
}

const char *cp_column_type(const cp_field *field) {
    switch (field->type) {
    case CP_INT:
    case CP_TIME:
    case CP_DURATION:
    case CP_BOOL:
        return "INTEGER";
    case CP_DOUBLE:
        return "REAL";
    default:
        return "TEXT";
    }
}

static int bind(sqlite3_stmt *s, int index, const cp_field *field, const void *row) {
    const void *slot = (const char *)row + field->offset;
    switch (field->type) {
    case CP_STRING: {
        const char *text = *(char *const *)slot;
        return sqlite3_bind_text(s, index, text ? text : "", -1, SQLITE_STATIC);
    }
    case CP_INT:
    case CP_TIME:
    case CP_DURATION:
        return sqlite3_bind_int64(s, index, *(const int64_t *)slot);
    case CP_BOOL:
        return sqlite3_bind_int(s, index, *(const bool *)slot);
    case CP_DOUBLE:
        return sqlite3_bind_double(s, index, *(const double *)slot);
    case CP_ENUM:
        return sqlite3_bind_text(s, index, field->values[*(const int *)slot], -1, SQLITE_STATIC);
    default: {
        if (cp_field_empty(field, row)) /* most rows have most of these empty */
            return sqlite3_bind_text(s, index, "", 0, SQLITE_STATIC);
        cp_autojson json_t *value = cp_field_store_json(field, row);
        return sqlite3_bind_text(s, index, cp_json_text(value), -1, free);
    }
    }
}

static int read_json(sqlite3_stmt *s, int index, const cp_field *field, void *row, cp_error *err) {
    const char *text = (const char *)sqlite3_column_text(s, index);
    if (cp_is_empty(text))
        return 0;
    cp_autojson json_t *value = json_loadb(text, (size_t)sqlite3_column_bytes(s, index), JSON_DECODE_ANY, NULL);
    if (!value)
        return cp_fail(err, CP_E_STORAGE_FAILED, "%s is not JSON", field->name);
    return cp_field_store_parse(field, value, row, err);
}

static int read_column(sqlite3_stmt *s, int index, const cp_field *field, void *row, cp_error *err) {
    void *slot = (char *)row + field->offset;
    switch (field->type) {
    case CP_STRING: {
        const char *text = (const char *)sqlite3_column_text(s, index);
        *(char **)slot = cp_is_empty(text) ? NULL : cp_strdup(text);
        return 0;
    }
    case CP_INT:
    case CP_TIME:
    case CP_DURATION:
        *(int64_t *)slot = sqlite3_column_int64(s, index);
        return 0;
    case CP_BOOL:
        *(bool *)slot = sqlite3_column_int(s, index) != 0;
        return 0;
    case CP_DOUBLE:
        *(double *)slot = sqlite3_column_double(s, index);
        return 0;
    case CP_ENUM: {
        const char *word = (const char *)sqlite3_column_text(s, index);
        for (int i = 0; field->values[i]; i++)
            if (cp_streq(field->values[i], word) || (i == 0 && cp_is_empty(word))) { /* "": a column added later */
                *(int *)slot = i;
                return 0;
            }
        return cp_fail(err, CP_E_STORAGE_FAILED, "%s is the unknown word '%.60s'", field->name, word);
    }
    default:
        return read_json(s, index, field, row, err);
    }
}

/* row is zeroed; on failure it is cleared. */
static int read_row(cp_store *store, sqlite3_stmt *s, const cp_desc *desc, void *row, cp_error *err) {
    int index = 0, r = 0;
    for (size_t i = 0; i < desc->count && r >= 0; i++)
        if (cp_is_column(&desc->fields[i]))
            r = read_column(s, index++, &desc->fields[i], row, err);
    if (r < 0) {
        const cp_field *id = cp_desc_field(desc, "id");
        const char *name = id ? *(char **)((char *)row + id->offset) : NULL;
        cp_autofree char *what = cp_printf("row '%s' of %s in %s", name ? name : "?", desc->table, store->path);
        cp_desc_clear(desc, row);
        cp_error_wrap(err, "%s", what);
        if (err)
            err->code = CP_E_STORAGE_FAILED;
        return CP_E_STORAGE_FAILED;
    }
    return 0;
}

/* format, with $ for the name, for each column but `without`. */
static void add_columns(cp_buf *sql, const cp_desc *desc, const char *format, const char *without) {
    const char *comma = "";
    for (size_t i = 0; i < desc->count; i++) {
        if (!cp_is_column(&desc->fields[i]) || cp_streq(desc->fields[i].name, without))
            continue;
        cp_buf_puts(sql, comma);
        for (const char *c = format; *c; c++)
            if (*c == '$')
                cp_buf_puts(sql, desc->fields[i].name);
            else
                cp_buf_add(sql, c, 1);
        comma = ", ";
    }
}

/* ---- operations ---- */

/* Inserts, or replaces the row with the same id; events are only ever appended. Kept per table: it is long. */
static sqlite3_stmt *put_statement(cp_store *store, const cp_desc *desc, cp_error *err) {
    sqlite3_stmt *s = cp_table_get(store->puts, desc->table);
    if (s)
        return s;
    cp_autobuf cp_buf sql = {0};
    cp_buf_printf(&sql, "INSERT INTO \"%s\" (", desc->table);
    add_columns(&sql, desc, "\"$\"", NULL);
    cp_buf_puts(&sql, ") VALUES (");
    add_columns(&sql, desc, "?", NULL);
    cp_buf_puts(&sql, ")");
    if (!cp_desc_field(desc, "seq")) {
        cp_buf_puts(&sql, " ON CONFLICT (id) DO UPDATE SET ");
        add_columns(&sql, desc, "\"$\" = excluded.\"$\"", "id"); /* set, it would rewrite the key's index */
    }
    if (sqlite3_prepare_v3(store->db, sql.data, -1, SQLITE_PREPARE_PERSISTENT, &s, NULL) != SQLITE_OK) {
        cp_store_error(store, err, "write rows of %s", desc->table);
        return NULL;
    }
    cp_table_set(store->puts, desc->table, s);
    return s;
}

int cp_store_put(cp_store *store, const cp_desc *desc, const void *entity, cp_error *err) {
    int r = cp_store_begin(store, err);
    if (r < 0)
        return r;
    sqlite3_stmt *s = put_statement(store, desc, err);
    if (!s)
        return cp_store_wrote(store, CP_E_STORAGE_FAILED);
    int index = 0;
    for (size_t i = 0; i < desc->count && r == SQLITE_OK; i++)
        if (cp_is_column(&desc->fields[i]))
            r = bind(s, ++index, &desc->fields[i], entity);
    r = r == SQLITE_OK && sqlite3_step(s) == SQLITE_DONE ? 0
                                                         : cp_store_error(store, err, "write a row of %s", desc->table);
    sqlite3_reset(s);
    sqlite3_clear_bindings(s); /* they lend the entity's text */
    return cp_store_wrote(store, r);
}

/* Prepares head + WHERE where + tail and binds values. */
static sqlite3_stmt *query(cp_store *store, const char *head, const cp_desc *desc, const char *where,
                           const char *const *values, const char *tail, cp_error *err) {
    cp_autobuf cp_buf sql = {0};
    if (head) {
        cp_buf_puts(&sql, head);
    } else {
        cp_buf_puts(&sql, "SELECT ");
        add_columns(&sql, desc, "\"$\"", NULL);
    }
    cp_buf_printf(&sql, " FROM \"%s\"%s%s%s", desc->table, where ? " WHERE " : "", where ? where : "",
                  tail ? tail : "");
    sqlite3_stmt *s = cp_statement(store, sql.data, err);
    for (int i = 0; s && values && values[i]; i++)
        sqlite3_bind_text(s, i + 1, values[i], -1, SQLITE_TRANSIENT);
    return s;
}

/* Runs a statement that answers nothing, as a write. */
static int change(cp_store *store, const cp_desc *desc, const char *where, const char *const *values, cp_error *err) {
    int r = cp_store_begin(store, err);
    if (r < 0)
        return r;
    sqlite3_stmt *s = query(store, "DELETE", desc, where, values, NULL, err);
    if (!s)
        return cp_store_wrote(store, CP_E_STORAGE_FAILED);
    r = sqlite3_step(s) == SQLITE_DONE ? 0 : cp_store_error(store, err, "delete from %s", desc->table);
    cp_statement_done(store, s);
    return cp_store_wrote(store, r);
}

int cp_store_delete(cp_store *store, const cp_desc *desc, const char *id, cp_error *err) {
    return change(store, desc, "id = ?", (const char *const[]){id, NULL}, err);
}

int cp_store_prune(cp_store *store, const cp_desc *desc, const char *where, const char *const *values, cp_error *err) {
    return change(store, desc, where, values, err);
}

int cp_store_get(cp_store *store, const cp_desc *desc, const char *id, void *entity, cp_error *err) {
    sqlite3_stmt *s = query(store, NULL, desc, "id = ?", (const char *const[]){id, NULL}, NULL, err);
    if (!s)
        return CP_E_STORAGE_FAILED;
    int step = sqlite3_step(s), r = 0;
    if (step == SQLITE_ROW)
        r = read_row(store, s, desc, entity, err);
    else if (step == SQLITE_DONE)
        r = cp_fail(err, CP_E_NOT_FOUND, "there is no %s '%.80s'", desc->name, id);
    else
        r = cp_store_error(store, err, "read from %s", desc->table);
    cp_statement_done(store, s);
    return r;
}

int cp_store_each(cp_store *store, const cp_desc *desc, const char *where, const char *const *values, const char *order,
                  int64_t limit, int (*each)(void *userdata, void *row), void *userdata, cp_error *err) {
    cp_autobuf cp_buf tail = {0};
    cp_buf_printf(&tail, " ORDER BY %s", order ? order : "id");
    if (limit > 0)
        cp_buf_printf(&tail, " LIMIT %" PRId64, limit);
    sqlite3_stmt *s = query(store, NULL, desc, where, values, tail.data, err);
    if (!s)
        return CP_E_STORAGE_FAILED;
    cp_autofree void *row = cp_alloc0(desc->size);
    int step, r = 0;
    while (r == 0 && (step = sqlite3_step(s)) != SQLITE_DONE) {
        r = step == SQLITE_ROW ? read_row(store, s, desc, row, err)
                               : cp_store_error(store, err, "read from %s", desc->table);
        if (r < 0)
            break;
        r = each(userdata, row);
        cp_desc_clear(desc, row);
    }
    cp_statement_done(store, s);
    return r;
}

int cp_store_count(cp_store *store, const cp_desc *desc, const char *where, const char *const *values, int64_t *ret,
                   cp_error *err) {
    sqlite3_stmt *s = query(store, "SELECT count(*)", desc, where, values, NULL, err);
    if (!s)
        return CP_E_STORAGE_FAILED;
    int r = sqlite3_step(s) == SQLITE_ROW ? 0 : cp_store_error(store, err, "count %s", desc->table);
    if (r >= 0)
        *ret = sqlite3_column_int64(s, 0);
    cp_statement_done(store, s);
    return r;
}
