/* engine/store/store.c -- Opening, the turn's transaction, what follows a failed commit, meta facts and events.
 * Knows SQLite; must not know what the rows mean. */
#include "store/store.h"
#include "base/failpoint.h"
#include "model/entity.h"
#include "store/internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int cp_store_error(cp_store *store, cp_error *err, const char *format, ...) {
    cp_autofree char *what = NULL;
    va_list args;
    va_start(args, format);
    int len = vasprintf(&what, format, args);
    va_end(args);
    int system = sqlite3_system_errno(store->db), code = sqlite3_errcode(store->db) & 0xff;
    bool tells = system && (code == SQLITE_IOERR || code == SQLITE_FULL || code == SQLITE_CANTOPEN);
    return cp_fail(err, CP_E_STORAGE_FAILED, "cannot %s: %s%s%s%s", len < 0 ? "work" : what, sqlite3_errmsg(store->db),
                   tells ? " (" : "", tells ? strerror(system) : "", tells ? ")" : "");
}

int cp_store_exec(cp_store *store, const char *sql, cp_error *err) {
    return sqlite3_exec(store->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0
                                                                       : cp_store_error(store, err, "run '%.60s'", sql);
}

/* The same for what runs with each request: prepared once. */
static int run_prepared(cp_store *store, const char *sql, cp_error *err) {
    sqlite3_stmt *s = cp_statement(store, sql, err);
    if (!s)
        return CP_E_STORAGE_FAILED;
    int r = sqlite3_step(s) == SQLITE_DONE ? 0 : cp_store_error(store, err, "run '%s'", sql);
    cp_statement_done(store, s);
    return r;
}

/* ---- opening ---- */

/* Exclusive locking comes first: with it WAL needs no shared memory, and nobody else gets in. EXTRA, for the switch to
 * WAL: it uses a rollback journal, which must not come back after a power loss. No spill: a turn reaches the disk with
 * its commit or not at all.
 * Then FULL: a commit is on the disk when it returns. The log is moved into the file each 400 pages (1.6 MiB; 1,000
 * would be 8 % faster, and could fill a small disk by itself), which nobody can hold up, since nobody else reads; a log
 * that one huge turn blew up is cut back. auto_vacuum stays NONE: pages that retention frees are used again, so the
 * file stays at its largest, and commits stay cheap. */
static int configure(cp_store *store, cp_error *err) {
    static const char BEFORE[] = "PRAGMA locking_mode = EXCLUSIVE; PRAGMA trusted_schema = OFF;"
                                 "PRAGMA temp_store = MEMORY; PRAGMA cache_spill = OFF; PRAGMA synchronous = EXTRA";
    static const char AFTER[] = "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 400;"
                                "PRAGMA journal_size_limit = 4194304; BEGIN IMMEDIATE; COMMIT";
    int r = cp_store_exec(store, BEFORE, err);
    r = r < 0 ? r : cp_store_identify(store, err); /* before anything is written */
    if (r < 0)
        return r;
    sqlite3_stmt *mode = cp_statement(store, "PRAGMA journal_mode = WAL", err);
    if (!mode)
        return CP_E_STORAGE_FAILED;
    r = sqlite3_step(mode);
    cp_autofree char *got = r == SQLITE_ROW ? cp_strdup((const char *)sqlite3_column_text(mode, 0)) : NULL;
    cp_statement_done(store, mode);
    if (!got || (strcmp(got, "wal") != 0 && strcmp(store->path, ":memory:") != 0))
        return cp_store_error(store, err, "use a write-ahead log in %s", store->path);
    return cp_store_exec(store, AFTER, err);
}

static int load(cp_store *store, cp_error *err) {
    int64_t kept = 0, last = 0;
    int r = cp_store_number(store, "SELECT max(CAST(value AS INTEGER)) FROM meta WHERE key = 'event_seq'", &kept, err);
    r = r < 0 ? r : cp_store_number(store, "SELECT max(seq) FROM event", &last, err);
    store->seq = store->committed_seq = kept > last ? kept : last;
    return r;
}

/* The name by which the store was opened last: its journal stands beside that name. */
static int remember_name(cp_store *store, cp_error *err) {
    if (!store->owner)
        return 0;
    cp_autofree char *last = cp_store_meta_get(store, "path");
    int r = cp_owner_check_name(store->owner, store->path, last, err);
    if (r < 0 || cp_streq(last, store->path))
        return r;
    r = cp_store_meta_set(store, "path", store->path, err);
    r = r < 0 ? r : cp_store_commit(store, err);
    return r < 0 ? r
                 : cp_store_exec(store, "PRAGMA wal_checkpoint(PASSIVE)", err); /* for one who opens by another name */
}

static int open_database(cp_store *store, cp_error *err) {
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    if (store->owner) {
        unsigned char header[100];
        size_t size = 0;
        int r = cp_owner_header(store->owner, header, sizeof header, &size, err);
        r = r < 0 ? r : cp_store_check_header(store->path, header, size, err);
        if (r < 0)
            return r;
    }
    if (sqlite3_open_v2(store->path, &store->db, flags, store->vfs) != SQLITE_OK)
        return cp_store_error(store, err, "open store %s", store->path);
    /* Until it is known to be ours and of a version we know, closing leaves the file as it is. */
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    int r = configure(store, err);
    r = r < 0 ? r : cp_store_migrate(store, err);
    r = r < 0 ? r : remember_name(store, err);
    r = r < 0 ? r : load(store, err);
    if (r < 0 && (sqlite3_errcode(store->db) & 0xff) == SQLITE_BUSY)
        return cp_owner_busy(store->owner, store->path, err);
    if (r >= 0)
        sqlite3_db_config(store->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    return r;
}

int cp_store_open(const char *path, const char *vfs, cp_store **ret, cp_error *err) {
    cp_autostore cp_store *store = cp_new0(cp_store);
    store->statements = cp_table_new();
    store->puts = cp_table_new();
    store->vfs = cp_strdup(vfs);
    bool file = !vfs && strcmp(path, ":memory:") != 0;
    int r = file ? cp_owner_take(path, &store->owner, &store->path, err) : 0;
    if (!file)
        store->path = cp_strdup(path);
    r = r < 0 ? r : open_database(store, err);
    if (r < 0)
        return r;
    *ret = cp_take(store);
    return 0;
}

void cp_store_close(cp_store *store) {
    if (!store)
        return;
    if (store->db) {
        cp_statements_free(store);
        sqlite3_close(store->db); /* rolls back */
    }
    cp_table_free(store->statements);
    cp_table_free(store->puts);
    cp_owner_free(store->owner);
    free(store->path);
    free(store->vfs);
    free(store);
}

/* ---- the transaction of a turn ---- */

int cp_store_begin(cp_store *store, cp_error *err) {
    if (store->failed)
        return cp_fail(err, CP_E_STORAGE_FAILED, "the store could not commit; nothing is changed until it can again");
    if (store->broken)
        return cp_fail(err, CP_E_STORAGE_FAILED, "an earlier write of the same turn failed");
    if (store->open)
        return 0;
    int r = run_prepared(store, "BEGIN IMMEDIATE", err);
    if (r < 0) {
        store->broken = true; /* the writes that follow belong together with the one that has just failed */
        return r;
    }
    store->open = true;
    return 0;
}

int cp_store_wrote(cp_store *store, int r) {
    if (r < 0)
        store->broken = true;
    else
        store->writes++;
    return r;
}

bool cp_store_dirty(const cp_store *store) {
    return store->writes > 0 || store->broken;
}

/* Back to the last commit, in SQLite and here. */
static void forget_turn(cp_store *store) {
    if (!sqlite3_get_autocommit(store->db))
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    store->open = store->broken = store->saved = false;
    store->writes = 0;
    store->seq = store->committed_seq;
}

void cp_store_rollback(cp_store *store) {
    forget_turn(store);
}

static int fail_turn(cp_store *store, int r) {
    forget_turn(store);
    store->failed = true;
    store->failed_commits++;
    return r;
}

int cp_store_commit(cp_store *store, cp_error *err) {
    assert(!store->saved); /* a request is still open: half of it would be committed */
    if (store->broken)
        return fail_turn(store, cp_fail(err, CP_E_STORAGE_FAILED, "a write of this turn failed; the turn is undone"));
    if (store->writes == 0) {
        forget_turn(store); /* a transaction that only read, or whose requests were all undone */
        return 0;
    }
    char seq[32];
    snprintf(seq, sizeof seq, "%" PRId64, store->seq);
    int r = store->seq == store->committed_seq ? 0 : cp_store_meta_set(store, "event_seq", seq, err);
    if (r >= 0 && cp_failpoint("before_commit") < 0)
        r = cp_fail(err, CP_E_STORAGE_FAILED, "a failpoint stopped the commit");
    if (r >= 0)
        r = run_prepared(store, "COMMIT", err);
    if (r < 0)
        return fail_turn(store, r);
    store->open = false;
    store->writes = 0;
    store->committed_seq = store->seq;
    store->commits++;
    cp_failpoint("after_commit");
    return 0;
}

int cp_store_savepoint(cp_store *store, cp_error *err) {
    assert(!store->saved);
    int r = cp_store_begin(store, err);
    r = r < 0 ? r : run_prepared(store, "SAVEPOINT request", err);
    if (r < 0)
        return r;
    store->saved = true;
    store->saved_writes = store->writes;
    store->saved_seq = store->seq;
    return 0;
}

void cp_store_release(cp_store *store) {
    assert(store->saved);
    store->saved = false;
    if (run_prepared(store, "RELEASE request", NULL) < 0)
        store->broken = true;
}

void cp_store_undo(cp_store *store) {
    assert(store->saved);
    store->saved = false;
    store->writes = store->saved_writes;
    store->seq = store->saved_seq;
    /* After some errors SQLite has rolled back everything by itself: then the whole turn is gone. */
    if (run_prepared(store, "ROLLBACK TO request", NULL) < 0 || run_prepared(store, "RELEASE request", NULL) < 0)
        store->broken = true;
}

/* ---- after a failed commit ----
 * With WAL a commit that failed can come back: its frames may be in the log, and a process that dies now leaves them
 * for the next one to find. The next good commit writes over them. So nobody is told "it failed" before a commit of
 * our own, the marker, has gone through. */

bool cp_store_failed(const cp_store *store) {
    return store->failed;
}

static int commit_marker(cp_store *store, cp_error *err) {
    static const char MARK[] = "BEGIN IMMEDIATE;"
                               "INSERT INTO meta VALUES ('marker', '1') ON CONFLICT DO UPDATE SET value = value + 1;";
    int r = cp_store_exec(store, MARK, err);
    if (r >= 0 && cp_failpoint("before_marker") < 0)
        r = cp_fail(err, CP_E_STORAGE_FAILED, "a failpoint stopped the marker");
    r = r < 0 ? r : cp_store_exec(store, "COMMIT", err);
    if (r < 0)
        forget_turn(store);
    return r;
}

int cp_store_recover(cp_store *store, cp_error *err) {
    if (!store->failed)
        return 0;
    forget_turn(store);
    int r = commit_marker(store, err);
    if (r < 0) { /* a full disk: what the log holds may fit into the file, and makes room */
        cp_store_exec(store, "PRAGMA wal_checkpoint(TRUNCATE)", NULL);
        r = commit_marker(store, err);
    }
    if (r < 0)
        return r;
    store->failed = false;
    cp_failpoint("after_marker");
    return 0;
}

/* ---- meta, events, state ---- */

int cp_store_meta_set(cp_store *store, const char *key, const char *value, cp_error *err) {
    int r = cp_store_begin(store, err);
    if (r < 0)
        return r;
    sqlite3_stmt *s =
        cp_statement(store, "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", err);
    if (!s)
        return cp_store_wrote(store, CP_E_STORAGE_FAILED);
    sqlite3_bind_text(s, 1, key, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 2, value, -1, SQLITE_STATIC);
    r = sqlite3_step(s) == SQLITE_DONE ? 0 : cp_store_error(store, err, "write %s", key);
    cp_statement_done(store, s);
    return cp_store_wrote(store, r);
}

char *cp_store_meta_get(cp_store *store, const char *key) {
    sqlite3_stmt *s = cp_statement(store, "SELECT value FROM meta WHERE key = ?", NULL);
    if (!s)
        return NULL;
    sqlite3_bind_text(s, 1, key, -1, SQLITE_STATIC);
    char *value = sqlite3_step(s) == SQLITE_ROW ? cp_strdup((const char *)sqlite3_column_text(s, 0)) : NULL;
    cp_statement_done(store, s);
    return value;
}

int cp_store_event_append(cp_store *store, void *cp_event_row, cp_error *err) {
    cp_event *event = cp_event_row;
    event->seq = store->seq + 1;
    int r = cp_store_put(store, &cp_event_desc, event, err);
    if (r >= 0)
        store->seq = event->seq;
    return r;
}

int64_t cp_store_event_last(const cp_store *store) {
    return store->seq;
}

int cp_store_check(cp_store *store, cp_error *err) {
    sqlite3_stmt *s = cp_statement(store, "PRAGMA integrity_check(1)", err);
    if (!s)
        return CP_E_STORAGE_FAILED;
    int r = 0;
    if (sqlite3_step(s) != SQLITE_ROW)
        r = cp_store_error(store, err, "check store %s", store->path);
    else if (strcmp((const char *)sqlite3_column_text(s, 0), "ok") != 0)
        r = cp_fail(err, CP_E_STORAGE_FAILED, "store %s is damaged: %s", store->path, sqlite3_column_text(s, 0));
    cp_statement_done(store, s);
    return r;
}

static int64_t file_size(cp_store *store, const char *suffix) {
    cp_autofree char *path = cp_printf("%s%s", store->path, suffix);
    struct stat info;
    return store->owner && stat(path, &info) == 0 ? (int64_t)info.st_size : 0;
}

json_t *cp_store_stats(cp_store *store) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "commits", (json_int_t)store->commits, "failed_commits",
                     (json_int_t)store->failed_commits, "wal_bytes", (json_int_t)file_size(store, "-wal"), "file_bytes",
                     (json_int_t)file_size(store, ""), "event_seq", (json_int_t)store->seq, "schema",
                     (json_int_t)cp_store_schema());
}
