-- The built-in strategies on the sim provider: they end, within their guards, at every size and for both kinds.
local lab = require "spec.support.lab"
local rollouts = require "spec.support.rollouts"

describe("strategy", function()
  local plane, clock
  before_each(function() plane, clock = lab.open { seed = 3 } end)
  after_each(function() lab.close(plane) end)

  --- Follows a deployment to its end: most live and least ready instances on the way.
  local function follow(web, deployment)
    local most, least = 0, math.huge
    local now
    for _ = 1, 3000 do
      local _, ready = rollouts.versions(plane, web)
      most, least = math.max(most, #lab.instances(plane, web)), math.min(least, ready)
      now = rollouts.get(plane, deployment)
      if rollouts.FINAL[now.state] then
        return now, most, least
      end
      assert.is_true(#assert(plane.deployments:why(deployment.id)).items > 0)
      clock:advance "200ms"
    end
    error("it does not end: " .. rollouts.reasons(plane, deployment))
  end

  it("initial brings up the first release, whatever strategy was asked for", function()
    local web = assert(plane.workloads:create { name = "web", replicas = 3, services = { { name = "app", image = "app" } }, strategy = "recreate" })
    local deployment = assert(plane.workloads:list_deployments(web.id)).items[1]
    assert.equal("initial", deployment.strategy)
    assert.is_nil(web.current_release_id)
    local ended = rollouts.settle(plane, deployment)
    assert.equal("succeeded", ended.state)
    assert.equal(100, ended.percent)
    assert.same({ app = "succeeded" }, ended.service_progress)
    web = assert(plane.workloads:get(web.id))
    assert.equal("active", web.state)
    assert.equal(deployment.release_id, web.current_release_id)
  end)

  it("rolling keeps N ready and at most N + 25% alive", function()
    local web = lab.workload(plane, { replicas = 8 })
    local deployment = assert(plane.workloads:deploy(web.id, lab.good()))
    assert.equal("rolling", deployment.strategy)
    local ended, most, least = follow(web, deployment)
    assert.equal("succeeded", ended.state)
    assert.equal(8, least)
    assert.equal(10, most)
    assert.same({ 2, 2, 2, 2, 2, 2, 2, 2 }, (rollouts.versions(plane, web)))
    assert.same({ "phase", "replace", "finish" }, rollouts.commands(plane, deployment))
  end)

  it("rolling in batches pauses between them", function()
    local web = lab.workload(plane, { replicas = 5 })
    local deployment = assert(plane.workloads:deploy(web.id, lab.good { params = { batch = 2, pause_between = "30s" } }))
    local started = clock:now()
    local ended = follow(web, deployment)
    assert.equal("succeeded", ended.state)
    assert.is_true(clock:now() - started >= 60, "no two pauses of 30 s")
    local shares = {}
    for _, command in ipairs(assert(plane.deployments:journal(deployment.id)).items) do
      if command.name == "replace" then
        shares[#shares + 1] = command.args.share
      end
    end
    assert.same({ 2, 4, 6 }, shares)
  end)

  it("rolling in shares ends at 100%", function()
    local web = lab.workload(plane, { replicas = 4 })
    local deployment = assert(plane.workloads:deploy(web.id, lab.good { params = { batch = "40%" } }))
    assert.equal("succeeded", follow(web, deployment).state)
    local shares = {}
    for _, command in ipairs(assert(plane.deployments:journal(deployment.id)).items) do
      shares[#shares + 1] = command.args.share
    end
    assert.same({ "40%", "80%", "100%" }, shares)
  end)

  it("recreate has none of the old ones when the first new one starts", function()
    local web = lab.workload(plane, { replicas = 4 })
    local deployment = assert(plane.workloads:deploy(web.id, lab.good { strategy = "recreate" }))
    for _ = 1, 100 do
      local versions = rollouts.versions(plane, web)
      assert.is_true(versions[1] == versions[#versions], "old and new at once")
      clock:advance "100ms"
    end
    assert.equal("succeeded", rollouts.settle(plane, deployment).state)
    assert.same({ 2, 2, 2, 2 }, (rollouts.versions(plane, web)))
  end)

  it("recreate of a stateful_set of several is refused with the reason", function()
    local web = lab.workload(plane, { replicas = 3, kind = "stateful_set" })
    local deployment, err = plane.workloads:deploy(web.id, lab.good { strategy = "recreate" })
    assert.is_nil(deployment)
    assert.equal("unsupported", err.code)
    assert.matches("one replica at a time", err.message, 1, true)
  end)

  it("rolling changes a stateful_set in place, one at a time, from the highest index", function()
    local web = lab.workload(plane, { replicas = 3, kind = "stateful_set" })
    local ids = {}
    for _, instance in ipairs(lab.instances(plane, web)) do
      ids[instance.replica_index] = instance.id
    end
    local deployment = assert(plane.workloads:deploy(web.id, lab.good()))
    local order, seen = {}, {}
    for _ = 1, 200 do
      for _, instance in ipairs(lab.instances(plane, web)) do
        if instance.release_id == deployment.release_id and not seen[instance.id] then
          seen[instance.id] = true
          order[#order + 1] = instance.replica_index
        end
      end
      local _, ready = rollouts.versions(plane, web)
      assert.is_true(ready >= 2)
      clock:advance "100ms"
    end
    assert.equal("succeeded", rollouts.get(plane, deployment).state)
    assert.same({ 2, 1, 0 }, order)
    for _, instance in ipairs(lab.instances(plane, web)) do
      assert.equal(ids[instance.replica_index], instance.id)
    end
  end)

  for _, kind in ipairs { "deployment", "stateful_set" } do
    it(("each ends at N = 1..20, or is refused when asked for (%s)"):format(kind), function()
      for n = 1, 20 do
        local web = lab.workload(plane, { name = "w" .. n, replicas = n, kind = kind })
        for i, options in ipairs {
          {}, { params = { batch = 3 } }, { params = { batch = "30%", pause_between = "1s" } }, { strategy = "recreate" },
        } do
          local deployment, err = plane.workloads:deploy(web.id, lab.good(options, "r" .. i))
          if deployment then
            local ended = rollouts.settle(plane, deployment, nil, 400)
            assert.equal("succeeded", ended.state, ("N = %d, %s %d: %s"):format(n, kind, i, tostring(ended.message)))
            assert.equal(n, #lab.instances(plane, web))
          else
            assert.same({ "unsupported", "stateful_set", "recreate" }, { err.code, kind, options.strategy })
          end
        end
        assert(plane.workloads:delete(web.id, { wait = "1m" }))
      end
    end)
  end

  it("names are looked up, also with a dash, and mistyped ones get the nearest", function()
    local web = lab.workload(plane)
    local deployment, err = plane.workloads:deploy(web.id, lab.good { strategy = "roling" })
    assert.is_nil(deployment)
    assert.equal("not_found", err.code)
    assert.equal("strategy", err.field)
    assert.equal("did you mean 'rolling'?", err.hint)
    local list = {}
    for _, item in ipairs(assert(plane.strategies:list()).items) do
      list[#list + 1] = item.name
      assert.is_true(#item.summary > 0)
    end
    assert.same({ "initial", "recreate", "rolling" }, list)
    assert.equal("share", assert(plane.strategies:get "rolling").params.batch.type)
  end)

  it("parameters are checked when the deploy is asked for, with the nearest name", function()
    local web = lab.workload(plane)
    for params, wanted in pairs {
      [{ bach = 1 }] = { "params.bach", "did you mean 'batch'?" },
      [{ batch = 0 }] = { "params.batch" },
      [{ pause_between = "soon" }] = { "params.pause_between" },
    } do
      local deployment, err = plane.workloads:deploy(web.id, lab.good { params = params })
      assert.is_nil(deployment)
      assert.same({ "invalid", wanted[1], wanted[2] }, { err.code, err.field, err.hint })
    end
    assert.equal(1, #assert(plane.workloads:list_releases(web.id)).items)
    assert.equal(1, #assert(plane.workloads:list_deployments(web.id)).items)
  end)

  it("a deploy of what every replica runs does nothing and says so", function()
    local web = lab.workload(plane, { replicas = 2 })
    local answer = assert(plane.workloads:deploy(web.id, { services = { { name = "app", image = "app" } } }))
    assert.is_true(answer.unchanged)
    assert.matches("nothing to do", answer.message, 1, true)
    assert.equal(1, #assert(plane.workloads:list_deployments(web.id)).items)
  end)

  it("scaling in the middle of a rollout needs nothing from it", function()
    local web = lab.workload(plane, { replicas = 4 })
    local deployment = assert(plane.workloads:deploy(web.id, lab.good { params = { batch = "25%", pause_between = "20s" } }))
    clock:advance "5s"
    assert(plane.workloads:scale(web.id, { replicas = 8 }))
    clock:advance "10s"
    local versions, ready = rollouts.versions(plane, web)
    assert.equal(8, ready)
    assert.same({ 1, 1, 1, 1, 1, 1, 2, 2 }, versions)
    assert.equal("succeeded", rollouts.settle(plane, deployment).state)
    assert.same({ 2, 2, 2, 2, 2, 2, 2, 2 }, (rollouts.versions(plane, web)))
  end)
end)
