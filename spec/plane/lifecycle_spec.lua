-- scale, pause, resume, restart, delete: what they keep and what they change, on the sim provider.
local lab = require "spec.support.lab"

local function by_index(plane, web)
  local ids, indices = {}, {}
  for _, instance in ipairs(lab.instances(plane, web)) do
    ids[instance.replica_index] = instance.id
    indices[#indices + 1] = instance.replica_index
  end
  return ids, indices
end

describe("a workload", function()
  local plane, clock, world

  before_each(function()
    plane, clock, world = lab.open { seed = 11 }
  end)
  after_each(function() lab.close(plane) end)

  local function event_types(filter)
    local types = {}
    for i, event in ipairs(lab.events(plane, filter)) do
      types[i] = event.type
    end
    return types
  end

  it("comes up with as many replicas as were asked for, and is active when all are ready", function()
    local web = assert(plane.workloads:create { name = "Web Shop", replicas = 3, services = { { name = "app", image = "app" } } })
    assert.equal("provisioning", web.state)
    assert.equal("web-shop", web.slug)
    assert.equal(3, web.replica_count)
    clock:advance "10s"
    web = assert(plane.workloads:get "web-shop")
    assert.equal("active", web.state)
    assert.equal(3, web.ready_replicas)
    local _, indices = by_index(plane, web)
    assert.same({ 0, 1, 2 }, indices)
    local release = assert(plane.releases:get(web.current_release_id))
    assert.equal(1, release.version)
    assert.is_true(release.active)
    for _, instance in ipairs(lab.instances(plane, web)) do
      assert.equal(("web-shop-%d-%s"):format(instance.replica_index, instance.id:sub(-5)), instance.name)
      assert.equal(web.id, instance.labels["ctrlplane.workload"])
      assert.equal(web.current_release_id, instance.labels["ctrlplane.release"])
      assert.equal("app", instance.services[1].name)
    end
  end)

  it("has one replica when nothing, zero or less is asked for", function()
    for i, replicas in ipairs { false, 0, -3 } do
      local web = lab.workload(plane, { name = "w" .. i, replicas = replicas or nil })
      assert.equal(1, web.replica_count)
      assert.equal(1, web.ready_replicas)
    end
  end)

  it("grows by free indices and shrinks from the highest, and what stays is not touched", function()
    local web = lab.workload(plane, { replicas = 3 })
    local three = by_index(plane, web)
    web = assert(plane.workloads:scale(web.id, { replicas = 5, wait = "1m" }))
    assert.equal("active", web.state)
    local five, indices = by_index(plane, web)
    assert.same({ 0, 1, 2, 3, 4 }, indices)
    for index, id in pairs(three) do
      assert.equal(id, five[index])
    end
    web = assert(plane.workloads:scale(web.id, { replicas = 2, wait = "1m" }))
    assert.equal(2, web.replica_count)
    local two, left = by_index(plane, web)
    assert.same({ 0, 1 }, left)
    assert.equal(three[0], two[0])
    assert.equal(three[1], two[1])
    assert.same({ "workload.scaled", "workload.scaled" }, event_types { types = { "workload.scaled" } })
    local first = lab.events(plane, { types = { "workload.scaled" } })[1]
    assert.same({ from = 3, to = 5 }, first.payload)
  end)

  it("fills the gap that a destroyed replica left", function()
    local web = lab.workload(plane, { replicas = 4 })
    local before = by_index(plane, web)
    lab.kill(plane, web)
    web = assert(plane.workloads:scale(web.id, { replicas = 3, wait = "1m" }))
    local after, indices = by_index(plane, web)
    assert.equal(3, #indices)
    assert.is_nil(after[0]) -- the one that was not ready went first
    web = assert(plane.workloads:scale(web.id, { replicas = 4, wait = "1m" }))
    after, indices = by_index(plane, web)
    assert.same({ 0, 1, 2, 3 }, indices)
    assert.not_equal(before[0], after[0])
    assert.equal(before[3], after[3])
  end)

  it("does nothing and says nothing when the count is what it is", function()
    local web = lab.workload(plane, { replicas = 2 })
    local seq = assert(plane.events:list { limit = 1 }).last_seq
    assert.equal("active", assert(plane.workloads:scale(web.id, { replicas = 2 })).state)
    assert.equal(seq, assert(plane.events:list { limit = 1 }).last_seq)
  end)

  it("is paused by a scale to zero, and resume brings back what there was", function()
    local web = lab.workload(plane, { replicas = 3 })
    web = assert(plane.workloads:scale(web.id, { replicas = 0, wait = "1m" }))
    assert.equal("paused", web.state)
    assert.equal(3, web.previous_replicas)
    assert.equal(0, web.replica_count)
    assert.is_string(web.paused_at)
    assert.same({}, lab.instances(plane, web))
    web = assert(plane.workloads:resume(web.id, { wait = "1m" }))
    assert.equal("active", web.state)
    assert.equal(3, web.replica_count)
    assert.is_nil(web.paused_at)
    assert.is_nil(web.previous_replicas)
    local _, indices = by_index(plane, web)
    assert.same({ 0, 1, 2 }, indices)
  end)

  it("keeps what the first of two pauses remembered", function()
    local web = lab.workload(plane, { replicas = 3 })
    assert(plane.workloads:pause(web.id, { wait = "1m" }))
    web = assert(plane.workloads:pause(web.id))
    assert.equal(3, web.previous_replicas)
    assert.equal(1, lab.count_events(plane, "workload.paused"))
  end)

  it("changes while paused what resume brings back", function()
    local web = lab.workload(plane, { replicas = 3 })
    assert(plane.workloads:pause(web.id, { wait = "1m" }))
    web = assert(plane.workloads:scale(web.id, { replicas = 2 }))
    assert.equal("paused", web.state)
    assert.same({}, lab.instances(plane, web))
    web = assert(plane.workloads:resume(web.id, { wait = "1m" }))
    assert.equal(2, web.ready_replicas)
  end)

  it("refuses to resume what is not paused", function()
    local web = lab.workload(plane)
    local ok, err = plane.workloads:resume(web.id)
    assert.is_nil(ok)
    assert.equal("invalid_state", err.code)
    assert.matches("workload web is active; resume needs paused", err.message)
  end)

  it("is restarted in place, one at a time, and keeps ids, indices, counts and its state", function()
    local web = lab.workload(plane, { replicas = 4 })
    local before = by_index(plane, web)
    assert(plane.workloads:restart(web.id))
    local least = 4
    for _ = 1, 300 do
      clock:advance "100ms"
      local now = assert(plane.workloads:get(web.id))
      assert.equal("active", now.state)
      least = math.min(least, now.ready_replicas)
    end
    assert.equal(3, least)
    local after, indices = by_index(plane, web)
    assert.same(before, after)
    assert.same({ 0, 1, 2, 3 }, indices)
    assert.equal(4, lab.count_events(plane, "instance.restarted"))
    for _, instance in ipairs(lab.instances(plane, web)) do
      assert.equal(2, instance.generation)
      assert.is_true(instance.ready)
    end
    assert.equal(4, world:counts().restart)
  end)

  it("is restarted several at a time when asked so", function()
    local web = lab.workload(plane, { replicas = 4 })
    assert(plane.workloads:restart(web.id, { parallel = 2 }))
    clock:advance "500ms"
    assert.equal(2, assert(plane.workloads:get(web.id)).ready_replicas)
    clock:advance "10s"
    assert.equal(4, lab.count_events(plane, "instance.restarted"))
  end)

  it("stops a restart at the first replica that it broke, and says so", function()
    local fragile = { { name = "app", image = "app", restart = "never", env = { SIM_READY_DELAY = "5s" } } }
    local web = lab.workload(plane, { replicas = 4, services = fragile })
    assert(plane.workloads:restart(web.id))
    clock:advance "2s"
    local broken
    for _, instance in ipairs(lab.instances(plane, web)) do
      broken = instance.generation == 2 and instance or broken
    end
    world:kill(broken.id)
    clock:advance "2m"
    local now = assert(plane.workloads:get(web.id))
    assert.equal("active", now.state)
    assert.matches("the restart stopped at " .. broken.name, now.message, 1, true)
    local old = 0
    for _, instance in ipairs(lab.instances(plane, web)) do
      old = old + (instance.generation == 1 and 1 or 0)
      assert.is_true(instance.ready) -- what broke was replaced all the same
    end
    assert.equal(3, old)
    assert(plane.workloads:restart(web.id, { wait = "2m" }))
    for _, instance in ipairs(lab.instances(plane, web)) do
      assert.equal(3, instance.generation)
    end
    assert.is_nil((assert(plane.workloads:get(web.id)).message))
  end)

  it("can be restarted again and again", function()
    local web = lab.workload(plane, { replicas = 2 })
    for generation = 2, 4 do
      assert(plane.workloads:restart(web.id, { wait = "1m" }))
      for _, instance in ipairs(lab.instances(plane, web)) do
        assert.equal(generation, instance.generation)
      end
    end
    assert.equal(6, world:counts().restart)
  end)

  -- The fewest ready ones while `check` does not hold, looked at often.
  local function fewest(web, check)
    local least = math.huge
    for _ = 1, 20000 do
      local w = assert(plane.workloads:get(web.id))
      least = math.min(least, w.ready_replicas)
      if check(w) then return least end
      clock:advance "20ms"
    end
    error "it did not end"
  end

  local function all_at(web, generation)
    return function(w)
      local at = 0
      for _, instance in ipairs(lab.instances(plane, web)) do
        at = at + ((instance.generation == generation and instance.ready) and 1 or 0)
      end
      return at == w.replica_count
    end
  end

  it("is restarted one by one: right after a rollout, again while that is under way, and while it grows", function()
    local web = lab.workload(plane, { replicas = 6, env = { SIM_READY_DELAY = "2s" } })
    local options = { wait = "10m", min_ready = "3s" }
    assert.equal("succeeded", assert(plane.workloads:deploy(web.id, lab.release({ SIM_READY_DELAY = "1s" }, options))).state)
    assert(plane.workloads:restart(web.id))
    clock:advance "2500ms"
    assert(plane.workloads:restart(web.id))
    assert.equal(5, fewest(web, all_at(web, 3)))
    assert(plane.workloads:scale(web.id, { replicas = 9 }))
    assert(plane.workloads:restart(web.id))
    assert.equal(6, fewest(web, all_at(web, 4)))
  end)

  it("is restarted no further while a replica that crashed on its own is down", function()
    local web = lab.workload(plane, { replicas = 4, services = { { name = "app", image = "app", restart = "never",
      env = { SIM_READY_DELAY = "5s" } } } })
    lab.kill(plane, web) -- it gives up, and is replaced
    clock:advance "100ms"
    assert(plane.workloads:restart(web.id))
    assert.equal(3, fewest(web, all_at(web, 2)))
  end)

  it("is scaled when the numbers are there, though a rollout goes on", function()
    local web = lab.workload(plane, { replicas = 3, env = { SIM_READY_DELAY = "2s" } })
    local source = "return { run = function(rollout) rollout:replace '50%' rollout:bake '10m' end }"
    local deployment = assert(plane.workloads:deploy(web.id, lab.good { strategy = "mine.lua", source = source }))
    clock:advance "1m"
    for _, replicas in ipairs { 6, 2 } do
      local scaled = assert(plane.workloads:scale(web.id, { replicas = replicas, wait = "1m" }))
      assert.same({ "deploying", replicas, replicas }, { scaled.state, scaled.ready_replicas, scaled.replica_count })
      assert.equal("running", assert(plane.deployments:get(deployment.id)).state)
    end
  end)

  it("has services with an exit code once they exited", function()
    local web = lab.workload(plane)
    assert.is_nil(lab.instances(plane, web)[1].service_status[1].exit_code)
    lab.kill(plane, web)
    lab.advance_until(plane, "a restart", function() return lab.instances(plane, web)[1].restarts == 1 end, 5)
    assert.equal(1, lab.instances(plane, web)[1].service_status[1].exit_code)
  end)

  it("is not restarted while it is paused", function()
    local web = lab.workload(plane)
    assert(plane.workloads:pause(web.id, { wait = "1m" }))
    local ok, err = plane.workloads:restart(web.id)
    assert.is_nil(ok)
    assert.equal("invalid_state", err.code)
    assert.matches("workload web is paused; restart needs", err.message)
  end)

  it("is gone when its last replica is, keeps its history, and its slug is free", function()
    local web = lab.workload(plane, { replicas = 3 })
    local gone = assert(plane.workloads:delete(web.id, { wait = "1m" }))
    assert.equal("destroyed", gone.state)
    assert.equal(0, world:counts().live)
    assert.equal(1, lab.count_events(plane, "workload.deleted"))
    assert.equal(3, lab.count_events(plane, "instance.deleted"))
    assert.equal("destroyed", assert(plane.workloads:get(web.id)).state)
    local _, err = plane.workloads:get "web"
    assert.equal("not_found", err.code)
    assert.same({}, assert(plane.workloads:list()).items)
    assert.equal(1, #assert(plane.workloads:list { state = "destroyed" }).items)
    assert.equal("destroyed", assert(plane.workloads:delete(web.id)).state) -- asked again: it is done
    local another = lab.workload(plane)
    assert.equal("web", another.slug)
    assert.not_equal(web.id, another.id)
  end)

  it("refuses everything else while it is being deleted", function()
    local web = lab.workload(plane, { replicas = 2 })
    world:outage(true)
    assert.equal("destroying", assert(plane.workloads:delete(web.id)).state)
    for _, act in ipairs { "pause", "restart" } do
      local _, err = plane.workloads[act](plane.workloads, web.id)
      assert.equal("invalid_state", err.code, act)
      assert.matches("workload web is destroying", err.message)
    end
    local _, err = plane.workloads:scale(web.id, { replicas = 3 })
    assert.equal("invalid_state", err.code)
    _, err = plane.workloads:deploy(web.id, lab.good())
    assert.equal("invalid_state", err.code)
    world:outage(false)
    clock:advance "2m"
    assert.equal("destroyed", assert(plane.workloads:get(web.id)).state)
  end)

  it("waits at most as long as it was told, and says what is so far", function()
    local web = lab.workload(plane, { replicas = 1 })
    world:outage(true)
    local now = assert(plane.workloads:scale(web.id, { replicas = 2, wait = "5s" }))
    assert.equal("scaling", now.state)
    assert.equal(1, now.ready_replicas)
    world:outage(false)
    clock:advance "2m"
    assert.equal(2, assert(plane.workloads:get(web.id)).ready_replicas)
  end)
end)

describe("a stateful set", function()
  local plane, clock, world

  before_each(function()
    plane, clock, world = lab.open { seed = 12 }
  end)
  after_each(function() lab.close(plane) end)

  it("is updated in place: same ids, same indices, one at a time", function()
    local db = lab.workload(plane, { name = "db", kind = "stateful_set", replicas = 3 })
    local before = by_index(plane, db)
    local deployment = assert(plane.workloads:deploy(db.id, lab.good()))
    local least = 3
    for _ = 1, 300 do
      clock:advance "100ms"
      least = math.min(least, assert(plane.workloads:get(db.id)).ready_replicas)
    end
    assert.equal("succeeded", assert(plane.deployments:get(deployment.id)).state)
    assert.equal(2, least)
    local after, indices = by_index(plane, db)
    assert.same(before, after)
    assert.same({ 0, 1, 2 }, indices)
    assert.equal(3, world:counts().update)
    assert.equal(3, world:counts().provision)
    for _, instance in ipairs(lab.instances(plane, db)) do
      assert.equal(deployment.release_id, instance.release_id)
    end
    assert(plane.workloads:restart(db.id, { wait = "1m" })) -- an update raised generations: a restart is above them
    assert.equal(3, world:counts().restart)
  end)

  it("loses its highest index first, whatever its state", function()
    local db = lab.workload(plane, { name = "db", kind = "stateful_set", replicas = 3 })
    lab.kill(plane, db)
    assert(plane.workloads:scale(db.id, { replicas = 2, wait = "1m" }))
    local _, indices = by_index(plane, db)
    assert.same({ 0, 1 }, indices)
  end)
end)

describe("a count that may not be", function()
  local plane

  setup(function() plane = lab.open {} end)
  teardown(function() lab.close(plane) end)

  it("is refused with its value and the bounds, and changes nothing", function()
    local web = lab.workload(plane, { replicas = 2 })
    local seq = assert(plane.events:list { limit = 1 }).last_seq
    for _, replicas in ipairs { -1, 10001 } do
      local _, err = plane.workloads:scale(web.id, { replicas = replicas })
      assert.equal("invalid", err.code)
      assert.equal("replicas", err.field)
      assert.matches(tostring(replicas), err.message, 1, true)
    end
    assert.equal(2, assert(plane.workloads:get(web.id)).replica_count)
    assert.equal(seq, assert(plane.events:list { limit = 1 }).last_seq)
  end)

  it("is refused for a fixed host port, which one replica only can have", function()
    local fixed = { { name = "app", image = "app", ports = { { name = "http", container = 80, host = 8080 } } } }
    local _, err = plane.workloads:create { name = "fixed", replicas = 2, services = fixed }
    assert.equal("invalid", err.code)
    assert.equal("replicas", err.field)
    local one = lab.workload(plane, { name = "fixed", services = fixed })
    _, err = plane.workloads:scale(one.id, { replicas = 2 })
    assert.equal("invalid", err.code)
  end)
end)
