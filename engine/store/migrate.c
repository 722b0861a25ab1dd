/* engine/store/migrate.c -- The schema: numbered steps forward, tables from the descriptors.
 * A step runs in one transaction that ends with its number; before it a copy of the old store is kept. Must not know
 * what the rows mean. */
#include "base/failpoint.h"
#include "model/entity.h"
#include "store/internal.h"

#include <inttypes.h>
#include <string.h>

#define APPLICATION_ID INT64_C(0x6370706c) /* "cppl", in the file's header */

static const cp_desc *const TABLES[] = {&cp_workload_desc,   &cp_replica_set_desc, &cp_instance_desc,
                                        &cp_release_desc,    &cp_deployment_desc,  &cp_command_desc,
                                        &cp_script_row_desc, &cp_event_desc};
/* Few: an index is rewritten with each put of its row. The live instances, written most, are in none. */
static const char *const INDEXES[] = {
    "CREATE INDEX IF NOT EXISTS command_deployment ON command(deployment_id, number)",
    "CREATE INDEX IF NOT EXISTS event_at ON event(at)",
    "CREATE INDEX IF NOT EXISTS instance_gone ON instance(workload_id, updated_at) WHERE state = 'destroyed'",
};

/* What a row has where nobody gave a value: rows that were there before a column was added get it. */
static char *column_default(const cp_desc *desc, const cp_field *field) {
    cp_autofree void *object = cp_alloc0(desc->size);
    cp_desc_init(desc, object);
    cp_autojson json_t *value = cp_field_store_json(field, object);
    bool text = strcmp(cp_column_type(field), "TEXT") == 0, empty = cp_field_empty(field, object);
    cp_desc_clear(desc, object);
    if (!text)
        return json_is_boolean(value) ? cp_printf("%d", json_is_true(value)) : cp_json_text(value);
    cp_autofree char *json = json_is_string(value) || empty ? NULL : cp_json_text(value);
    char *quoted = sqlite3_mprintf("%Q", json ? json : json_is_string(value) ? json_string_value(value) : "");
    char *copy = cp_strdup(quoted);
    sqlite3_free(quoted);
    return copy;
}

/* `id` is the key of every table but of event: there seq is, since events are appended and read in its order. */
static void add_column(cp_buf *sql, const cp_desc *desc, const cp_field *field) {
    cp_buf_printf(sql, "\"%s\" %s NOT NULL", field->name, cp_column_type(field));
    if (strcmp(field->name, desc == &cp_event_desc ? "seq" : "id") == 0) {
        cp_buf_puts(sql, " PRIMARY KEY");
        return;
    }
    cp_autofree char *value = column_default(desc, field);
    cp_buf_printf(sql, " DEFAULT %s", value);
}

static int create_table(cp_store *store, const cp_desc *desc, cp_error *err) {
    cp_autobuf cp_buf sql = {0};
    cp_buf_printf(&sql, "CREATE TABLE IF NOT EXISTS \"%s\" (", desc->table);
    const char *comma = "";
    for (size_t i = 0; i < desc->count; i++) {
        if (!cp_is_column(&desc->fields[i]))
            continue;
        cp_buf_puts(&sql, comma);
        add_column(&sql, desc, &desc->fields[i]);
        comma = ", ";
    }
    cp_buf_puts(&sql, ") STRICT");
    return cp_store_exec(store, sql.data, err);
}

static int has_column(cp_store *store, const cp_desc *desc, const cp_field *field, int64_t *ret, cp_error *err) {
    cp_autofree char *sql =
        cp_printf("SELECT count(*) FROM pragma_table_info('%s') WHERE name = '%s'", desc->table, field->name);
    return cp_store_number(store, sql, ret, err);
}

/* Brings tables, columns and indexes to what the descriptors say. A field added later is a line in its descriptor and
 * a line in STEPS: another sync_schema. */
static int sync_schema(cp_store *store, cp_error *err) {
    int r = cp_store_exec(store,
                          "CREATE TABLE IF NOT EXISTS meta (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) STRICT;"
                          "INSERT OR IGNORE INTO meta VALUES ('epoch', '1')",
                          err);
    for (size_t i = 0; i < CP_COUNT(TABLES) && r >= 0; i++) {
        const cp_desc *desc = TABLES[i];
        r = create_table(store, desc, err);
        for (size_t f = 0; f < desc->count && r >= 0; f++) {
            int64_t there = 1;
            if (cp_is_column(&desc->fields[f]))
                r = has_column(store, desc, &desc->fields[f], &there, err);
            if (r < 0 || there)
                continue;
            cp_autobuf cp_buf sql = {0};
            cp_buf_printf(&sql, "ALTER TABLE \"%s\" ADD COLUMN ", desc->table);
            add_column(&sql, desc, &desc->fields[f]);
            r = cp_store_exec(store, sql.data, err);
        }
    }
    for (size_t i = 0; i < CP_COUNT(INDEXES) && r >= 0; i++)
        r = cp_store_exec(store, INDEXES[i], err);
    return r;
}

typedef int step(cp_store *store, cp_error *err);
static step *const STEPS[] = {
    sync_schema, /* 1: the first */
};

