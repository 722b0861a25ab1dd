/* engine/store/internal.h -- What the files of the store share; nobody outside store/ includes it.
 *   store.c    open, transactions, failed commits, meta, events     row.c      rows by descriptor, statements
 *   migrate.c  the schema                                           owner.c    who owns the file */
#pragma once
#include "base/table.h"
#include "store/store.h"

#include <sqlite3.h>
#include <sys/stat.h>

#define cp_autostore CP_CLEANUP(cp_store_closep)

typedef struct cp_owner cp_owner;

struct cp_store {
    sqlite3 *db;
    char *path, *vfs;     /* vfs NULL: the default */
    cp_owner *owner;      /* NULL for memory and for other VFSs */
    cp_table *statements; /* SQL text -> sqlite3_stmt *, not in use */
    cp_table *puts;       /* table name -> sqlite3_stmt *: the statement of cp_store_put */
    bool open;            /* a transaction is open */
    bool broken;          /* a write of this turn failed */
    bool failed;          /* see cp_store_failed */
    bool saved;           /* a savepoint is open */
    int64_t writes, saved_writes;
    int64_t seq, saved_seq, committed_seq; /* of events */
    int64_t commits, failed_commits;
};

/* `storage_failed` with what SQLite and the system say of the last error: "cannot <what>: disk is full". */
int cp_store_error(cp_store *store, cp_error *err, const char *format, ...) __attribute__((format(printf, 3, 4)));
int cp_store_exec(cp_store *store, const char *sql, cp_error *err);
/* Before each write: opens the transaction. Refused while the store is failed or the turn is broken. */
int cp_store_begin(cp_store *store, cp_error *err);
/* After each write: counts it, or marks the turn as broken. Passes r on. */
int cp_store_wrote(cp_store *store, int r);

/* row.c: a prepared statement, from the cache; give it back with cp_statement_done. NULL with err. */
sqlite3_stmt *cp_statement(cp_store *store, const char *sql, cp_error *err);
void cp_statement_done(cp_store *store, sqlite3_stmt *statement);
void cp_statements_free(cp_store *store);
/* The single integer that the query answers with. */
int cp_store_number(cp_store *store, const char *sql, int64_t *ret, cp_error *err);
const char *cp_column_type(const cp_field *field);
bool cp_is_column(const cp_field *field);

/* migrate.c: refuses what is not a store of ours, or of a newer schema; reads only. */
int cp_store_identify(cp_store *store, cp_error *err);
/* 0 when the schema is the newest; migrates when it is older. */
int cp_store_migrate(cp_store *store, cp_error *err);
/* From the first bytes of the file alone, so that a refused file is not touched. size 0: a new store. */
int cp_store_check_header(const char *path, const unsigned char *header, size_t size, cp_error *err);
int64_t cp_store_schema(void); /* the newest version that this program knows */

/* owner.c: opens (creates) the file and locks it for this process; *ret_path is its name without links. */
int cp_owner_take(const char *path, cp_owner **ret, char **ret_path, cp_error *err);
void cp_owner_free(cp_owner *owner); /* after the database was closed: closing the file ends SQLite's locks, too */
/* Somebody who does not take our lock holds SQLite's: `conflict` with the pid. */
int cp_owner_busy(const cp_owner *owner, const char *path, cp_error *err);
int cp_owner_header(const cp_owner *owner, unsigned char *header, size_t size, size_t *ret_size, cp_error *err);
/* Refuses another name of a file whose journal stands beside the name `last`, with commits in it. */
int cp_owner_check_name(const cp_owner *owner, const char *path, const char *last, cp_error *err);
