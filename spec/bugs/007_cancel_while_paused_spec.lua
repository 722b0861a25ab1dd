-- A rollout that was cancelled or paused while its workload was paused forgot how many of each release there had been:
-- resume then brought back only the new one, however bad.
local lab = require "spec.support.lab"
local rollouts = require "spec.support.rollouts"

describe("a workload that was paused in the middle of a rollout", function()
  local plane, clock, web, deployment
  before_each(function()
    plane, clock = lab.open { seed = 5 }
    web = lab.workload(plane, { replicas = 4 })
    deployment = assert(plane.workloads:deploy(web.id, lab.never_ready { progress_deadline = "none" }))
    clock:advance "30s"
    assert.same({ old = 4, new = 1 }, lab.live(plane, web))
    assert(plane.workloads:pause(web.id, { wait = "1m" }))
    assert.same({}, lab.live(plane, web))
  end)
  after_each(function() lab.close(plane) end)

  local function resumed(replicas)
    if replicas then assert(plane.workloads:scale(web.id, { replicas = replicas })) end
    assert(plane.workloads:resume(web.id))
    clock:advance "1m"
    return lab.live(plane, web)
  end

  it("comes back as it was when the rollout was cancelled meanwhile", function()
    assert.equal("cancelled", assert(plane.deployments:cancel(deployment.id)).state)
    assert.same({ old = 4, new = 1 }, resumed())
  end)

  it("comes back as it was when the rollout was paused meanwhile, resumed, and paused again", function()
    assert(plane.deployments:pause(deployment.id))
    assert(plane.deployments:resume(deployment.id))
    assert(plane.deployments:pause(deployment.id))
    assert.same({ old = 8, new = 2 }, resumed(8))
    assert.equal("paused", rollouts.get(plane, deployment).state)
    assert(plane.deployments:abort(deployment.id, { wait = "1m" }))
    assert.same({ old = 8 }, lab.live(plane, web))
  end)

  it("goes on toward its goals when nobody touched the rollout", function()
    assert.same({ new = 4 }, resumed())
    assert(plane.deployments:abort(deployment.id, { wait = "1m" }))
  end)
end)
