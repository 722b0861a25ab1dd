-- An instance that gave up is replaced in the pass that sees it, before the bake looked: nobody counted it.
local lab = require "spec.support.lab"
local rollouts = require "spec.support.rollouts"

describe("a bake", function()
  local plane, clock, world
  before_each(function() plane, clock, world = lab.open { seed = 5 } end)
  after_each(function() lab.close(plane) end)

  local function bake(options)
    local services = { { name = "app", image = "app", restart = "never" } }
    local web = lab.workload(plane, { replicas = 3, services = services })
    local body = ("rollout:replace '100%%'\nrollout:bake('5m', { max_unhealthy = %d })"):format(options)
    local deployment = assert(rollouts.deploy(plane, web, body, { max_failures = 5, on_failure = "fail" }))
    clock:advance "1m"
    assert.is_table(rollouts.row(plane, deployment, "bake"))
    assert(world:kill(lab.instances(plane, web)[1].id))
    return rollouts.settle(plane, deployment)
  end

  it("fails when an instance gives up", function()
    local ended = bake(0)
    assert.same({ "failed", "health_check_failed" }, { ended.state, ended.error.code })
    assert.matches("1 of the new instances are unhealthy; the bake allows 0: web%-0%-%w+ failed: gave up", ended.message)
  end)

  it("allows as many as it was told", function() assert.equal("succeeded", bake(1).state) end)
end)
