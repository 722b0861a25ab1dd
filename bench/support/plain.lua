--- The floor of durable writes: plain SQLite, WAL and synchronous=FULL, one row in each commit, its statement prepared
--- once. Must not know ctrlplane.
local ffi = require "ffi"

ffi.cdef [[
  int sqlite3_open(const char *, void **);
  int sqlite3_close(void *);
  int sqlite3_exec(void *, const char *, void *, void *, void *);
  int sqlite3_prepare_v2(void *, const char *, int, void **, void *);
  int sqlite3_bind_text(void *, int, const char *, int, void *);
  int sqlite3_bind_int64(void *, int, int64_t);
  int sqlite3_step(void *);
  int sqlite3_reset(void *);
  int sqlite3_finalize(void *);
]]
local sqlite = ffi.load "sqlite3"

local M = {}

--- Opens a database: an object with run(number) -> 1, and close().
function M.open(path)
  local slot = ffi.new "void *[1]"
  assert(sqlite.sqlite3_open(path, slot) == 0)
  local db = slot[0]
  assert(sqlite.sqlite3_exec(db, [[
    PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
    CREATE TABLE instance (id TEXT PRIMARY KEY, workload_id TEXT, state TEXT, generation INTEGER, message TEXT)]],
    nil, nil, nil) == 0)
  assert(sqlite.sqlite3_prepare_v2(db, [[INSERT INTO instance VALUES (?, 'wkl_1', 'running', ?, '')
    ON CONFLICT (id) DO UPDATE SET generation = excluded.generation]], -1, slot, nil) == 0)
  local statement = slot[0]
  local self = {}
  function self.run(number)
    local id = "inst_" .. number % 1000
    sqlite.sqlite3_bind_text(statement, 1, id, #id, nil) -- the string lives until the step is done
    sqlite.sqlite3_bind_int64(statement, 2, number)
    assert(sqlite.sqlite3_step(statement) == 101)
    sqlite.sqlite3_reset(statement)
    return 1
  end
  function self.close()
    sqlite.sqlite3_finalize(statement)
    sqlite.sqlite3_close(db)
  end
  return self
end

return M
