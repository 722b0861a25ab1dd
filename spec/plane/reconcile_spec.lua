-- The world is brought to the goals: adoption, retries, outages, replicas that crash or give up.
local core = require "ctrlplane.core"
local house = require "spec.support.house"
local lab = require "spec.support.lab"

local function one(plane, web)
  local all = lab.instances(plane, web)
  assert(#all == 1, #all .. " instances")
  return all[1]
end

describe("a replica", function()
  local plane, clock, world

  local function open(options)
    plane, clock, world = lab.open(options or { seed = 5 })
  end
  after_each(function() lab.close(plane) end)

  it("that crashed is started again by its runtime: same instance, running, not ready, with a message", function()
    open()
    local web = lab.workload(plane, { replicas = 2 })
    local id = lab.kill(plane, web)[1]
    clock:advance "100ms"
    local crashed = assert(plane.instances:get(id))
    assert.equal("running", crashed.state)
    assert.is_false(crashed.ready)
    assert.is_true(#(crashed.message or "") > 0)
    assert.equal("active", assert(plane.workloads:get(web.id)).state) -- active is what was reached, ready is what is
    assert.equal(1, assert(plane.workloads:get(web.id)).ready_replicas)
    clock:advance "10s"
    local again = assert(plane.instances:get(id))
    assert.is_true(again.ready)
    assert.equal(1, again.restarts)
  end)

  it("that gave up is replaced under a new id and the same index", function()
    open()
    local web = lab.workload(plane, { replicas = 2, services = { { name = "app", image = "app", restart = "never" } } })
    local id = lab.kill(plane, web)[1]
    clock:advance "20s"
    local old = assert(plane.instances:get(id))
    assert.equal("destroyed", old.state)
    local now = lab.instances(plane, web)
    assert.equal(2, #now)
    assert.equal(old.replica_index, now[1].replica_index)
    assert.not_equal(id, now[1].id)
    assert.is_true(now[1].ready)
    assert.equal(1, lab.count_events(plane, "instance.failed"))
  end)

  it("that can never run is tried less and less often", function()
    open()
    local web = lab.workload(plane, { replicas = 1, services = { { name = "app", image = "app", restart = "never" } } })
    local made = world:counts().provision
    for _ = 1, 60 do -- each replica is killed as soon as it runs
      local instance = lab.instances(plane, web)[1]
      if instance and instance.state == "running" then
        world:kill(instance.id)
      end
      clock:advance "1s"
    end
    local tries = world:counts().provision - made
    assert.is_true(tries >= 2 and tries <= 12, tries .. " tries in a minute")
  end)

  it("whose operation fails is tried five times, with back-off, and then it is failed", function()
    open()
    local web = lab.workload(plane, { replicas = 1, settle = false, env = { SIM_FAIL_PROVISION = "1" } })
    clock:advance "500ms"
    local instance = one(plane, web)
    assert.equal("provisioning", instance.state)
    assert.matches("SIM_FAIL_PROVISION", instance.message)
    assert.matches("try 1 of 5", instance.message)
    clock:advance "40s"
    local failed = lab.events(plane, { types = { "instance.failed" } })[1]
    assert.matches("try 5 of 5", failed.payload.message)
    assert.equal(instance.id, failed.instance_id)
    assert.equal("failed", assert(plane.workloads:get(web.id)).state)
  end)

  it("is never failed by an outage, however long, and goes on by itself when it is over", function()
    open()
    world:outage(true)
    local web = lab.workload(plane, { replicas = 3, settle = false, progress_deadline = "none" })
    clock:advance "2h"
    assert.equal(0, lab.count_events(plane, "instance.failed"))
    local now = assert(plane.workloads:get(web.id))
    assert.equal("provisioning", now.state)
    for _, instance in ipairs(lab.instances(plane, web)) do
      assert.equal("provisioning", instance.state)
      assert.matches("outage of sim", instance.message)
    end
    world:outage(false)
    clock:advance "90s"
    assert.equal("active", assert(plane.workloads:get(web.id)).state)
    assert.equal(3, world:counts().provision)
  end)

  it("that vanished is made again under its id", function()
    open()
    local web = lab.workload(plane, { replicas = 1 })
    local before = one(plane, web)
    world:reboot()
    clock:advance "2m"
    local after = one(plane, web)
    assert.equal(before.id, after.id)
    assert.is_true(after.ready)
    assert.equal(0, lab.count_events(plane, "instance.failed"))
  end)
end)

describe("a provider", function()
  it("is asked for no more operations at a time than it may have, each workload its share, stops first", function()
    local plane, clock, world = lab.open { seed = 2, scenario = { latency = "1s" } }
    local many = lab.workload(plane, { name = "many", replicas = 200, settle = false })
    local few = lab.workload(plane, { name = "few", replicas = 2, settle = false })
    clock:advance "500ms"
    assert.equal(64, plane:stats().operations_in_flight)
    clock:advance "3s" -- `few` is not behind all of `many`
    assert.equal(2, #lab.instances(plane, few))
    for _, instance in ipairs(lab.instances(plane, few)) do
      assert.not_equal("provisioning", instance.state)
    end
    clock:advance "1m"
    assert(plane.workloads:scale(many.id, { replicas = 300 }))
    clock:advance "100ms"
    assert(plane.workloads:pause(few.id))
    clock:advance "2100ms" -- behind what was in flight, before everything that waited
    assert.same({}, lab.instances(plane, few))
    assert.is_true(#lab.instances(plane, many) > 200)
    clock:advance "1m"
    assert.equal(300, world:counts().live)
    lab.close(plane)
  end)
end)

describe("a provider that fails half of what it is asked", function()
  it("gets everything done in the end, and nothing twice", function()
    local plane, clock, world = lab.open { seed = 21, scenario = { error_rate = 0.5, jitter = 0.5 } }
    local web = lab.workload(plane, { replicas = 10, settle = false, max_failures = 1000 })
    clock:advance "10m"
    assert.equal(10, assert(plane.workloads:get(web.id)).ready_replicas)
    assert(plane.workloads:scale(web.id, { replicas = 4 }))
    clock:advance "10m"
    assert.equal(4, world:counts().live)
    assert(plane.workloads:restart(web.id, { parallel = 4 }))
    clock:advance "10m"
    assert(plane.workloads:delete(web.id))
    clock:advance "20m"
    assert.equal("destroyed", assert(plane.workloads:get(web.id)).state)
    assert.equal(0, world:counts().live)
    lab.close(plane)
  end)
end)

describe("an engine that starts again", function()
  local folder, plane, clock, world

  before_each(function()
    folder = house.folder()
    plane, clock, world = lab.open { seed = 9, store = folder .. "/plane.db" }
  end)
  after_each(function()
    core.testing.failpoint(nil)
    lab.close(plane)
    house.remove(folder)
  end)

  it("adopts what runs and touches none of it", function()
    local web = lab.workload(plane, { replicas = 3 })
    local before, counts = lab.instances(plane, web), world:counts()
    plane, clock = lab.crash(plane, "1h")
    clock:advance "1m"
    local after = lab.instances(plane, web)
    for i, instance in ipairs(before) do
      assert.equal(instance.id, after[i].id)
      assert.is_true(after[i].ready)
      assert.equal(0, after[i].restarts)
    end
    for _, what in ipairs { "provision", "start", "stop", "restart", "deprovision", "repeated" } do
      assert.equal(counts[what], world:counts()[what], what)
    end
    assert.equal("active", assert(plane.workloads:get(web.id)).state)
  end)

  it("finds what was made and not recorded, and makes it no second time", function()
    local effects = 0
    core.testing.failpoint(function(name)
      effects = effects + (name == "effect_done" and 1 or 0)
      return name == "effect_done" and effects == 2
    end)
    local web
    plane:spawn(function() web = lab.workload(plane, { replicas = 3 }) end)
    clock:advance "5s"
    assert.is_true(core.testing.plane.crashed(plane))
    core.testing.failpoint(nil)
    plane, clock = lab.crash(plane, "10s")
    clock:advance "1m"
    web = assert(plane.workloads:get "web")
    assert.equal("active", web.state)
    assert.equal(3, world:counts().live)
    assert.equal(3, world:counts().peak_live)
  end)

  it("replaces what was lost while it was away", function()
    local web = lab.workload(plane, { replicas = 3 })
    local instance = lab.instances(plane, web)[2]
    core.testing.plane.kill(plane)
    world:kill(instance.id)
    plane, clock = lab.crash(plane, "1m")
    clock:advance "1m"
    local now = assert(plane.instances:get(instance.id))
    assert.is_true(now.ready)
    assert.equal(1, now.restarts) -- its runtime did that
    assert.equal(3, assert(plane.workloads:get(web.id)).ready_replicas)
  end)

  it("finishes a restart where it was, and restarts nobody twice", function()
    local web = lab.workload(plane, { replicas = 4 })
    assert(plane.workloads:restart(web.id))
    clock:advance "3s"
    plane, clock = lab.crash(plane, "10s")
    clock:advance "1m"
    assert.equal(4, world:counts().restart)
    for _, instance in ipairs(lab.instances(plane, web)) do
      assert.equal(2, instance.generation)
      assert.is_true(instance.ready)
    end
  end)

  it("finishes a delete, a pause and a scale", function()
    local gone = lab.workload(plane, { name = "gone", replicas = 2 })
    local asleep = lab.workload(plane, { name = "asleep", replicas = 2 })
    local grown = lab.workload(plane, { name = "grown", replicas = 2 })
    assert(plane.workloads:delete(gone.id))
    assert(plane.workloads:pause(asleep.id))
    assert(plane.workloads:scale(grown.id, { replicas = 3 }))
    plane, clock = lab.crash(plane)
    clock:advance "1m"
    assert.equal("destroyed", assert(plane.workloads:get(gone.id)).state)
    assert.equal("paused", assert(plane.workloads:get(asleep.id)).state)
    assert.equal("active", assert(plane.workloads:get(grown.id)).state)
    assert.equal(3, world:counts().live)
  end)

  it("reports what it does not know, once, and leaves it alone", function()
    local web = lab.workload(plane, { replicas = 1 })
    world:operate("provision", {
      id = "inst_01kdvdna00efzvdpd5rfj57f4h",
      workload = "stranger",
      plane = lab.instances(plane, web)[1].labels["ctrlplane.plane"],
    })
    clock:advance "5m"
    local orphans = lab.events(plane, { types = { "instance.orphaned" } })
    assert.equal(1, #orphans)
    assert.equal("inst_01kdvdna00efzvdpd5rfj57f4h", orphans[1].payload.instance_id)
    assert.equal(2, world:counts().live)
  end)
end)
