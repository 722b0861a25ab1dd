/* engine/store/store.h -- SQLite: one connection, one transaction per turn, rows by descriptor.
 * The transaction opens at the first write. WAL, synchronous=FULL, exclusive locking. Knows rows, not behaviour. */
#pragma once
#include "base/desc.h"

typedef struct cp_store cp_store;

/* path ":memory:" keeps it in memory (no lock). Opens or creates, migrates forward (a copy <path>.v<N>.bak is kept
 * before), refuses a newer schema (`invalid_state`) and a store that another process owns (`conflict`, naming its pid).
 * vfs: name of an SQLite VFS, or NULL. With one the path is the VFS's own, and no lock is taken. */
int cp_store_open(const char *path, const char *vfs, cp_store **ret, cp_error *err);
void cp_store_close(cp_store *store); /* rolls back what is not committed; NULL is fine */
CP_DEFINE_CLEANUP(cp_store, cp_store_close)

/* The pid that owns the store at path, 0 when nobody does; without opening it. */
int64_t cp_store_owner(const char *path);

/* One transaction a turn. */
bool cp_store_dirty(const cp_store *store);          /* a transaction is open with writes in it */
int cp_store_commit(cp_store *store, cp_error *err); /* `storage_failed` when it did not hold; rolled back then */
void cp_store_rollback(cp_store *store);
int cp_store_savepoint(cp_store *store, cp_error *err); /* opens the transaction if needed; nesting is not supported */
void cp_store_release(cp_store *store);
void cp_store_undo(cp_store *store); /* back to the savepoint, and release it */

/* After a failed commit (or a failed write, which makes the turn's commit fail): true until a marker row has been
 * committed. While it is true mutations must be refused. */
bool cp_store_failed(const cp_store *store);
/* May be called again and again: a full disk can take long. Tries to commit the marker row (and with it makes sure that
 * the failed transaction is not there). 0 when the store can be trusted again: reload then. */
int cp_store_recover(cp_store *store, cp_error *err);

/* Entities. put inserts or replaces by `id`; the descriptor names table and columns. */
int cp_store_put(cp_store *store, const cp_desc *desc, const void *entity, cp_error *err);
int cp_store_delete(cp_store *store, const cp_desc *desc, const char *id, cp_error *err);
/* Loads one; *entity must be zeroed. `not_found` when absent. */
int cp_store_get(cp_store *store, const cp_desc *desc, const char *id, void *entity, cp_error *err);
/* Every row in `order` (an SQL ORDER BY text of ours, never a user's; NULL: by id), filtered by `where` (an SQL text of
 * ours with ? for each of the NULL-terminated `values`; NULL: all). row is lent for the call; keep it by
 * cp_desc_copy, or move it out and zero it. A non-zero return of each stops and is returned. */
int cp_store_each(cp_store *store, const cp_desc *desc, const char *where, const char *const *values, const char *order,
                  int64_t limit, int (*each)(void *userdata, void *row), void *userdata, cp_error *err);
int cp_store_count(cp_store *store, const cp_desc *desc, const char *where, const char *const *values, int64_t *ret,
                   cp_error *err);

/* Small facts: plane id, plane time, epoch, event seq. */
int cp_store_meta_set(cp_store *store, const char *key, const char *value, cp_error *err);
char *cp_store_meta_get(cp_store *store, const char *key); /* the caller frees; NULL when absent */

/* Events: appends with the next seq, without gaps in commit order; a rolled back turn gives its numbers back. */
int cp_store_event_append(cp_store *store, void *cp_event_row, cp_error *err); /* sets row->seq */
int64_t cp_store_event_last(const cp_store *store);
/* Deletes by an SQL condition of ours (retention). */
int cp_store_prune(cp_store *store, const cp_desc *desc, const char *where, const char *const *values, cp_error *err);

/* SQLite's own check of the whole file; `storage_failed` with its first finding. Reads everything. */
int cp_store_check(cp_store *store, cp_error *err);
/* {commits, failed_commits, wal_bytes, file_bytes, event_seq, schema}; a new reference. */
json_t *cp_store_stats(cp_store *store);
