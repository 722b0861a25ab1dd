-- The engine is killed at every commit, effect and record of a rolling deploy, once at each, and must end where the run
-- without a crash ends. In the simulator: the real engine, store and strategy, a simulated runtime, the virtual clock.
-- ctest: timeout=300
local core = require "ctrlplane.core"
local crashes = require "spec.support.crashes"
local house = require "spec.support.house"
local lab = require "spec.support.lab"

-- One replica at a time.
local ROLLING = {
  replicas = 5,
  ceiling = 6,
  ask = function(plane, web) plane.workloads:deploy(web.id, lab.good { surge = 1, unavailable = 0 }) end,
  taken = function(plane, web) return crashes.newest(plane, web).strategy == "rolling" end,
  done = function(plane, web) return crashes.FINAL[crashes.newest(plane, web).state] end,
}

describe("a rolling deploy of 5 replicas (row 2)", function()
  local expected, passes

  setup(function()
    expected, passes = crashes.run(ROLLING)
  end)
  after_each(function() core.testing.failpoint(nil) end)

  it("succeeds without a crash", function()
    assert.same({ state = "active", replicas = 5, ready = 5, release = 2, paused = false }, expected.workload)
    assert.equal("succeeded", expected.deployments[1].state)
    assert.same({ provision = 10, live = 5, twins = 0 }, expected.world)
    assert.is_true(#passes > 50, #passes .. " passes of failpoints")
  end)

  it("is the same run again, pass by pass", function()
    local again, same = crashes.run(ROLLING)
    assert.same(expected, again)
    assert.same(passes, same)
  end)

  it("ends in the same place when the engine is killed at any one of its passes and is back at once", function()
    crashes.each(ROLLING)
  end)

  it("ends in the same place when the engine is killed at any one of its passes and is away for 3 s", function()
    crashes.each(ROLLING, "3s")
  end)

  it("ends in the same place when the engine is killed again and again", function()
    for _, every in ipairs { 7, 13, 29 } do
      local result, _, deaths = crashes.run(ROLLING, { trip = function(_, n) return n % every == 0 and n < 200 end })
      assert.is_true(deaths >= 2, deaths .. " deaths")
      assert.same(expected, result)
    end
  end)
end)

--- Every failpoint of the source: name -> file.
local function names_in_source()
  local names = {}
  local _, files = house.run { "/usr/bin/grep", "-rlE", "cp_(failpoint|plane_crash)\\(", "engine", "providers" }
  for file in files:gmatch "[^\n]+" do
    local text = house.read(file)
    for name in text:gmatch 'cp_failpoint%("([%w_]+)"%)' do
      names[name] = file
    end
    for name in text:gmatch 'cp_plane_crash%([^"\n]-"([%w_]+)"%)' do
      names[name] = file
    end
  end
  return names
end

describe("every failpoint of the source (row 2)", function()
  -- Not in the simulator: these need real processes, or an old store. Their specs name them.
  local ELSEWHERE = { "providers", "engine/store/migrate.c" }

  after_each(function() core.testing.failpoint(nil) end)

  local function elsewhere(file)
    for _, prefix in ipairs(ELSEWHERE) do
      if file:sub(1, #prefix) == prefix then
        return true
      end
    end
  end

  it("is reached by a spec, and survived", function()
    local reached, tripped, commits = {}, {}, 0
    local function first(name)
      local new = not tripped[name]
      tripped[name] = true
      return new
    end
    -- A commit fails in the store (which passes the name after the plane did), and so does the first marker after it.
    local function fail(name)
      reached[name] = true
      commits = commits + (name == "before_commit" and 1 or 0)
      return name == "before_commit" and commits == 6 or name == "before_marker" and first(name)
    end
    -- A death in the middle, so that there is something to adopt.
    local function kill(name)
      reached[name] = true
      return name == "effect" and first(name)
    end
    crashes.run(ROLLING, { trip = fail })
    crashes.run(ROLLING, { trip = kill })
    local missing = {}
    for name, file in pairs(names_in_source()) do
      if elsewhere(file) then
        local code = house.run { "/usr/bin/grep", "-rqw", name, "spec", "--include=*_spec.lua", "--exclude=crash_spec.lua" }
        if code ~= 0 then
          missing[#missing + 1] = ("%s (%s) is named in no spec"):format(name, file)
        end
      elseif not reached[name] then
        missing[#missing + 1] = ("%s (%s) was not reached"):format(name, file)
      end
    end
    assert.same({}, missing)
  end)
end)

describe("an engine that is away for an hour", function()
  local folder

  before_each(function() folder = house.memory_folder() end)
  after_each(function()
    core.testing.failpoint(nil)
    house.remove(folder)
  end)

  it("fails no deadline: the time in which it did not watch does not count", function()
    local plane, clock = lab.open { seed = 3, store = folder .. "/plane.db", scenario = { new = { ready_delay = "5s" } } }
    local web = lab.workload(plane, { replicas = 5 })
    local deployment = assert(plane.workloads:deploy(web.id, lab.good { progress_deadline = "30s" }))
    clock:advance "3s"
    plane, clock = lab.crash(plane, "1h")
    clock:advance "5m"
    local now = assert(plane.deployments:get(deployment.id))
    assert.equal("succeeded", now.state)
    assert.same({ old = 5 }, lab.live(plane, web, true)) -- the new release is the current one
    lab.close(plane)
  end)

  it("does not count it for a rollout that is stuck, which fails in its own time", function()
    local plane, clock = lab.open { seed = 3, store = folder .. "/plane.db" }
    local web = lab.workload(plane, { replicas = 3 })
    local options = lab.never_ready { progress_deadline = "60s", on_failure = "fail" }
    local deployment = assert(plane.workloads:deploy(web.id, options))
    clock:advance "20s"
    plane, clock = lab.crash(plane, "1h")
    clock:advance "20s"
    assert.equal("running", assert(plane.deployments:get(deployment.id)).state)
    clock:advance "40s"
    assert.equal("failed", assert(plane.deployments:get(deployment.id)).state)
    lab.close(plane)
  end)

  it("finds what crashed and came back while it was away, and what gave up", function()
    local plane, _, world = lab.open { seed = 3, store = folder .. "/plane.db" }
    local web = lab.workload(plane, { replicas = 3 })
    local ids = lab.kill(plane, web, { count = 2 })
    plane = lab.crash(plane, "1h")
    plane.clock:advance "5s"
    for _, instance in ipairs(lab.instances(plane, web)) do
      assert.is_true(instance.ready)
    end
    assert.equal(2, #ids)
    world:reboot()
    plane = lab.crash(plane, "1h")
    plane.clock:advance "1m"
    assert.same({ old = 3 }, lab.live(plane, web, true))
    assert.equal(0, lab.count_events(plane, "instance.failed"))
    lab.close(plane)
  end)
end)
