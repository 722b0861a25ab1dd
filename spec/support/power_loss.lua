--- Power loss at every sync of a store on a disk in memory, several damages each: what was acknowledged is there, whole,
--- and nothing is there by half. Used by the spec at its small size and by dev/soak at any.
local store = require("ctrlplane.core").testing.store
local ledger = require "spec.support.ledger"
local M = {}

--- One damage to a copy of the disk. Raises with what reproduces it.
local function damage(point, seed)
  local disk = point.disk:clone()
  local ok, err = pcall(function()
    disk:crash(seed)
    local db = assert(store.open("plane.db", disk:vfs()))
    local fine, why = pcall(function()
      assert(db:check())
      local at = ledger.read(db)
      assert(at >= point.acked, ("turn %d was acknowledged; the store is at %d"):format(point.acked, at))
      assert(at <= point.begun, ("turn %d was begun; the store is at %d"):format(point.begun, at))
      assert(ledger.write(db, at + 1))
      assert(db:commit())
      assert(ledger.read(db) == at + 1)
    end)
    db:close()
    assert(fine, why)
  end)
  disk:free()
  if not ok then
    error(("sync point %d, damage seed %d, workload seed %d: %s"):format(point.number, seed, point.seed, tostring(err)), 0)
  end
end

--- Runs turns until `damages` have been done, `each` (10) at every sync point. Returns how many points and damages.
function M.run(damages, seed, each)
  each = each or 10
  local disk, db = store.disk(seed), nil
  local points, done, number, acked, begun = {}, 0, 0, 0, 0
  local function on_sync()
    number = number + 1
    points[#points + 1] = { disk = disk:clone(), acked = acked, begun = begun, number = number, seed = seed }
  end
  local function examine()
    while points[1] do
      local point = table.remove(points, 1)
      for i = 1, each do
        damage(point, seed * 1000003 + point.number * 101 + i)
        done = done + 1
      end
      point.disk:free()
    end
  end
  local ok, err = pcall(function()
    math.randomseed(seed)
    while done < damages do
      disk:on_sync(on_sync)
      if not db then
        db = assert(store.open("plane.db", disk:vfs()))
        -- small, so that most turns also move the log into the file and begin it anew
        assert(db:exec("PRAGMA wal_autocheckpoint = " .. math.random(4, 60)))
      end
      for _ = 1, math.random(1, 8) do
        begun = begun + 1
        assert(ledger.write(db, begun, math.random(12) == 1))
        assert(db:commit())
        acked = begun
      end
      if math.random(5) == 1 then
        db:close()
        db = nil
      end
      disk:on_sync(nil)
      on_sync() -- a power loss between turns
      examine()
      if begun > 400 then -- a fresh disk: reading back grows with the events
        if db then db:close() end
        disk:free()
        disk, db, acked, begun = store.disk(seed + number), nil, 0, 0
      end
    end
  end)
  for _, point in ipairs(points) do point.disk:free() end
  if db then db:close() end
  disk:free()
  if not ok then error(err, 0) end
  return number, done
end

return M
