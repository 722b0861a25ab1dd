-- A script that failed by `rollout:fail` while somebody had paused its rollout took it back all the same.
local lab = require "spec.support.lab"
local rollouts = require "spec.support.rollouts"

describe("a paused rollout", function()
  local plane, clock
  before_each(function() plane, clock = lab.open { seed = 5 } end)
  after_each(function() lab.close(plane) end)

  it("stays paused when its script, which was between two commands, fails", function()
    local web = lab.workload(plane, { replicas = 2 })
    local long = "local n = 0\nfor i = 1, 8e6 do n = n + i end\n" -- many turns of the loop
    local deployment = assert(rollouts.deploy(plane, web, long .. "rollout:fail 'bad'"))
    assert.equal("paused", assert(plane.deployments:pause(deployment.id)).state)
    clock:advance "1m"
    local now = rollouts.get(plane, deployment)
    assert.same({ "paused", "deployment_failed" }, { now.state, now.error and now.error.code })
    assert.matches("bad", now.message, 1, true)
    local _, err = plane.deployments:resume(deployment.id) -- the script has ended
    assert.equal("invalid_state", err.code)
    local again = assert(plane.deployments:retry(deployment.id))
    assert.not_equal(deployment.id, again.id)
    assert(plane.deployments:abort(again.id, { wait = "1m" }))
  end)
end)
