-- What people say to a rollout: pause, resume, abort, cancel, retry, why; deploys over it; pause of its workload.
local lab = require "spec.support.lab"
local rollouts = require "spec.support.rollouts"

describe("a rollout under way", function()
  local plane, clock
  before_each(function() plane, clock = lab.open { seed = 17 } end)
  after_each(function() lab.close(plane) end)

  local HALF = "rollout:replace '50%'\nrollout:sleep '10m'"

  --- A workload of 4 in the middle: 2 old, 2 new, and the script sleeps.
  local function half(options)
    local web = lab.workload(plane, { replicas = 4 })
    local deployment = assert(rollouts.deploy(plane, web, HALF, options))
    clock:advance "20s"
    assert.same({ 1, 1, 2, 2 }, (rollouts.versions(plane, web)))
    return web, deployment
  end

  local function refused(code, text, ok, err)
    assert.is_nil(ok)
    assert.equal(code, err.code)
    assert.matches(text, err.message, 1, true)
  end

  it("is paused with its sizes and its clocks, and goes on where it was", function()
    local web, deployment = half()
    local paused = assert(plane.deployments:pause(deployment.id))
    assert.equal("paused", paused.state)
    assert.is_string(paused.held_by)
    assert.matches("person: ", rollouts.reasons(plane, deployment), 1, true)
    lab.kill(plane, web, { release = "new" })
    clock:advance "2h"
    local versions, ready = rollouts.versions(plane, web)
    assert.same({ { 1, 1, 2, 2 }, 4 }, { versions, ready })
    local resumed = assert(plane.deployments:resume(deployment.id))
    assert.equal("running", resumed.state)
    assert.is_nil(resumed.held_by)
    clock:advance "9m"
    assert.same({ 1, 1, 2, 2 }, (rollouts.versions(plane, web)))
    assert.equal("succeeded", rollouts.settle(plane, deployment, nil, 120).state)
  end)

  it("is scaled while it is paused, each set in proportion", function()
    local web, deployment = half()
    assert(plane.deployments:pause(deployment.id))
    assert(plane.workloads:scale(web.id, { replicas = 8 }))
    clock:advance "1m"
    assert.same({ 1, 1, 1, 1, 2, 2, 2, 2 }, (rollouts.versions(plane, web)))
    assert(plane.workloads:scale(web.id, { replicas = 2 }))
    clock:advance "1m"
    assert.same({ 1, 2 }, (rollouts.versions(plane, web)))
    assert(plane.deployments:resume(deployment.id))
    assert.equal("succeeded", rollouts.settle(plane, deployment).state)
    assert.same({ 2, 2 }, (rollouts.versions(plane, web)))
  end)

  it("is paused twice without harm, and resumed only when paused", function()
    local _, deployment = half()
    refused("invalid_state", "resume needs paused", plane.deployments:resume(deployment.id))
    assert(plane.deployments:pause(deployment.id))
    assert(plane.deployments:pause(deployment.id))
    assert.equal(1, lab.count_events(plane, "deploy.paused"))
    assert(plane.deployments:resume(deployment.id))
    rollouts.settle(plane, deployment)
  end)

  it("goes back when it is aborted, which its journal shows", function()
    local web, deployment = half()
    local back = assert(plane.deployments:abort(deployment.id))
    assert.equal("rolling_back", back.phase)
    assert.matches("rolling_back: going back", rollouts.reasons(plane, deployment), 1, true)
    assert(plane.deployments:abort(deployment.id)) -- it is on its way
    local ended = rollouts.settle(plane, deployment)
    assert.equal("rolled_back", ended.state)
    assert.matches("aborted by", ended.message, 1, true)
    assert.same({ 1, 1, 1, 1 }, (rollouts.versions(plane, web)))
    local journal = assert(plane.deployments:journal(deployment.id)).items
    assert.equal("sleep", journal[#journal].name)
    assert.equal("cancelled", journal[#journal].result.error.code)
  end)

  it("never stops a healthy old one when it is aborted", function()
    local web, deployment = half()
    local old = {}
    for _, instance in ipairs(lab.instances(plane, web)) do
      old[instance.id] = instance.release_id ~= deployment.release_id or nil
    end
    assert(plane.deployments:abort(deployment.id, { wait = "1m" }))
    for _, instance in ipairs(lab.instances(plane, web)) do
      old[instance.id] = nil
    end
    assert.same({}, old)
  end)

  it("stops where it is when it is cancelled, and the mix stays", function()
    local web, deployment = half()
    assert.equal("cancelled", assert(plane.deployments:cancel(deployment.id)).state)
    assert.equal("active", assert(plane.workloads:get(web.id)).state)
    lab.kill(plane, web, { release = "new" })
    clock:advance "1h"
    local versions, ready = rollouts.versions(plane, web)
    assert.same({ { 1, 1, 2, 2 }, 4 }, { versions, ready })
    local kept = {}
    for _, instance in ipairs(lab.instances(plane, web)) do
      kept[instance.id] = instance.release_id == deployment.release_id or nil
    end
    local again = assert(plane.deployments:retry(deployment.id))
    assert.equal(deployment.release_id, again.release_id)
    assert.equal(deployment.strategy_hash, again.strategy_hash)
    assert.equal("succeeded", rollouts.settle(plane, again).state)
    assert.same({ 2, 2, 2, 2 }, (rollouts.versions(plane, web)))
    for _, instance in ipairs(lab.instances(plane, web)) do
      kept[instance.id] = nil
    end
    assert.same({}, kept) -- what was new already stayed
  end)

  it("each verb on a final one answers with what is possible", function()
    local _, deployment = half()
    assert(plane.deployments:cancel(deployment.id))
    for _, verb in ipairs { "pause", "resume", "abort", "cancel" } do
      refused("invalid_state", verb .. " is not possible, retry is", plane.deployments[verb](plane.deployments, deployment.id))
    end
    local _, err = plane.deployments:get "dep_00000000000000000000000000"
    assert.equal("not_found", err.code)
    _, err = plane.deployments:abort "nonsense"
    assert.equal("invalid", err.code)
  end)

  it("is not retried while it runs, nor when it succeeded", function()
    local web, deployment = half()
    refused("invalid_state", "retry needs one that has ended", plane.deployments:retry(deployment.id))
    rollouts.settle(plane, deployment)
    refused("invalid_state", "already", plane.deployments:retry(deployment.id))
    assert.equal(2, #assert(plane.workloads:list_deployments(web.id)).items)
  end)

  it("is in the way of the next deploy, unless that replaces it", function()
    local web, deployment = half()
    refused("conflict", deployment.id, plane.workloads:deploy(web.id, lab.good({}, "third")))
    refused("invalid", "supersede is 'replac'", plane.workloads:deploy(web.id, lab.good({ supersede = "replac" }, "third")))
    refused("unsupported", "queue is not supported", plane.workloads:deploy(web.id, lab.good({ supersede = "queue" }, "third")))
    assert.equal(2, #assert(plane.workloads:list_releases(web.id)).items)
    local third = assert(plane.workloads:deploy(web.id, lab.good({ supersede = "replace" }, "third")))
    assert.equal("cancelled", rollouts.get(plane, deployment).state)
    assert.equal("succeeded", rollouts.settle(plane, third).state)
    assert.same({ 3, 3, 3, 3 }, (rollouts.versions(plane, web)))
  end)

  it("keeps the good one serving while it is superseded", function()
    local web = half()
    local third = assert(plane.workloads:deploy(web.id, lab.good({ supersede = "replace" }, "third")))
    for _ = 1, 100 do
      local _, ready = rollouts.versions(plane, web)
      assert.is_true(ready >= 4, "only " .. ready .. " ready")
      assert.is_true(#lab.instances(plane, web) <= 5)
      clock:advance "100ms"
    end
    rollouts.settle(plane, third)
  end)

  it("gives way to the last good release at once, without steps", function()
    local web, deployment = half()
    local back = assert(plane.workloads:rollback(web.id))
    assert.equal("initial", back.strategy)
    assert.equal("cancelled", rollouts.get(plane, deployment).state)
    local ended = rollouts.settle(plane, back)
    assert.equal("succeeded", ended.state)
    assert.same({ 1, 1, 1, 1 }, (rollouts.versions(plane, web)))
  end)

  it("gives way to the same spec as the last good release has, however it is asked for", function()
    local web, deployment = half()
    local back = assert(plane.workloads:deploy(web.id, { services = { { name = "app", env = {} } } }))
    assert.equal(web.current_release_id, back.release_id)
    assert.equal("cancelled", rollouts.get(plane, deployment).state)
    assert.equal("succeeded", rollouts.settle(plane, back).state)
    assert.same({ 1, 1, 1, 1 }, (rollouts.versions(plane, web)))
  end)

  it("is frozen with its workload, and goes on when that is resumed", function()
    local web, deployment = half()
    assert(plane.workloads:pause(web.id, { wait = "1m" }))
    assert.same({}, lab.instances(plane, web))
    local frozen = rollouts.get(plane, deployment)
    assert.equal("paused", frozen.state)
    assert.matches("the workload is paused", rollouts.reasons(plane, deployment), 1, true)
    refused("invalid_state", "resume that", plane.deployments:resume(deployment.id))
    refused("invalid_state", "paused", plane.workloads:deploy(web.id, lab.good()))
    clock:advance "2h"
    assert(plane.workloads:resume(web.id))
    assert.equal("running", rollouts.get(plane, deployment).state)
    clock:advance "1m"
    assert.same({ 1, 1, 2, 2 }, (rollouts.versions(plane, web)))
    assert.equal("succeeded", rollouts.settle(plane, deployment).state)
    assert.same({ 2, 2, 2, 2 }, (rollouts.versions(plane, web)))
  end)

  it("that is aborted while frozen goes back when its workload is resumed", function()
    local web, deployment = half()
    assert(plane.workloads:pause(web.id, { wait = "1m" }))
    assert(plane.deployments:abort(deployment.id))
    assert(plane.workloads:resume(web.id))
    assert.equal("rolled_back", rollouts.settle(plane, deployment).state)
    assert.same({ 1, 1, 1, 1 }, (rollouts.versions(plane, web)))
  end)

  it("ends with its workload", function()
    local web, deployment = half()
    assert(plane.workloads:delete(web.id, { wait = "1m" }))
    assert.equal("cancelled", rollouts.get(plane, deployment).state)
    assert.same({}, lab.instances(plane, web))
  end)

  it("is waited for until it is settled", function()
    local _, deployment = half()
    assert.equal("running", assert(plane.deployments:wait(deployment.id, { timeout = "1s" })).state)
    assert.equal("succeeded", assert(plane.deployments:wait(deployment.id, { timeout = "1h" })).state)
  end)

  it("tells what happened in events, in order", function()
    local web, deployment = half()
    rollouts.settle(plane, deployment)
    local types = {}
    for _, event in ipairs(lab.events(plane, { types = { "deploy.*" } })) do
      if event.deployment_id == deployment.id then
        types[#types + 1] = event.type
        assert.equal(web.id, event.workload_id)
      end
    end
    assert.equal("deploy.started", types[1])
    assert.equal("deploy.succeeded", types[#types])
  end)
end)
