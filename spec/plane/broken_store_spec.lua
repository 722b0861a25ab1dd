--- A store that stays broken: what the engine says of it, and how often.
local house = require "spec.support.house"

-- Ten minutes on a disk that refuses every write, then one that takes them again.
local SCRIPT = [[
local core = require "ctrlplane.core"
local lab = require "spec.support.lab"
local disk = core.testing.store.disk(3)
local plane, clock = lab.open { seed = 3, store = "plane.db", vfs = disk:vfs() }
local web = lab.workload(plane, { replicas = 2 })
disk:fail { call = "write", n = 1, times = 0, full = true }
plane.workloads:scale(web.id, { replicas = 3 })
clock:advance "10m"
io.stderr:write "repaired\n"
disk:fail(nil)
clock:advance "1m"
assert(plane.workloads:scale(web.id, { replicas = 4, wait = "1m" }))
lab.close(plane)
disk:free()
]]

describe("a store that stays broken", function()
  it("is told at once and then once a minute, and so is its end", function()
    local code, _, err = house.run({ "/usr/bin/env", "luajit", "-e", SCRIPT }, {
      LUA_PATH = package.path, LUA_CPATH = package.cpath,
    })
    assert.equal(0, code, err)
    local broken, again = err:match "^(.*)repaired\n(.*)$"
    local _, tries = broken:gsub("the store cannot be trusted yet[^\n]*: [^\n]+\n", "")
    assert.is_true(tries >= 9 and tries <= 13, err)
    local _, lines = broken:gsub("\n", "")
    assert.is_true(lines <= tries + 5, err)
    assert.matches("the store takes writes again", again, 1, true)
  end)
end)
