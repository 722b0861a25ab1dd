-- ctest: timeout=240
--- Power loss (testing plan, row 6) on stores directly: every sync point, ten damages each.
local house = require "spec.support.house"
local power_loss = require "spec.support.power_loss"
local store = require("ctrlplane.core").testing.store
local ledger = require "spec.support.ledger"

describe("power loss (row 6)", function()
  it("leaves every acknowledged turn whole and no half turn, at every sync point, 2,000 damages", function()
    local seed = tonumber(os.getenv "CP_SEED") or 6
    local damages = house.asan() and 500 or 2000
    local points, done = power_loss.run(damages, seed)
    assert.is_true(done >= damages and points >= damages / 10, points .. " points, " .. done .. " damages")
  end)

  it("is a test that finds a store that does not sync its commits", function()
    -- the same turns with synchronous=OFF must lose or tear something in a few damages
    local disk = store.disk(1)
    local db = assert(store.open("plane.db", disk:vfs()))
    assert(db:exec "PRAGMA synchronous = OFF")
    for turn = 1, 20 do
      assert(ledger.write(db, turn))
      assert(db:commit())
    end
    local found = 0
    for seed = 1, 20 do
      local copy = disk:clone()
      copy:crash(seed)
      local opened = store.open("plane.db", copy:vfs())
      local ok, at = pcall(function()
        assert(opened and opened:check())
        return ledger.read(opened)
      end)
      if not ok or at < 20 then found = found + 1 end
      if opened then opened:close() end
      copy:free()
    end
    db:close()
    disk:free()
    assert.is_true(found >= 10, found .. " of 20 damages were found")
  end)
end)
