-- Rollouts that fail: the way back, pause and stay; deadlines, failing instances, the reasons that are given.
local lab = require "spec.support.lab"
local rollouts = require "spec.support.rollouts"

describe("a rollout", function()
  local plane, clock, world
  local function open(options) plane, clock, world = lab.open(options or { seed = 5 }) end
  before_each(function() open() end)
  after_each(function() lab.close(plane) end)

  local function count(kind) return lab.count_events(plane, kind) end

  it("whose instances give up goes back by itself and says why", function()
    local web = lab.workload(plane, { replicas = 3 })
    local before = {}
    for _, instance in ipairs(lab.instances(plane, web)) do
      before[instance.id] = true
    end
    local deployment = assert(plane.workloads:deploy(web.id, lab.failing()))
    local ended = rollouts.settle(plane, deployment)
    assert.equal("rolled_back", ended.state)
    assert.equal("deployment_failed", ended.error.code)
    assert.matches("^web%-%d%-%w+ failed: gave up$", ended.message)
    assert.matches("failure: web%-%d%-%w+ failed: gave up", rollouts.reasons(plane, deployment))
    assert.same({ app = "failed" }, ended.service_progress)
    assert.equal(1, count "deploy.rolled_back")
    assert.equal(1, count "deploy.succeeded") -- the first release's
    web = assert(plane.workloads:get(web.id))
    assert.equal("active", web.state)
    assert.not_equal(deployment.release_id, web.current_release_id)
    for _, instance in ipairs(lab.instances(plane, web)) do
      assert.is_true(before[instance.id], "a healthy instance of the good release was replaced")
    end
  end)

  it("whose instances only ever restart goes back as well", function()
    local web = lab.workload(plane, { replicas = 3 })
    local deployment = assert(plane.workloads:deploy(web.id, lab.release { SIM_CRASH_AFTER = "100ms", SIM_READY_DELAY = "1s" }))
    local ended = rollouts.settle(plane, deployment)
    assert.equal("rolled_back", ended.state)
    assert.matches("restarts again and again: .*exit 1", ended.message)
  end)

  it("that nothing moves fails at its progress deadline, with what it waited for", function()
    local web = lab.workload(plane, { replicas = 2 })
    local deployment = assert(plane.workloads:deploy(web.id, lab.never_ready { progress_deadline = "2m" }))
    clock:advance "1m50s"
    assert.equal("running", rollouts.get(plane, deployment).state)
    assert.is_string(rollouts.row(plane, deployment, "replace").deadline)
    clock:advance "30s"
    local ended = rollouts.settle(plane, deployment)
    assert.equal("rolled_back", ended.state)
    assert.equal("timeout", ended.error.code)
    assert.matches("no progress for 120 s", ended.message, 1, true)
    assert.matches("replace 100% at ctrlplane/strategies/rolling.lua", ended.message, 1, true)
  end)

  it("has no deadline when it is none", function()
    local web = lab.workload(plane, { replicas = 2 })
    local deployment = assert(plane.workloads:deploy(web.id, lab.never_ready { progress_deadline = "none" }))
    assert.equal("none", deployment.progress_deadline)
    clock:advance "10h"
    assert.equal("running", rollouts.get(plane, deployment).state)
    assert(plane.deployments:abort(deployment.id, { wait = "1m" }))
  end)

  it("pauses on failure when told to, with the sizes held, until somebody decides", function()
    local web = lab.workload(plane, { replicas = 4 })
    local deployment = assert(plane.workloads:deploy(web.id, lab.never_ready { progress_deadline = "1m", on_failure = "pause" }))
    local held = rollouts.settle(plane, deployment)
    assert.equal("paused", held.state)
    assert.equal("timeout", held.error.code)
    assert.is_nil(held.held_by)
    assert.same({ 1, 1, 1, 1, 2 }, (rollouts.versions(plane, web)))
    clock:advance "1h"
    assert.same({ 1, 1, 1, 1, 2 }, (rollouts.versions(plane, web)))
    assert.matches("person: a failure paused it", rollouts.reasons(plane, deployment), 1, true)
    local back = assert(plane.deployments:abort(deployment.id, { wait = "1m" }))
    assert.equal("rolled_back", back.state)
    assert.same({ 1, 1, 1, 1 }, (rollouts.versions(plane, web)))
  end)

  it("that a failure paused is replaced by the next deploy without asking", function()
    local web = lab.workload(plane, { replicas = 2 })
    local bad = assert(plane.workloads:deploy(web.id, lab.failing { on_failure = "pause" }))
    assert.equal("paused", rollouts.settle(plane, bad).state)
    local good = assert(plane.workloads:deploy(web.id, lab.good()))
    assert.equal("cancelled", rollouts.get(plane, bad).state)
    assert.equal("succeeded", rollouts.settle(plane, good).state)
    assert.same({ 3, 3 }, (rollouts.versions(plane, web)))
  end)

  it("stops on failure where it is when told to, and keeps the mix", function()
    local web = lab.workload(plane, { replicas = 4 })
    local body = "rollout:replace '50%'\nrollout:fail 'half is enough'"
    local deployment = assert(rollouts.deploy(plane, web, body, { on_failure = "fail" }))
    local ended = rollouts.settle(plane, deployment)
    assert.equal("failed", ended.state)
    assert.equal("mine.lua:3: half is enough", ended.message)
    assert.equal("active", assert(plane.workloads:get(web.id)).state)
    assert.same({ 1, 1, 2, 2 }, (rollouts.versions(plane, web)))
    lab.kill(plane, web, { release = "new" })
    clock:advance "1m"
    assert.same({ 1, 1, 2, 2 }, (rollouts.versions(plane, web)))
    assert(plane.workloads:scale(web.id, { replicas = 8, wait = "1m" }))
    assert.same({ 1, 1, 1, 1, 2, 2, 2, 2 }, (rollouts.versions(plane, web)))
    local back = assert(plane.workloads:deploy(web.id, { release_id = web.current_release_id }))
    assert.equal("initial", back.strategy)
    assert.equal("succeeded", rollouts.settle(plane, back).state)
    assert.same({ 1, 1, 1, 1, 1, 1, 1, 1 }, (rollouts.versions(plane, web)))
  end)

  it("may lose as many instances as max_failures says", function()
    lab.close(plane)
    open { seed = 9, scenario = { new = { start_failure_rate = 0.3 } } }
    local web = lab.workload(plane, { replicas = 10 })
    local deployment = assert(plane.workloads:deploy(web.id, lab.good { max_failures = 50 }))
    local ended = rollouts.settle(plane, deployment)
    assert.equal("succeeded", ended.state)
    assert.is_true(count "instance.failed" > 0)
  end)

  it("of the first release has nowhere to go back to: the workload is failed, and the next deploy goes on", function()
    local web = assert(plane.workloads:create { name = "web", replicas = 2, services = { { name = "app", image = "app", env = { SIM_FAIL_START = "1" } } } })
    local first = assert(plane.workloads:list_deployments(web.id)).items[1]
    local ended = rollouts.settle(plane, first)
    assert.equal("failed", ended.state)
    assert.matches("no earlier good release", ended.message, 1, true)
    web = assert(plane.workloads:get(web.id))
    assert.equal("failed", web.state)
    assert.equal(ended.message, web.message)
    local second = assert(plane.workloads:deploy(web.id, lab.good()))
    assert.equal("initial", second.strategy)
    assert.equal("succeeded", rollouts.settle(plane, second).state)
    assert.equal("active", assert(plane.workloads:get(web.id)).state)
    assert.same({ 2, 2 }, (rollouts.versions(plane, web)))
  end)

  it("over a first release that does not get ready replaces it at once", function()
    local web = assert(plane.workloads:create { name = "web", replicas = 2, services = { { name = "app", image = "app", env = { SIM_NEVER_READY = "1" } } } })
    clock:advance "1m"
    local second = assert(plane.workloads:deploy(web.id, lab.good()))
    assert.equal("succeeded", rollouts.settle(plane, second).state)
    local first = assert(plane.workloads:list_deployments(web.id)).items[2]
    assert.equal("cancelled", first.state)
    assert.equal("superseded by " .. second.id, first.message)
    assert.same({ 2, 2 }, (rollouts.versions(plane, web)))
  end)

  it("whose way back fails pauses, and is not rolled back again", function()
    local web = lab.workload(plane, { replicas = 2 })
    local deployment = assert(plane.workloads:deploy(web.id, lab.good { strategy = "recreate", progress_deadline = "2m" }))
    clock:advance "1s"
    world:outage(true)
    clock:advance "3m"
    assert.equal("rolling_back", rollouts.get(plane, deployment).phase)
    clock:advance "3m"
    local held = rollouts.get(plane, deployment)
    assert.equal("paused", held.state)
    assert.matches("the way back failed", held.message, 1, true)
    assert.matches("person: the way back failed", rollouts.reasons(plane, deployment), 1, true)
    world:outage(false)
    assert(plane.deployments:resume(deployment.id))
    assert.equal("rolled_back", rollouts.settle(plane, deployment).state)
    local versions, ready = rollouts.versions(plane, web)
    assert.same({ { 1, 1 }, 2 }, { versions, ready })
  end)

  it("does not go back to a release with the same spec", function()
    local web = lab.workload(plane, { replicas = 1 })
    local good = assert(plane.workloads:deploy(web.id, lab.good({}, "b")))
    rollouts.settle(plane, good)
    local bad = assert(plane.workloads:deploy(web.id, lab.failing()))
    local ended = rollouts.settle(plane, bad)
    assert.equal("rolled_back", ended.state)
    assert.equal(good.release_id, ended.previous_release_id)
    assert.equal(good.release_id, lab.instances(plane, web)[1].release_id)
  end)

  it("waits through an outage of the provider and says so; the deadline runs then", function()
    local web = lab.workload(plane, { replicas = 3 })
    local deployment = assert(plane.workloads:deploy(web.id, lab.good()))
    world:outage(true)
    clock:advance "5m"
    assert.equal("running", rollouts.get(plane, deployment).state)
    assert.matches("provider", rollouts.reasons(plane, deployment), 1, true)
    world:outage(false)
    assert.equal("succeeded", rollouts.settle(plane, deployment).state)
  end)

  it("bakes fail on an unhealthy instance and on a restart", function()
    local web = lab.workload(plane, { replicas = 4 })
    local body = "rollout:replace '50%'\nrollout:bake '5m'"
    local deployment = assert(rollouts.deploy(plane, web, body))
    clock:advance "1m"
    assert.equal("running", rollouts.get(plane, deployment).state)
    assert.matches("bake: bake 5m at mine.lua:3", rollouts.reasons(plane, deployment), 1, true)
    lab.kill(plane, web, { release = "new" })
    local ended = rollouts.settle(plane, deployment)
    assert.equal("rolled_back", ended.state)
    assert.equal("health_check_failed", ended.error.code)
    assert.matches("the bake allows 0", ended.message, 1, true)
  end)

  it("bakes pass when nothing happens, also while the workload grows", function()
    local web = lab.workload(plane, { replicas = 2 })
    local deployment = assert(rollouts.deploy(plane, web, "rollout:replace '50%'\nrollout:bake '5m'"))
    clock:advance "1m"
    assert(plane.workloads:scale(web.id, { replicas = 6 }))
    assert.equal("succeeded", rollouts.settle(plane, deployment).state)
  end)

  it("a bake longer than the progress deadline is no failure", function()
    local web = lab.workload(plane)
    local body = "rollout:replace '100%'\nrollout:bake '1h'\nrollout:sleep '30m'"
    local deployment = assert(rollouts.deploy(plane, web, body, { progress_deadline = "1m" }))
    assert.equal("succeeded", rollouts.settle(plane, deployment, nil, 7200).state)
  end)
end)
