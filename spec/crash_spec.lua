-- The engine is killed at every commit, effect and record of a rolling deploy, once at each, and must end where the run
-- without a crash ends. In the simulator: the real engine, store and strategy, a simulated runtime, the virtual clock.
-- ctest: timeout=300
local core = require "ctrlplane.core"
local house = require "spec.support.house"
local lab = require "spec.support.lab"

local REPLICAS = 5
local FINAL = { succeeded = true, failed = true, rolled_back = true, cancelled = true }

local function newest(plane, web) return assert(plane.workloads:list_deployments(web.id)).items[1] end

--- Everything a run leaves behind that is not an id or a time.
local function outcome(plane, world, web)
  local versions = {}
  local result = { releases = {}, instances = {}, deployments = {}, events = {} }
  for _, release in ipairs(assert(plane.workloads:list_releases(web.id)).items) do
    versions[release.id] = release.version
    result.releases[release.version] = { active = release.active }
  end
  local now = assert(plane.workloads:get(web.id))
  result.workload = {
    state = now.state,
    replicas = now.replica_count,
    ready = now.ready_replicas,
    release = versions[now.current_release_id],
    message = now.message,
  }
  for _, instance in ipairs(lab.instances(plane, web)) do
    table.insert(result.instances, {
      index = instance.replica_index,
      release = versions[instance.release_id],
      state = instance.state,
      desired = instance.desired,
      ready = instance.ready,
      generation = instance.generation,
      restarts = instance.restarts,
    })
  end
  for _, deployment in ipairs(assert(plane.workloads:list_deployments(web.id)).items) do
    local journal = {}
    for n, command in ipairs(assert(plane.deployments:journal(deployment.id)).items) do
      journal[n] = { number = command.number, name = command.name, args = command.args, done = command.done }
    end
    table.insert(result.deployments, {
      strategy = deployment.strategy,
      state = deployment.state,
      phase = deployment.phase,
      percent = deployment.percent,
      release = versions[deployment.release_id],
      progress = deployment.service_progress,
      journal = journal,
    })
  end
  local seq = 0
  for _, event in ipairs(lab.events(plane)) do
    seq = seq + 1
    assert.equal(seq, event.seq) -- without a gap, in order of the commits
    result.events[event.type] = (result.events[event.type] or 0) + 1
  end
  result.events["deploy.progress"] = nil -- how many depends on what happened to fall into one turn
  local counts = world:counts()
  result.world = { provision = counts.provision, deprovision = counts.deprovision, live = counts.live, twins = counts.twins }
  -- The ceiling holds in the world itself, not only in our books.
  assert.is_true(counts.peak_live <= REPLICAS + 1, counts.peak_live .. " instances lived at once")
  return result
end

--- One run. trip(name, nth pass of all, nth pass of this name): true stops that pass. down: how long an engine that was
--- killed is away; without it the next one starts at once, while its operations are still on their way.
--- Returns the outcome, the names of all passes in order, and how often the engine was killed.
local function run(trip, down)
  local folder = house.memory_folder()
  local plane, clock, world = lab.open { seed = 7, store = folder .. "/plane.db", scenario = { jitter = 0.4 } }
  local web = lab.workload(plane, { replicas = REPLICAS })
  local passes, of_name, deaths = {}, {}, 0

  local function deploy()
    plane:spawn(function() -- the answer may never come; who asked looks, and asks again
      plane.workloads:deploy(web.id, lab.good { surge = 1, unavailable = 0 }) -- one at a time
    end)
  end
  core.testing.failpoint(function(name)
    passes[#passes + 1] = name
    of_name[name] = (of_name[name] or 0) + 1
    return trip and trip(name, #passes, of_name[name])
  end)
  deploy()
  --- Lets time pass in small steps, and starts another engine when this one was killed.
  local function advance(seconds)
    for _ = 1, seconds * 50 do
      clock:advance "20ms"
      if core.testing.plane.crashed(plane) then
        deaths = deaths + 1
        plane, clock = lab.crash(plane, down)
      end
    end
  end
  for _ = 1, 600 do
    advance(1)
    local deployment = newest(plane, web)
    if not deployment or deployment.strategy ~= "rolling" then
      deploy()
    elseif FINAL[deployment.state] then
      break
    end
  end
  advance(30)
  core.testing.failpoint(nil)
  local result = outcome(plane, world, web)
  lab.close(plane)
  house.remove(folder)
  return result, passes, deaths
end

describe("a rolling deploy of 5 replicas", function()
  local expected, passes

  setup(function()
    expected, passes = run()
  end)
  after_each(function() core.testing.failpoint(nil) end)

  it("succeeds without a crash", function()
    assert.same({ state = "active", replicas = 5, ready = 5, release = 2 }, expected.workload)
    assert.equal("succeeded", expected.deployments[1].state)
    assert.equal(5, expected.world.live)
    assert.equal(10, expected.world.provision)
    assert.is_true(#passes > 50, #passes .. " passes of failpoints")
  end)

  it("is the same run again, pass by pass", function()
    local again, same = run()
    assert.same(expected, again)
    assert.same(passes, same)
  end)

  --- Kills the engine once at each pass.
  local function each(down)
    local killed = 0
    for at = 1, #passes do
      local ok, err = pcall(function()
        local result, _, deaths = run(function(_, n) return n == at end, down)
        killed = killed + deaths
        assert.same(expected, result)
      end)
      if not ok then
        error(("killed at pass %d of %d (%s): %s"):format(at, #passes, passes[at], tostring(err)), 0)
      end
    end
    -- The store's own failpoints fail a commit instead of ending the engine; the others are deaths.
    assert.is_true(killed > #passes / 2, killed .. " deaths in " .. #passes .. " runs")
  end

  it("ends in the same place when the engine is killed at any one of its passes and is back at once", function() each() end)

  it("ends in the same place when the engine is killed at any one of its passes and is away for 3 s", function() each "3s" end)

  it("ends in the same place when the engine is killed again and again", function()
    for _, every in ipairs { 7, 13, 29 } do
      local result, _, deaths = run(function(_, n) return n % every == 0 and n < 200 end)
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

describe("every failpoint of the source", function()
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
    local reached = {}
    local function note(name) reached[name] = true end
    run(function(name) -- a commit fails, and so does the first marker after it
      note(name)
      if name == "before_marker" then
        return not reached["marker failed"] and (function()
          reached["marker failed"] = true
          return true
        end)()
      end
      if name == "before_commit" then
        reached.commits = (reached.commits or 0) + 1
        return reached.commits == 6 -- the store's own: the plane passes the name first
      end
    end)
    run(function(name, n) -- a death, so that there is somebody to adopt
      note(name)
      return name == "effect" and n < 40 and not reached.death and (function()
        reached.death = true
        return true
      end)()
    end)
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
