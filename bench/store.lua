--- Durable mutations per second: the store with 64 rows in each commit (what a turn with 64 requests in flight costs)
--- beside plain SQLite, WAL and synchronous=FULL, one row in each commit. Same folder, same run, taken in turns.
--- The rows of both are written by statements prepared once; the store's have more columns and go through descriptors.
local ffi = require "ffi"
local house = require "spec.support.house"
local testing = assert(require("ctrlplane.core").testing, "this needs a test build (CP_FAILPOINTS)")

local SECONDS, ROUNDS, BATCH, AIM = 1, 5, 64, 5
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

local function plain(path)
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
  function self.run(first)
    local id = "inst_" .. first % 1000
    sqlite.sqlite3_bind_text(statement, 1, id, #id, nil) -- the string lives until the step is done
    sqlite.sqlite3_bind_int64(statement, 2, first)
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

--- The store, `batch` requests in each turn, each in its own savepoint.
local function ours(path, batch)
  local db = assert(testing.store.open(path))
  local self = {}
  function self.run(first)
    for i = first, first + batch - 1 do
      assert(db:savepoint())
      assert(db:put("instance", { id = "inst_" .. i % 1000, workload_id = "wkl_1", state = "running", generation = i }))
      db:release()
    end
    assert(db:commit())
    return batch
  end
  function self.close() db:close() end
  return self
end

local folder = house.folder()
local rivals = {
  { name = "plain SQLite, 1 row a commit", plain(folder .. "/plain.db") },
  { name = "store, 1 request a turn", ours(folder .. "/one.db", 1) },
  { name = ("store, %d requests a turn"):format(BATCH), ours(folder .. "/many.db", BATCH) },
}
for _ = 1, ROUNDS do
  for _, rival in ipairs(rivals) do
    local start, done = house.now(), 0
    repeat
      done = done + rival[1].run(done)
      local took = house.now() - start
      rival.best = took >= SECONDS and math.max(rival.best or 0, done / took) or rival.best
    until took >= SECONDS
  end
end
for _, rival in ipairs(rivals) do rival[1].close() end
house.remove(folder)

print(("durable mutations per second in %s, best of %d rounds of %d s"):format(folder:match "^(.*)/", ROUNDS, SECONDS))
print(("%-32s %10s %8s"):format("", "per s", "ratio"))
for _, rival in ipairs(rivals) do
  print(("%-32s %10.0f %8.2f"):format(rival.name, rival.best, rival.best / rivals[1].best))
end
local ratio = rivals[3].best / rivals[1].best
print(("aim %d times: %s"):format(AIM, ratio >= AIM and "met" or "missed"))
