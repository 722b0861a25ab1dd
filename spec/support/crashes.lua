--- Runs of a plane in the lab in which the engine is killed at chosen passes of its failpoints, and what such a run
--- leaves behind, to compare with the run in which nothing happened.
local assert = require "luassert"
local core = require "ctrlplane.core"
local house = require "spec.support.house"
local lab = require "spec.support.lab"

local M = {}

M.FINAL = { succeeded = true, failed = true, rolled_back = true, cancelled = true }

--- The newest deployment of a workload, nil when there is none.
function M.newest(plane, web) return assert(plane.workloads:list_deployments(web.id)).items[1] end

local function instances_of(plane, web, versions)
  local list = {}
  for n, instance in ipairs(lab.instances(plane, web)) do
    list[n] = {
      index = instance.replica_index,
      release = versions[instance.release_id],
      state = instance.state,
      desired = instance.desired,
      ready = instance.ready,
      generation = instance.generation,
    }
  end
  return list
end

local function journal_of(plane, deployment)
  local journal = {}
  for n, command in ipairs(assert(plane.deployments:journal(deployment.id)).items) do
    journal[n] = { number = command.number, name = command.name, args = command.args, done = command.done }
  end
  return journal
end

--- Counts of events by type. Their seq has no gap, whatever happened.
local function events_of(plane)
  local counts, seq = {}, 0
  for _, event in ipairs(lab.events(plane)) do
    seq = seq + 1
    assert.equal(seq, event.seq)
    counts[event.type] = (counts[event.type] or 0) + 1
  end
  counts["deploy.progress"] = nil -- how many depends on what happened to fall into one turn
  counts["instance.restarted"] = nil -- what crashes and comes back between two looks is seen once
  return counts
end

--- Everything that a run leaves behind that is neither an id nor a time.
function M.outcome(plane, world, web)
  local versions, result = {}, { releases = {}, deployments = {} }
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
    labels = now.labels,
    previous_replicas = now.previous_replicas,
    paused = now.paused_at ~= nil,
  }
  for n, deployment in ipairs(assert(plane.workloads:list_deployments(web.id)).items) do
    result.deployments[n] = {
      strategy = deployment.strategy,
      state = deployment.state,
      phase = deployment.phase,
      percent = deployment.percent,
      release = versions[deployment.release_id],
      progress = deployment.service_progress,
      error = deployment.error and deployment.error.code,
      journal = journal_of(plane, deployment),
    }
  end
  result.instances = instances_of(plane, web, versions)
  result.events = events_of(plane)
  local counts = world:counts()
  result.world = { provision = counts.provision, live = counts.live, twins = counts.twins }
  return result, counts
end

local function run_in(folder, plan, options)
  local plane, clock, world = lab.open {
    seed = plan.seed or 7,
    store = folder .. "/plane.db",
    scenario = plan.scenario or { jitter = 0.4 },
  }
  local web = lab.workload(plane, { replicas = plan.replicas or 5, kind = plan.kind, env = plan.env })
  if plan.prepare then
    plan.prepare(plane, web)
  end
  local passes, deaths, looking = {}, 0, false
  core.testing.failpoint(function(name)
    if looking then
      return
    end
    passes[#passes + 1] = name
    return options.trip and options.trip(name, #passes)
  end)

  --- Lets time pass in small steps, and starts another engine when this one was killed.
  local function advance(seconds)
    for _ = 1, seconds * 50 do
      clock:advance "20ms"
      if core.testing.plane.crashed(plane) then
        deaths = deaths + 1
        plane, clock = lab.crash(plane, options.down)
      end
    end
  end
  local function ask()
    plane:spawn(function() plan.ask(plane, web) end)
  end
  --- An answer is waited for here: from a dead engine it would never come.
  local function look(question)
    looking = true
    local answer = question(plane, web)
    looking = false
    return answer
  end
  ask()
  local ended
  for _ = 1, plan.limit or 900 do
    advance(1)
    if not look(plan.taken) then
      ask()
    elseif look(plan.done) then
      ended = true
      break
    end
  end
  advance(plan.after or 30)
  core.testing.failpoint(nil)
  local result, counts = M.outcome(plane, world, web)
  if plan.timing then
    plan.timing(result)
  end
  if plan.ceiling then
    assert.is_true(counts.peak_live <= plan.ceiling, counts.peak_live .. " instances lived at once")
  end
  lab.close(plane)
  assert.is_true(ended, "it did not come to an end")
  return result, passes, deaths
end

--- One run. plan:
---   replicas, kind, env, scenario, seed
---   prepare(plane, web)   before anything can be killed
---   ask(plane, web)       asks for something, as a client that may never get its answer: in a task
---   taken(plane, web)     is it in force? A client that got no answer looks, and asks again
---   done(plane, web)      has it come to its end?
---   ceiling               instances that may live at once
---   timing(result)        takes out of an outcome what depends on when the engine was away
--- options: trip(name, n) true stops the n-th pass; down: how long a killed engine is away (nil: the next starts at
--- once, while operations of the dead one are still on their way).
--- Returns the outcome, the names of all passes in order, and how often the engine was killed.
function M.run(plan, options)
  return house.with_memory_folder(function(folder) return run_in(folder, plan, options or {}) end)
end

--- Kills the engine once at each pass of the run without a crash, one run for each; every run must leave behind what that
--- one left. same(expected, result) compares. Returns the outcome of the run without a crash, and its passes.
function M.each(plan, down)
  local expected, passes = M.run(plan)
  local killed = 0
  for at = 1, #passes do
    local ok, err = pcall(function()
      local result, _, deaths = M.run(plan, {
        down = down,
        trip = function(_, n) return n == at end,
      })
      killed = killed + deaths
      assert.same(expected, result)
    end)
    core.testing.failpoint(nil)
    if not ok then
      error(("killed at pass %d of %d (%s): %s"):format(at, #passes, passes[at], tostring(err)), 0)
    end
  end
  -- The store's own failpoints fail a commit instead of ending the engine; the others are deaths.
  assert.is_true(killed > #passes / 2, killed .. " deaths in " .. #passes .. " runs")
  return expected, passes
end

return M