#ifdef CP_FAILPOINTS
int cp_store_test_steps; /* specs: so many steps more, as if fields had been added since */
int64_t cp_store_schema(void) {
    return (int64_t)CP_COUNT(STEPS) + cp_store_test_steps;
}
#else
int64_t cp_store_schema(void) {
    return (int64_t)CP_COUNT(STEPS);
}
#endif

static int refuse_newer(const char *path, int64_t version, cp_error *err) {
    return cp_fail(err, CP_E_INVALID_STATE,
                   "store %s has schema %" PRId64 "; this ctrlplane knows up to %" PRId64 ": use a newer one", path,
                   version, cp_store_schema());
}

static int refuse_foreign(const char *path, cp_error *err) {
    return cp_fail(err, CP_E_INVALID_STATE, "%s is not a store of ctrlplane; give another path", path);
}

int cp_store_check_header(const char *path, const unsigned char *header, size_t size, cp_error *err) {
    if (size == 0)
        return 0;
    if (size < 100 || memcmp(header, "SQLite format 3", 16) != 0)
        return refuse_foreign(path, err);
    int64_t version = 0, application = 0;
    for (int i = 0; i < 4; i++) { /* the file format: big-endian at 60 and 68 */
        version = version << 8 | header[60 + i];
        application = application << 8 | header[68 + i];
    }
    if (application != APPLICATION_ID && (application != 0 || version != 0))
        return refuse_foreign(path, err);
    return version > cp_store_schema() ? refuse_newer(path, version, err) : 0;
}

/* <path>.v<N>.bak, by SQLite's backup, which syncs it. One that an earlier try left is the same store: overwritten. */
static int keep_copy(cp_store *store, int64_t version, cp_error *err) {
    if (strcmp(store->path, ":memory:") == 0)
        return 0;
    cp_autofree char *path = cp_printf("%s.v%" PRId64 ".bak", store->path, version);
    sqlite3 *copy = NULL;
    int r = sqlite3_open_v2(path, &copy, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, store->vfs);
    if (r == SQLITE_OK) /* no shared memory: a VFS need not have it */
        r = sqlite3_exec(copy, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = FULL", NULL, NULL, NULL);
    sqlite3_backup *backup = r == SQLITE_OK ? sqlite3_backup_init(copy, "main", store->db, "main") : NULL;
    if (backup) {
        sqlite3_backup_step(backup, -1);
        sqlite3_backup_finish(backup);
    }
    r = sqlite3_errcode(copy);
    if (r != SQLITE_OK)
        cp_fail(err, CP_E_STORAGE_FAILED, "cannot keep the copy %s before migrating: %s", path, sqlite3_errmsg(copy));
    sqlite3_close(copy);
    return r == SQLITE_OK ? 0 : CP_E_STORAGE_FAILED;
}

static int run_step(cp_store *store, int64_t number, cp_error *err) {
    int r = cp_store_exec(store, "BEGIN IMMEDIATE", err);
    if (r < 0)
        return r;
    size_t index = (size_t)number - 1;
    cp_autofree char *mark =
        cp_printf("PRAGMA application_id = %" PRId64 "; PRAGMA user_version = %" PRId64, APPLICATION_ID, number);
    r = (index < CP_COUNT(STEPS) ? STEPS[index] : sync_schema)(store, err);
    r = r < 0 ? r : cp_store_exec(store, mark, err);
    if (r >= 0 && cp_failpoint("migrate_before_commit") < 0)
        r = cp_fail(err, CP_E_STORAGE_FAILED, "a failpoint stopped the migration");
    r = r < 0 ? r : cp_store_exec(store, "COMMIT", err);
    if (r < 0) {
        if (!sqlite3_get_autocommit(store->db))
            sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
        return cp_error_wrap(err, "migration of %s to schema %" PRId64, store->path, number);
    }
    cp_failpoint("migrate_after_commit");
    return 0;
}

int cp_store_identify(cp_store *store, cp_error *err) {
    int64_t version = 0, application = 0, tables = 0;
    int r = cp_store_number(store, "PRAGMA user_version", &version, err);
    r = r < 0 ? r : cp_store_number(store, "PRAGMA application_id", &application, err);
    r = r < 0 ? r : cp_store_number(store, "SELECT count(*) FROM sqlite_schema", &tables, err);
    if (r < 0)
        return r;
    if (application != APPLICATION_ID && (application != 0 || version != 0 || tables != 0))
        return refuse_foreign(store->path, err);
    return version > cp_store_schema() ? refuse_newer(store->path, version, err) : 0;
}

int cp_store_migrate(cp_store *store, cp_error *err) {
    int64_t version = 0;
    int r = cp_store_number(store, "PRAGMA user_version", &version, err);
    if (r < 0 || version == cp_store_schema())
        return r;
    r = version > 0 ? keep_copy(store, version, err) : 0;
    while (r >= 0 && version < cp_store_schema())
        r = run_step(store, ++version, err);
    /* Into the file itself: the next program reads the version from its header before it touches anything. */
    return r < 0 ? r : cp_store_exec(store, "PRAGMA wal_checkpoint(TRUNCATE)", err);
}
