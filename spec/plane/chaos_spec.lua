-- ctest: timeout=240
-- Whatever is asked, in any order, with crashes of replicas and of the engine, outages and operations that fail: when the
-- faults stop, every workload is what was asked last, nothing runs twice, and nothing was forgotten.
local core = require "ctrlplane.core"
local house = require "spec.support.house"
local lab = require "spec.support.lab"

local STEPS = 40
local NAMES = { "a", "b", "c" }

--- Pseudo-random numbers of our own: the same on every machine.
local function dice(seed)
  local state = seed
  return function(n)
    state = (state * 1103515245 + 12345) % 2147483648
    return math.floor(state / 65536) % n + 1
  end
end

local function run(seed)
  local roll = dice(seed)
  local folder = house.memory_folder()
  local plane, clock, world = lab.open {
    seed = seed,
    store = folder .. "/plane.db",
    scenario = { jitter = 0.6, error_rate = seed % 3 == 0 and 0.2 or 0, new = { crash_rate = seed % 4 == 0 and 0.2 or 0 } },
  }
  local history, wanted, release = {}, {}, 0

  local function note(...) history[#history + 1] = table.concat({ ... }, " ") end

  local function create(name)
    local replicas = roll(5)
    local kind = roll(4) == 1 and "stateful_set" or "deployment"
    local ok = plane.workloads:create {
      name = name, kind = kind, replicas = replicas, services = { { name = "app", image = "app" } }, max_failures = 1000,
    }
    note("create", name, kind, replicas, tostring(ok ~= nil))
    wanted[name] = ok and { replicas = replicas } or wanted[name]
  end

  local ACTS = {
    function(name)
      local replicas = roll(7) - 1
      local ok = plane.workloads:scale(name, { replicas = replicas })
      note("scale", name, replicas, tostring(ok ~= nil))
      if ok and replicas == 0 then
        wanted[name].paused = true
      elseif ok then
        wanted[name].replicas = replicas
      end
    end,
    function(name)
      local ok = plane.workloads:pause(name)
      note("pause", name, tostring(ok ~= nil))
      wanted[name].paused = ok and true or wanted[name].paused
    end,
    function(name)
      local ok = plane.workloads:resume(name)
      note("resume", name, tostring(ok ~= nil))
      if ok then
        wanted[name].paused = false
      end
    end,
    function(name) note("restart", name, tostring(plane.workloads:restart(name, { parallel = roll(3) }) ~= nil)) end,
    function(name)
      release = release + 1
      local options = lab.good({ max_failures = 1000, supersede = "replace" }, "r" .. release)
      note("deploy", name, tostring(plane.workloads:deploy(name, options) ~= nil))
    end,
    function(name)
      note("delete", name)
      if plane.workloads:delete(name) then
        wanted[name] = nil
      end
    end,
    function(name)
      local web = plane.workloads:get(name)
      local all = web and lab.instances(plane, web) or {}
      if #all > 0 then
        note("kill", name, tostring(world:kill(all[roll(#all)].id)))
      end
    end,
    function()
      note "reboot"
      world:reboot()
    end,
    function()
      note "outage"
      world:outage(true)
      clock:advance(("%ds"):format(roll(90)))
      world:outage(false)
    end,
    function() -- a commit fails: the turn is undone, who asked is told, and it goes on
      note "storage"
      local pass = 0
      core.testing.failpoint(function(name)
        pass = pass + (name == "before_commit" and 1 or 0)
        return name == "before_commit" and pass == 2 -- the first pass is the plane's
      end)
    end,
    function() -- killed between two steps of whatever comes next
      local left = roll(12)
      note("trip", left)
      core.testing.failpoint(function(name)
        if name == "before_commit" or name == "after_commit" or name:match "marker" then
          return false -- the store's own have these names as well
        end
        left = left - 1
        return left == 0
      end)
      clock:advance(("%ds"):format(roll(20)))
      core.testing.failpoint(nil)
      if core.testing.plane.crashed(plane) then
        note "died"
        plane, clock = lab.crash(plane)
      end
    end,
    function()
      note "crash"
      plane, clock = lab.crash(plane, roll(2) == 1 and ("%ds"):format(roll(40)) or nil)
    end,
  }

  local ok, err = pcall(function()
    for _ = 1, STEPS do
      local name = NAMES[roll(#NAMES)]
      local act = ACTS[roll(#ACTS)]
      if wanted[name] then
        act(name)
      elseif not (plane.workloads:get(name)) then
        create(name)
      end
      clock:advance(("%dms"):format(roll(4000)))
    end
    core.testing.failpoint(nil)
    clock:advance "3h"
    local live = 0
    for _, name in ipairs(NAMES) do
      local want, web = wanted[name], plane.workloads:get(name)
      if not want then
        assert(not web, name .. " is there: " .. tostring(web and web.state))
      else
        local expected = want.paused and 0 or want.replicas
        live = live + expected
        assert(web, name .. " is gone")
        assert(web.state == (want.paused and "paused" or "active"), name .. " is " .. web.state .. ": " .. tostring(web.message))
        assert(web.ready_replicas == expected, ("%s has %d ready of %d"):format(name, web.ready_replicas, expected))
        local indices = {}
        for _, instance in ipairs(lab.instances(plane, web)) do
          assert(not indices[instance.replica_index], "two replicas with one index")
          indices[instance.replica_index] = true
          assert(instance.release_id == web.current_release_id, "another release is left")
        end
      end
    end
    assert(world:counts().live == live, ("%d instances live, not %d"):format(world:counts().live, live))
    for i, event in ipairs(lab.events(plane)) do
      assert(event.seq == i, "a gap in the events")
    end
  end)
  core.testing.failpoint(nil)
  lab.close(plane) -- which fails when an instance was made twice
  house.remove(folder)
  if not ok then
    error(("seed %d: %s\n  %s"):format(seed, tostring(err), table.concat(history, "\n  ")), 0)
  end
end

describe("chaos", function()
  it("ends in order", function()
    local from, to = tonumber(os.getenv "CHAOS_FROM") or 1, tonumber(os.getenv "CHAOS_TO") or 60
    for seed = from, to do
      run(seed)
    end
  end)
end)
