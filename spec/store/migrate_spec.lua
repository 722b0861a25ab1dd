--- The schema: forward by numbered steps, a copy kept, what is newer or not ours refused untouched.
local house = require "spec.support.house"
local other = require "spec.support.other"
local store = require("ctrlplane.core").testing.store

describe("the schema of a store", function()
  local folder, path, db
  before_each(function()
    folder = house.folder()
    path = folder .. "/plane.db"
  end)
  after_each(function()
    if db then db:close() end
    db = nil
    store.schema(0)
    house.remove(folder)
  end)
  local function open()
    db = assert(store.open(path))
    return db
  end

  local function make_old()
    open()
    assert(db:put("workload", { id = "wkl_1", name = "old" }))
    assert(db:put("replica_set", { id = "rel_1" }))
    assert(db:commit())
    db:close()
    db = nil
    assert(store.sql(path, "ALTER TABLE replica_set DROP COLUMN held; ALTER TABLE workload DROP COLUMN message; PRAGMA user_version"))
  end

  it("is brought forward, new columns with their defaults, and a copy of the old store is kept", function()
    make_old()
    store.schema(1)
    open()
    assert.equal(2, db:stats().schema)
    assert.equal("old", db:get("workload", "wkl_1").name)
    assert.equal(-1, db:get("replica_set", "rel_1").held)
    db:close()
    db = nil
    local copy = path .. ".v1.bak"
    assert.same({ { "1" } }, store.sql(copy, "PRAGMA user_version"))
    assert.same({ { "old" } }, store.sql(copy, "SELECT name FROM workload"))
    assert.same({ { "0" } }, store.sql(copy, "SELECT count(*) FROM pragma_table_info('workload') WHERE name = 'message'"))
  end)

  it("is old or new, never between, when the migration is killed; the next start brings it forward", function()
    for point, expected in pairs { migrate_before_commit = "1", migrate_after_commit = "2" } do
      house.remove(folder)
      folder = house.folder()
      path = folder .. "/plane.db"
      make_old()
      local out, ended = other.run(
        folder,
        [[store.schema(1)
          failpoint(function(name) if name == arg[2] then die() end end)
          store.open(arg[1])]],
        path,
        point
      )
      assert.same({ signal = 9 }, ended, out)
      assert.same({ { expected } }, store.sql(path, "PRAGMA user_version"), point)
      store.schema(1)
      open()
      assert.equal("old", db:get("workload", "wkl_1").name)
      assert.equal(-1, db:get("replica_set", "rel_1").held)
      assert(db:check())
      db:close()
      db = nil
      store.schema(0)
    end
  end)

  it("that is newer is refused, and the file is left as it is, byte for byte", function()
    store.schema(1)
    open()
    assert(db:put("workload", { id = "wkl_1" }))
    assert(db:commit())
    db:close()
    db = nil
    store.schema(0)
    local before = house.read(path)
    local second, err = store.open(path)
    assert.is_nil(second)
    assert.equal("invalid_state", err.code)
    assert.matches("plane.db has schema 2; this ctrlplane knows up to 1: use a newer one", err.message)
    assert.is_true(before == house.read(path))
    assert.is_false(house.exists(path .. "-wal"))
    assert.is_false(house.exists(path .. ".v2.bak"))
  end)

  it("that is newer is refused also when only the journal says so", function()
    other.run(
      folder,
      [[local db = assert(store.open(arg[1])) assert(db:exec "PRAGMA user_version = 9")
        die()]],
      path
    )
    local before, journal = house.read(path), house.read(path .. "-wal")
    local second, err = store.open(path)
    assert.is_nil(second)
    assert.matches("has schema 9", err.message)
    assert.is_true(before == house.read(path))
    assert.is_true(journal == house.read(path .. "-wal"))
  end)

  it("of another program's file is refused, and so is what is no database", function()
    assert(store.sql(path, "CREATE TABLE t (a); INSERT INTO t VALUES (1)"))
    local before = house.read(path)
    local second, err = store.open(path)
    assert.is_nil(second)
    assert.equal("invalid_state", err.code)
    assert.matches("plane.db is not a store of ctrlplane; give another path", err.message)
    assert.is_true(before == house.read(path))
    for _, text in ipairs { "hello", ("x"):rep(5000), "SQLite format 3\0" } do
      house.write(path, text)
      second, err = store.open(path)
      assert.is_nil(second)
      assert.equal("invalid_state", err.code)
      assert.equal(text, house.read(path))
    end
  end)

  it("is made in a file that is there and empty", function()
    house.write(path, "")
    open()
    assert(db:put("workload", { id = "wkl_1" }))
    assert(db:commit())
  end)
end)
