-- As crash_spec, for what else can be asked for: the way back, other strategies, stateful sets, scaling, pausing,
-- restarting, deleting. The engine is killed at each pass in turn, and every run must end as the one without a crash.
-- ctest: timeout=600
local core = require "ctrlplane.core"
local crashes = require "spec.support.crashes"
local lab = require "spec.support.lab"

local function newest_is_second(plane, web) return #assert(plane.workloads:list_deployments(web.id)).items == 2 end

local function second_is_final(plane, web)
  return newest_is_second(plane, web) and crashes.FINAL[crashes.newest(plane, web).state]
end

local function get(plane, web) return assert(plane.workloads:get(web.id)) end

local function settled(plane, web)
  local now = get(plane, web)
  return now.state == "active" and now.ready_replicas == now.replica_count and #lab.instances(plane, web) == now.replica_count
end

--- A plan that deploys.
local function deploy(options, more)
  local plan = {
    replicas = 3,
    ask = function(plane, web) plane.workloads:deploy(web.id, options) end,
    taken = newest_is_second,
    done = second_is_final,
  }
  for key, value in pairs(more or {}) do
    plan[key] = value
  end
  return plan
end

describe("killed at every pass of", function()
  after_each(function() core.testing.failpoint(nil) end)

  it("a deploy whose replicas cannot start: it goes back by itself", function()
    local expected = crashes.each(deploy(lab.failing()))
    assert.equal("rolled_back", expected.deployments[1].state)
    assert.equal(3, expected.workload.ready)
    assert.equal(1, expected.workload.release)
  end)

  it("a deploy that is never ready: its deadline passes, and it goes back", function()
    local expected = crashes.each(deploy(lab.never_ready { progress_deadline = "20s" }))
    assert.equal("rolled_back", expected.deployments[1].state)
  end)

  it("a deploy that fails and may not go back", function()
    local expected = crashes.each(deploy(lab.failing { on_failure = "fail" }, {
      -- What is left of it is tried again for ever, with back-off: how often depends on when the run ends.
      timing = function(result)
        result.world, result.events = nil, nil
        for i = #result.instances, 1, -1 do
          if result.instances[i].release == 2 then
            table.remove(result.instances, i)
          end
        end
      end,
    }))
    assert.equal("failed", expected.deployments[1].state)
  end)

  it("a recreate", function()
    local expected = crashes.each(deploy(lab.good { strategy = "recreate" }, { ceiling = 3 }))
    assert.equal("succeeded", expected.deployments[1].state)
  end)

  it("a rolling deploy in batches with pauses", function()
    local options = lab.good { params = { batch = 1, pause_between = "5s" } }
    local expected = crashes.each(deploy(options))
    assert.equal("succeeded", expected.deployments[1].state)
    assert.is_true(#expected.deployments[1].journal >= 8)
  end)

  it("a rolling deploy of a stateful set", function()
    local expected = crashes.each(deploy(lab.good(), { kind = "stateful_set", ceiling = 3 }))
    assert.equal("succeeded", expected.deployments[1].state)
  end)

  it("scaling up and down", function()
    for _, replicas in ipairs { 5, 1 } do
      local expected = crashes.each {
        replicas = 3,
        ask = function(plane, web) plane.workloads:scale(web.id, { replicas = replicas }) end,
        taken = function(plane, web) return get(plane, web).replica_count == replicas end,
        done = settled,
      }
      assert.equal(replicas, expected.workload.ready)
    end
  end)

  it("pausing, and resuming", function()
    local expected = crashes.each {
      replicas = 3,
      ask = function(plane, web) plane.workloads:pause(web.id) end,
      taken = function(plane, web) return get(plane, web).state == "paused" end,
      done = function(plane, web) return #lab.instances(plane, web) == 0 end,
    }
    assert.equal(0, expected.world.live)
    assert.equal(3, expected.workload.previous_replicas)
    expected = crashes.each {
      replicas = 3,
      prepare = function(plane, web) assert(plane.workloads:pause(web.id, { wait = "1m" })) end,
      ask = function(plane, web) plane.workloads:resume(web.id) end,
      taken = function(plane, web) return get(plane, web).state ~= "paused" end,
      done = settled,
    }
    assert.equal(3, expected.workload.ready)
  end)

  it("restarting in place", function()
    local expected = crashes.each {
      replicas = 3,
      ask = function(plane, web) plane.workloads:restart(web.id) end,
      taken = function(plane) return lab.count_events(plane, "workload.restarted") > 0 end,
      done = function(plane, web)
        for _, instance in ipairs(lab.instances(plane, web)) do
          if instance.generation < 2 then
            return false
          end
        end
        return settled(plane, web)
      end,
    }
    assert.equal(3, expected.world.provision)
    assert.equal(2, expected.instances[1].generation)
  end)

  it("deleting", function()
    local expected = crashes.each {
      replicas = 3,
      ask = function(plane, web) plane.workloads:delete(web.id) end,
      taken = function(plane, web)
        local state = get(plane, web).state
        return state == "destroying" or state == "destroyed"
      end,
      done = function(plane, web) return get(plane, web).state == "destroyed" end,
    }
    assert.equal(0, expected.world.live)
  end)
end)
