-- ctest: timeout=300
--- I/O errors (testing plan, row 7) in stores directly: the n-th open, read, write, sync, truncate or delete fails, once
--- or for ever, with EIO or ENOSPC, also while recovering.
local house = require "spec.support.house"
local io_errors = require "spec.support.io_errors"
local ledger = require "spec.support.ledger"
local store = require("ctrlplane.core").testing.store

describe("an I/O error (row 7)", function()
  it("loses no acknowledged turn, brings none back that failed, and is got over without a restart", function()
    local most = house.asan() and 30 or 100 -- slower there, and the memory is looked at as well
    local came = io_errors.sweep(most, 25)
    assert.is_true(came >= 6 * most, came .. " faults came")
  end)

  describe("in a commit", function()
    local disk, db
    local function open(seed)
      disk = store.disk(seed)
      db = assert(store.open("plane.db", disk:vfs()))
      assert(ledger.write(db, 1))
      assert(db:commit())
    end
    local function close()
      db:close()
      disk:free()
    end
    before_each(function() open(3) end)
    after_each(close)
    local function fail_turn_2()
      assert(ledger.write(db, 2))
      disk:fail { call = "sync", n = 1, times = 1 }
      local ok, err = db:commit()
      assert.is_nil(ok)
      assert.equal("storage_failed", err.code)
      assert.matches("cannot run 'COMMIT': disk I/O error", err.message)
    end
    --- At which turns the store is after crashes with a few seeds.
    local function after_crash(turns)
      turns = turns or {}
      for seed = 1, 5 do
        local copy = disk:clone()
        copy:crash(seed)
        local other = assert(store.open("plane.db", copy:vfs()))
        turns[ledger.read(other)] = true
        other:close()
        copy:free()
      end
      return turns
    end

    it("can come back before the marker, and cannot behind it", function()
      local before, behind = {}, {}
      for seed = 1, 20 do
        close()
        open(seed)
        fail_turn_2()
        assert.equal(1, ledger.read(db)) -- this process does not see it ...
        after_crash(before)
        assert(db:recover())
        after_crash(behind)
      end
      assert.same({ [1] = true, [2] = true }, before) -- ... the next one may: so nobody is told that it failed
      assert.same({ [1] = true }, behind)
      assert(ledger.write(db, 2))
      assert(db:commit())
      assert.same({ [2] = true }, after_crash())
    end)

    it("makes the store refuse every write until the marker is in, however long that takes", function()
      fail_turn_2()
      disk:fail { call = "write", n = 1, times = 0, full = true }
      for _ = 1, 50 do
        local ok, err = db:recover()
        assert.is_nil(ok)
        assert.equal("storage_failed", err.code)
        assert.is_true(db:failed())
        ok, err = db:put("workload", { id = "wkl_9" })
        assert.is_nil(ok)
        assert.equal("the store could not commit; nothing is changed until it can again", err.message)
        assert.is_false(db:dirty())
        assert.equal(1, ledger.read(db)) -- reads go on
      end
      disk:fail(nil)
      assert(db:recover())
      assert.is_false(db:failed())
      assert(ledger.write(db, 2))
      assert(db:commit())
      assert.equal(2, ledger.read(db))
      assert.equal(1, db:stats().failed_commits)
    end)

    it("undoes a turn of which a single write failed", function()
      -- a read that fails in the middle of a write is the same as a write that fails
      db:close()
      db = assert(store.open("plane.db", disk:vfs())) -- with an empty cache
      disk:fail { call = "read", n = 1, times = 1 }
      local ok, err = ledger.write(db, 2)
      assert.is_nil(ok)
      assert.equal("storage_failed", err.code)
      assert.is_true(db:dirty())
      ok, err = db:put("workload", { id = "wkl_9" })
      assert.is_nil(ok)
      assert.equal("an earlier write of the same turn failed", err.message)
      ok, err = db:commit()
      assert.is_nil(ok)
      assert.equal("a write of this turn failed; the turn is undone", err.message)
      assert(db:recover())
      assert.equal(1, ledger.read(db))
    end)
  end)
end)
