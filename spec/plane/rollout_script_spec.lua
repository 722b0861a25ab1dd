-- Strategies as people write them: what commands do and refuse, what scripts that go wrong come to, and that a script
-- goes on at its line after a crash of the engine.
local house = require "spec.support.house"
local lab = require "spec.support.lab"
local rollouts = require "spec.support.rollouts"

describe("a strategy's script", function()
  local plane, clock, world
  before_each(function() plane, clock, world = lab.open { seed = 23 } end)
  after_each(function() lab.close(plane) end)

  local names = 0
  local function ends(body, options, replicas)
    names = names + 1
    local web = lab.workload(plane, { name = "web" .. names, replicas = replicas or 4 })
    local deployment = assert(rollouts.deploy(plane, web, body, options))
    return rollouts.settle(plane, deployment), web, deployment
  end

  local function logs()
    local texts = {}
    for _, event in ipairs(lab.events(plane, { types = { "deploy.progress" } })) do
      texts[#texts + 1] = event.payload.log
    end
    return texts
  end

  it("sees its fields, the status and what a command reached", function()
    local ended = ends([[
      rollout:log(rollout.workload.name .. " " .. rollout.workload.replicas .. " " .. rollout.release.version .. " " .. rollout.previous.version)
      rollout:log(tostring(rollout.router) .. " " .. rollout.guards.surge .. " " .. rollout.guards.on_failure .. " " .. p.n)
      local at = rollout:replace "50%"
      rollout:log(at.new .. " " .. at.old .. " " .. at.replicas)
      local s = rollout:status()
      rollout:log(s.new.available .. " " .. s.old.ready .. " " .. s.failures .. " " .. rollout:replicas())
      rollout:log(#rollout:instances "new" .. " " .. #rollout:instances())]], { head = "params = { n = { type = 'int', default = 7 } }," })
    assert.equal("succeeded", ended.state)
    assert.same({ "web" .. names .. " 4 2 1", "nil 25% rollback 7", "2 2 4", "2 2 0 4", "2 4" }, logs())
  end)

  it("shows phase and percent", function()
    local web = lab.workload(plane)
    local deployment = assert(rollouts.deploy(plane, web, "rollout:phase 'warming'\nrollout:progress(40, 'so far')\nrollout:sleep '1m'"))
    clock:advance "5s"
    local now = rollouts.get(plane, deployment)
    assert.same({ "warming", 40, "so far" }, { now.phase, now.percent, now.message })
    assert.equal(100, rollouts.settle(plane, deployment).percent)
  end)

  it("launches beside the old set, then retires it", function()
    local web = lab.workload(plane, { replicas = 3 })
    local deployment = assert(rollouts.deploy(plane, web, "rollout:launch '100%'\nrollout:sleep '1m'\nrollout:retire()", { surge = "100%" }))
    clock:advance "30s"
    assert.same({ 1, 1, 1, 2, 2, 2 }, (rollouts.versions(plane, web)))
    assert.equal("succeeded", rollouts.settle(plane, deployment).state)
    assert.same({ 2, 2, 2 }, (rollouts.versions(plane, web)))
  end)

  it("is denied what the guards can never allow, with the numbers, and nothing is created", function()
    local ended = ends("rollout:launch '100%'")
    assert.equal("rolled_back", ended.state)
    assert.equal("denied", ended.error.code)
    assert.equal("mine.lua:2", ended.error.details.where)
    assert.matches("new 4 + old 4 = 8 instances; the guards allow 4 replicas + surge 1 = 5", ended.message, 1, true)
    assert.equal(4, world:counts().provision)
    ended = ends("rollout:retire()", nil, 4)
    assert.matches("the guards want at least 4 replicas - unavailable 0 = 4", ended.message, 1, true)
  end)

  it("can catch what is denied and go another way", function()
    local ended = ends [[
      local ok, err = pcall(rollout.launch, rollout, "100%")
      assert(not ok and err.code == "denied")
      rollout:replace "100%"]]
    assert.equal("succeeded", ended.state)
  end)

  it("waits until a condition of the status holds", function()
    local ended = ends [[
      local s = rollout:wait_until(function(s) return s.replicas == 4 end)
      rollout:log(s.replicas)
      rollout:replace "25%"
      rollout:wait_until(function(s) return s.new.ready >= 1 and rollout:status().old.live == 3 end)]]
    assert.equal("succeeded", ended.state)
    assert.same({ "4" }, logs())
  end)

  it("a wait for what never comes ends at its timeout, which can be caught, or at the deadline", function()
    local ended = ends "rollout:wait_until(function() return false end, { timeout = '30s' })"
    assert.equal("timeout", ended.error.code)
    assert.matches("wait_until was not done within its timeout", ended.message, 1, true)
    ended = ends("pcall(rollout.wait_until, rollout, function() return false end, { timeout = '30s' })", nil, 2)
    assert.equal("succeeded", ended.state)
    ended = ends("rollout:wait_until(function() return false end)", { progress_deadline = "1m" }, 1)
    assert.matches("no progress for 60 s", ended.message, 1, true)
  end)

  it("that is wrong fails the rollout at its line; the engine goes back", function()
    local cases = {
      ["local x = nil\nreturn x.y.z"] = { "script_error", "mine.lua:3" },
      ["rollout:lanch '100%'"] = { "invalid", "mine.lua:2", "did you mean 'launch'?" },
      ["rollout:launch('50%', { timout = '5m' })"] = { "invalid", "mine.lua:2", "did you mean 'timeout'?" },
      ["rollout:launch 'half'"] = { "invalid", "mine.lua:2", 'write a count like 3 or a percentage like "25%"' },
      ["rollout:launch()"] = { "invalid", "mine.lua:2" },
      ["rollout:bake(-1)"] = { "invalid", "mine.lua:2", 'write it like "250ms", "30s" or a number of seconds' },
      ["rollout:sleep '1m'\nrollout:progress(200)"] = { "invalid", "mine.lua:3" },
      ["rollout:shift(50)"] = { "unsupported", "mine.lua:2" },
      ["rollout:instances 'newer'"] = { "invalid", "mine.lua:2" },
      ["count = 1"] = { "script_error", "mine.lua:2" },
      ["while true do end"] = { "script_error", "mine.lua:2" },
      ["while true do pcall(function() while true do end end) end"] = { "script_error", "mine.lua:2" },
      ["local t = {}\nwhile true do t[#t + 1] = { 1, 2 } end"] = { "script_error", "mine.lua:3" },
      ["local function f() return 1 + f() end\nf()"] = { "script_error", "mine.lua:2" },
      ["rollout:replace '50%'\nrollout:wait_until(function() error 'no' end)"] = { "script_error", "mine.lua:3" },
      ["rollout:wait_until(function() while true do end end)"] = { "script_error", "mine.lua:2" },
      ["rollout:fail 'enough'"] = { "deployment_failed", "mine.lua:2" },
      ["pcall(rollout.fail, rollout, 'enough')\nrollout:replace '100%'"] = { "deployment_failed", "mine.lua:2" },
    }
    local web = lab.workload(plane, { replicas = 2 })
    local n = 0
    for body, wanted in pairs(cases) do
      n = n + 1
      local deployment = assert(rollouts.deploy(plane, web, body, { services = lab.good({}, "r" .. n).services }))
      local ended = rollouts.settle(plane, deployment)
      assert.same({ body, "rolled_back", wanted[1], wanted[2], wanted[3] }, {
        body, ended.state, ended.error.code, ended.error.details.where, ended.error.hint,
      })
      assert.same({ 1, 1 }, (rollouts.versions(plane, web)))
    end
  end)

  it("that loops for ever does not stop other workloads", function()
    local web = lab.workload(plane)
    local deployment = assert(rollouts.deploy(plane, web, "while true do end"))
    local other = lab.workload(plane, { name = "other", replicas = 2 })
    assert.equal("active", other.state)
    assert.equal("script_error", rollouts.settle(plane, deployment).error.code)
  end)

  it("is aborted wherever it is, also where it catches everything", function()
    local web = lab.workload(plane)
    local deployment = assert(rollouts.deploy(plane, web, "while true do pcall(rollout.sleep, rollout, '1m') end"))
    clock:advance "10m"
    assert.equal("rolled_back", assert(plane.deployments:abort(deployment.id, { wait = "1m" })).state)
  end)

  it("is refused when it does not load, and nothing is recorded", function()
    local web = lab.workload(plane)
    local sources = {
      ["retrun {}"] = { "script_error", "mine.lua:1" },
      ["return { run = 5 }"] = { "script_error", "no run" },
      ["return { run = function() end, needs = { 'router' } }"] = { "unsupported", "needs a router" },
      ["return { run = function() end, guards = { surg = 1 } }"] = { "invalid", "unknown guard 'surg'" },
      ["return { run = function() end, guards = { surge = 'x' } }"] = { "invalid", "guards.surge" },
      ["return { run = function() end, guards = function() end }"] = { "script_error", "guards as a function" },
      ["return { run = function() end, rollback = function() end }"] = { "script_error", "rollback function" },
    }
    for source, wanted in pairs(sources) do
      local deployment, err = plane.workloads:deploy(web.id, lab.good { strategy = "mine.lua", source = source })
      assert.is_nil(deployment, source)
      assert.same({ source, wanted[1] }, { source, err.code })
      assert.matches(wanted[2], tostring(err), 1, true)
    end
    assert.equal(1, #assert(plane.workloads:list_releases(web.id)).items)
  end)

  it("takes its guards from the request, else from the strategy, else from the kind", function()
    local web = lab.workload(plane, { replicas = 10 })
    local head = "guards = { surge = 3, min_ready = '5s' },"
    local deployment = assert(rollouts.deploy(plane, web, "", { head = head, max_failures = 2 }))
    assert.same({ 3, 5, 2, 600, "rollback" }, {
      deployment.surge, deployment.min_ready, deployment.max_failures, deployment.progress_deadline, deployment.on_failure,
    })
    rollouts.settle(plane, deployment)
    deployment = assert(rollouts.deploy(plane, web, "", { head = head, surge = "10%", services = lab.good({}, "b").services }))
    assert.equal("10%", deployment.surge)
    rollouts.settle(plane, deployment)
  end)

  it("counts an instance as available only when it was ready for min_ready", function()
    local web = lab.workload(plane, { replicas = 2 })
    local deployment = assert(plane.workloads:deploy(web.id, lab.good { min_ready = "1m" }))
    clock:advance "50s"
    assert.same({ 1, 1, 2 }, (rollouts.versions(plane, web)))
    assert.matches("min_ready", rollouts.reasons(plane, deployment), 1, true)
    assert.equal("succeeded", rollouts.settle(plane, deployment).state)
  end)

  it("brings what it requires with its source", function()
    local web = lab.workload(plane)
    local source = "local steps = require 'lib.steps'\n-- require 'nothing'\n"
      .. "return { run = function(rollout) rollout:fail(steps[1]) end }"
    local files = {
      ["lib/steps.lua"] = "return { require('words') .. '!' }",
      ["words.lua"] = "return 'sent'",
      ["unused.lua"] = "return {",
    }
    local deployment = assert(plane.workloads:deploy(web.id, lab.good { strategy = "mine.lua", source = source, files = files }))
    assert.matches("sent!", rollouts.settle(plane, deployment).message, 1, true)
    for given, wanted in pairs {
      [{ ["lib/steps.lua"] = "return {" }] = { "script_error", "lib/steps.lua:1" },
      [{ ["lib/steps"] = "" }] = { "invalid", "files has 'lib/steps'" },
      [{}] = { "script_error", "there is no module \"lib.steps\"" },
    } do
      local none, err = plane.workloads:deploy(web.id, lab.good({ strategy = "mine.lua", source = source, files = given }, "next"))
      assert.is_nil(none)
      assert.equal(wanted[1], err.code)
      assert.matches(wanted[2], tostring(err), 1, true)
    end
    local _, err = plane.workloads:deploy(web.id, lab.good({ files = files }, "next"))
    assert.same({ "invalid", "files" }, { err.code, err.field })
  end)

  it("requires files beside it, pinned when the deploy was asked for", function()
    local folder = house.folder()
    house.write(folder .. "/mine.lua", "local steps = require 'steps'\nreturn { run = function(rollout) for _, s in ipairs(steps) do rollout:replace(s) rollout:sleep '1m' end end }")
    house.write(folder .. "/steps.lua", "return { '50%', '100%' }")
    local web = lab.workload(plane, { replicas = 4 })
    local deployment = assert(plane.workloads:deploy(web.id, lab.good { strategy = folder .. "/mine.lua" }))
    house.write(folder .. "/steps.lua", "error 'edited'")
    house.write(folder .. "/mine.lua", "error 'edited'")
    assert.equal("succeeded", rollouts.settle(plane, deployment).state)
    assert.same({ "replace", "sleep", "replace", "sleep", "finish" }, rollouts.commands(plane, deployment))
    house.remove(folder)
  end)
end)

describe("after a crash of the engine a script", function()
  local plane, clock, folder, path
  before_each(function()
    folder = house.memory_folder()
    path = folder .. "/plane.db"
    plane, clock = lab.open { seed = 29, store = path }
  end)
  after_each(function()
    lab.close(plane)
    house.remove(folder)
  end)
  local function crash(down) plane, clock = lab.crash(plane, down) end

  it("goes on at its line: what was done is not done again, what it saw is the same", function()
    local web = lab.workload(plane, { replicas = 4 })
    local body = [[
      rollout:replace "25%"
      local luck, at = rollout:random(1, 1000000), rollout:now()
      rollout:log(luck .. " " .. at)
      local n = rollout:replicas()
      rollout:sleep "5m"
      rollout:log(luck .. " " .. at .. " " .. n)]]
    local deployment = assert(rollouts.deploy(plane, web, body))
    clock:advance "30s"
    local before = rollouts.commands(plane, deployment)
    assert.same({ "replace", "log", "replicas", "sleep" }, before)
    assert(plane.workloads:scale(web.id, { replicas = 8 }))
    crash()
    clock:advance "1m"
    assert.same(before, rollouts.commands(plane, deployment))
    assert.matches("sleep 5m at mine.lua:6", rollouts.reasons(plane, deployment), 1, true)
    crash()
    assert.equal("succeeded", rollouts.settle(plane, deployment).state)
    local texts = {}
    for _, event in ipairs(lab.events(plane, { types = { "deploy.progress" } })) do
      texts[#texts + 1] = event.payload.log
    end
    assert.equal(texts[1] .. " 4", texts[2])
    assert.same({ 2, 2, 2, 2, 2, 2, 2, 2 }, (rollouts.versions(plane, web)))
  end)

  it("waits on for its condition", function()
    local web = lab.workload(plane, { replicas = 2 })
    local deployment = assert(rollouts.deploy(plane, web, "rollout:wait_until(function(s) return s.replicas == 3 end)"))
    clock:advance "10s"
    crash()
    clock:advance "10s"
    assert.equal("running", rollouts.get(plane, deployment).state)
    assert(plane.workloads:scale(web.id, { replicas = 3 }))
    assert.equal("succeeded", rollouts.settle(plane, deployment).state)
  end)

  it("has lost no time and no deadline by an outage of an hour", function()
    local web = lab.workload(plane, { replicas = 2 })
    local deployment = assert(plane.workloads:deploy(web.id, lab.release({ SIM_READY_DELAY = "2m" }, { progress_deadline = "5m" })))
    clock:advance "30s"
    crash "1h"
    assert.equal("succeeded", rollouts.settle(plane, deployment).state)
  end)

  it("passes no bake unobserved", function()
    local web = lab.workload(plane, { replicas = 2 })
    local deployment = assert(rollouts.deploy(plane, web, "rollout:replace '50%'\nrollout:bake '10m'"))
    clock:advance "1m"
    crash "1h"
    clock:advance "8m"
    assert.equal("bake", rollouts.commands(plane, deployment)[2])
    assert.equal("running", rollouts.get(plane, deployment).state)
    assert.equal("succeeded", rollouts.settle(plane, deployment).state)
  end)

  it("is still paused, held, or on its way back", function()
    local web = lab.workload(plane, { replicas = 4 })
    local deployment = assert(rollouts.deploy(plane, web, "rollout:replace '50%'\nrollout:sleep '10m'"))
    clock:advance "30s"
    assert(plane.deployments:pause(deployment.id))
    crash()
    clock:advance "1h"
    assert.same({ 1, 1, 2, 2 }, (rollouts.versions(plane, web)))
    assert(plane.deployments:resume(deployment.id))
    clock:advance "1m"
    assert.equal("running", rollouts.get(plane, deployment).state)
    assert(plane.deployments:abort(deployment.id))
    crash()
    assert.equal("rolled_back", rollouts.settle(plane, deployment).state)
    assert.same({ 1, 1, 1, 1 }, (rollouts.versions(plane, web)))
  end)

  it("that a failure paused stays paused with its reason", function()
    local web = lab.workload(plane, { replicas = 2 })
    local deployment = assert(rollouts.deploy(plane, web, "rollout:fail 'no'", { on_failure = "pause" }))
    assert.equal("paused", rollouts.settle(plane, deployment).state)
    crash()
    clock:advance "1m"
    assert.matches("failure: mine.lua:2: no", rollouts.reasons(plane, deployment), 1, true)
    local _, err = plane.deployments:resume(deployment.id)
    assert.matches("there is nothing to resume", err.message, 1, true)
    assert.equal("cancelled", assert(plane.deployments:cancel(deployment.id)).state)
  end)

  it("that is another than its journal pauses, naming both, and goes on once they agree", function()
    local web = lab.workload(plane, { replicas = 2 })
    local deployment = assert(rollouts.deploy(plane, web, "rollout:replace '50%'\nrollout:sleep '10m'"))
    clock:advance "30s"
    local sql = require("ctrlplane.core").testing.store.sql
    local function edit(from, to)
      crash(function() assert(sql(path, ("UPDATE command SET args = replace(args, '%s', '%s')"):format(from, to))) end)
    end
    edit("50%", "60%")
    local held = rollouts.settle(plane, deployment)
    assert.equal("paused", held.state)
    assert.equal("nondeterminism", held.error.code)
    assert.matches('was replace {"share":"60%"} (mine.lua:2) when it ran first, and is replace {"share":"50%"} (mine.lua:2) now', held.message, 1, true)
    assert.same({ 1, 2 }, (rollouts.versions(plane, web)))
    edit("60%", "50%")
    assert(plane.deployments:resume(deployment.id))
    assert.equal("succeeded", rollouts.settle(plane, deployment).state)
  end)
end)
