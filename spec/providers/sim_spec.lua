-- The simulated runtime as a provider, on the virtual clock, without a plane.
local sim = require("ctrlplane.core").testing.sim

local function service(env, more)
  local spec = { name = "app", image = "app", env = env, ports = { { name = "http", container = 8080 } } }
  for key, value in pairs(more or {}) do
    spec[key] = value
  end
  return { spec }
end

describe("the sim provider", function()
  local world

  local function open(scenario, seed)
    world = assert(sim.open { scenario = scenario, seed = seed or 1 })
    return world
  end

  local function provision(id, more)
    local spec = { id = id, services = service() }
    for key, value in pairs(more or {}) do
      spec[key] = value
    end
    return assert(world:operate("provision", spec))
  end

  after_each(function()
    if world then
      world:close()
      world = nil
    end
  end)

  it("answers after its latency, and the instance gets ready after its start delay", function()
    open()
    local op = provision "i1"
    world:advance "49ms"
    assert.equal("pending", world:answer(op))
    assert.equal("absent", world:status("i1").seen)
    world:advance "1ms"
    assert.is_true(world:answer(op))
    local seen = world:status "i1"
    assert.equal("starting", seen.seen)
    assert.is_falsy(seen.services[1].ready)
    world:advance "1s"
    seen = world:status "i1"
    assert.equal("running", seen.seen)
    assert.is_true(seen.services[1].ready)
    assert.equal("running", seen.services[1].state)
    assert.equal(8080, seen.endpoints[1].port)
    assert.equal(1, seen.generation)
    assert.equal("r1", seen.release_id)
  end)

  it("does nothing again when it is asked again with the same generation", function()
    open()
    provision "i1"
    world:advance "2s"
    local op = provision "i1"
    world:advance "1s"
    assert.is_true(world:answer(op))
    local counts = world:counts()
    assert.equal(1, counts.provision)
    assert.equal(1, counts.repeated)
    assert.equal(0, counts.twins)
    assert.equal("running", world:status("i1").seen)
  end)

  it("restarts in place to a generation, once", function()
    open()
    provision "i1"
    world:advance "2s"
    world:operate("restart", { id = "i1", generation = 2 })
    world:advance "100ms"
    assert.equal("starting", world:status("i1").seen)
    assert.equal(2, world:status("i1").generation)
    world:advance "2s"
    world:operate("restart", { id = "i1", generation = 2 })
    world:advance "100ms"
    assert.equal("running", world:status("i1").seen)
    assert.equal(1, world:counts().restart)
  end)

  it("updates in place to another release under the same id", function()
    open()
    provision "i1"
    world:advance "2s"
    world:operate("update", { id = "i1", release = "r2", generation = 2 })
    world:advance "2s"
    local seen = world:status "i1"
    assert.equal("r2", seen.release_id)
    assert.is_true(seen.services[1].ready)
    assert.equal(1, world:counts().live)
  end)

  it("stops, starts and removes", function()
    open()
    provision "i1"
    world:advance "2s"
    world:operate("stop", { id = "i1" })
    world:advance "1s"
    assert.equal("stopped", world:status("i1").seen)
    world:operate("start", { id = "i1" })
    world:advance "2s"
    assert.equal("running", world:status("i1").seen)
    world:operate("deprovision", { id = "i1" })
    world:advance "1s"
    assert.equal("absent", world:status("i1").seen)
    local again = world:operate("deprovision", { id = "i1" })
    world:advance "1s"
    assert.is_true(world:answer(again))
    assert.equal(1, world:counts().deprovision)
  end)

  it("says which instance it does not have", function()
    open()
    local op = world:operate("restart", { id = "nobody" })
    world:advance "1s"
    local ok, err = world:answer(op)
    assert.is_nil(ok)
    assert.equal("provider_failed", err.code)
    assert.equal("restart: there is no instance nobody", err.message)
  end)

  it("carries out a cancelled operation and tells nobody, as a real runtime would", function()
    open()
    local op = provision "i1"
    world:cancel(op)
    world:advance "2s"
    assert.equal("pending", world:answer(op))
    assert.equal("running", world:status("i1").seen)
  end)

  it("carries out operations on one instance in the order of their calls, whatever their latency", function()
    open({ jitter = 1, latency = "1s" }, 3)
    for round = 1, 20 do
      provision("i" .. round, { index = round })
      world:operate("deprovision", { id = "i" .. round, index = round })
    end
    world:advance "10s"
    assert.equal(0, world:counts().live)
    assert.equal(20, world:counts().deprovision)
  end)

  it("takes the behaviour of a release from the environment of its main service", function()
    open()
    provision("slow", { release = "r1", index = 0, services = service { SIM_START_DELAY = "3s", SIM_READY_DELAY = "2s" } })
    provision("never", { release = "r2", index = 0, services = service { SIM_NEVER_READY = "1" } })
    provision("broken", { release = "r3", index = 0, services = service { SIM_FAIL_START = "1" } })
    local refused = provision("refused", { release = "r4", index = 0, services = service { SIM_FAIL_PROVISION = "1" } })
    world:advance "3s"
    assert.equal("starting", world:status("slow").seen)
    assert.equal("running", world:status("never").seen)
    assert.equal("failed", world:status("broken").seen)
    assert.equal("gave up", world:status("broken").message)
    local ok, err = world:answer(refused)
    assert.is_nil(ok)
    assert.equal("provider_failed", err.code)
    world:advance "1h"
    assert.is_true(world:status("slow").services[1].ready)
    assert.is_falsy(world:status("never").services[1].ready)
  end)

  it("refuses a marker that is no duration, naming it", function()
    open()
    local op, err = world:operate("provision", { id = "i1", services = service { SIM_START_DELAY = "soon" } })
    assert.is_nil(op)
    assert.equal("provider_failed", err.code)
    assert.matches("SIM_START_DELAY", err.message)
    assert.matches("app", err.message)
  end)

  it("restarts a crashed service in place with a growing back-off", function()
    open()
    provision("i1", { services = service { SIM_CRASH_AFTER = "5s" } })
    world:advance "1050ms"
    assert.equal("running", world:status("i1").seen)
    world:advance "5s"
    local seen = world:status "i1"
    assert.equal("starting", seen.seen)
    assert.equal("backoff", seen.services[1].state)
    assert.equal(1, seen.services[1].exit_code)
    assert.equal(1, seen.restarts)
    world:advance "1s" -- the first back-off
    assert.equal("running", world:status("i1").seen)
    world:advance "6s" -- the second one takes 2 s
    assert.equal("backoff", world:status("i1").services[1].state)
    world:advance "1s"
    assert.equal("running", world:status("i1").seen)
  end)

  it("gives up at a crash when the restart policy is never", function()
    open()
    provision("i1", { services = service({ SIM_CRASH_AFTER = "5s" }, { restart = "never" }) })
    world:advance "7s"
    assert.equal("failed", world:status("i1").seen)
    world:advance "1h"
    assert.equal("failed", world:status("i1").seen)
  end)

  it("lets a spec kill a service, and comes back by itself", function()
    open()
    provision "i1"
    world:advance "2s"
    assert(world:kill "i1")
    assert.is_falsy(world:status("i1").services[1].ready)
    local ok, err = world:kill "i1"
    assert.is_nil(ok)
    assert.equal("instance i1 is backoff; only one that runs can be killed", err.message)
    world:advance "1s"
    assert.is_true(world:status("i1").services[1].ready)
    assert.equal("not_found", select(2, world:kill "i2").code)
  end)

  it("loses everything at a reboot until it is started again", function()
    open()
    provision "i1"
    world:advance "2s"
    world:reboot()
    assert.equal("lost", world:status("i1").seen)
    world:operate("start", { id = "i1" })
    world:advance "2s"
    assert.equal("running", world:status("i1").seen)
  end)

  it("stops failing when a spec wants calm", function()
    open { error_rate = 1 }
    local refused = provision "i0"
    world:advance "1s"
    assert.equal("provider_failed", select(2, world:answer(refused)).code)
    world:calm()
    provision("never", { index = 1 })
    world:advance "2s"
    assert.is_true(world:status("never").services[1].ready)
    world:close()
    open()
    provision("never", { release = "r1", index = 0, services = service { SIM_NEVER_READY = "1" } })
    provision("crash", { release = "r2", index = 0, services = service { SIM_CRASH_AFTER = "1s" } })
    provision("broken", { release = "r3", index = 0, services = service { SIM_FAIL_START = "1" } })
    world:advance "1500ms"
    world:calm()
    world:operate("start", { id = "broken", release = "r3" })
    world:advance "5s"
    for _, id in ipairs { "never", "crash", "broken" } do
      assert.is_true(world:status(id).services[1].ready, id)
      assert.equal(0, world:status(id).restarts, id)
    end
  end)

  it("hints at every change, and at everything when an outage ends", function()
    open { outages = { { from = "10s", ["for"] = "5s" } } }
    world:watch(true)
    provision "i1"
    world:advance "5s"
    assert.same({ "i1", "i1" }, world:hints()) -- starting, ready
    world:advance "6s"
    world:kill "i1"
    assert.same({}, world:hints())
    world:advance "5s"
    assert.same({ "all" }, world:hints())
    world:watch(false)
    world:kill "i1"
    assert.same({}, world:hints())
  end)

  it("answers nothing but provider_unavailable in an outage, while what runs goes on", function()
    open()
    provision "i1"
    world:advance "2s"
    world:outage(true)
    local op = world:operate("restart", { id = "i1", generation = 2 })
    world:advance "1m"
    local _, err = world:answer(op)
    assert.equal("provider_unavailable", err.code)
    _, err = world:status "i1"
    assert.equal("provider_unavailable", err.code)
    _, err = world:list()
    assert.equal("provider_unavailable", err.code)
    world:outage(false)
    local seen = world:status "i1"
    assert.equal("running", seen.seen)
    assert.equal(1, seen.generation)
  end)

  it("may have done what an outage let nobody know of", function()
    open({ latency = "1s" }, 5)
    for index = 1, 40 do
      provision("i" .. index, { index = index })
    end
    world:outage(true)
    world:advance "2s"
    for op = 1, 40 do
      assert.equal("provider_unavailable", select(2, world:answer(op)).code)
    end
    local live = world:counts().live
    assert.is_true(live > 5 and live < 35, live .. " of 40 were made")
  end)

  it("fails operations at the scenario's rate, and changes nothing then", function()
    open({ error_rate = 0.5 }, 9)
    for index = 1, 200 do
      provision("i" .. index, { index = index })
    end
    world:advance "1s"
    local failed = 0
    for op = 1, 200 do
      local ok, err = world:answer(op)
      if not ok then
        failed = failed + 1
        assert.equal("provider_failed", err.code)
      end
    end
    assert.is_true(failed > 60 and failed < 140, failed .. " of 200 failed")
    assert.equal(200 - failed, world:counts().live)
    assert.equal(failed, world:counts().failed)
  end)

  it("draws the same luck for the same seed, and other luck for another", function()
    local function history(seed)
      local w = assert(sim.open { seed = seed, scenario = { jitter = 0.5, trace = true, old = { crash_rate = 0.3 } } })
      for index = 1, 20 do
        w:operate("provision", { id = "i" .. index, index = index, services = service() })
      end
      w:advance "30s"
      local trace = table.concat(w:trace(), "\n")
      w:close()
      return trace
    end
    assert.equal(history(7), history(7))
    assert.not_equal(history(7), history(8))
  end)

  it("shifts nobody's luck when another slot does more", function()
    local function lines_of_slot_two(more)
      local w = assert(sim.open { seed = 3, scenario = { jitter = 0.5, trace = true, old = { crash_rate = 0.5 } } })
      for index = 1, 3 do
        w:operate("provision", { id = "i" .. index, index = index, services = service() })
      end
      for generation = 2, 1 + more do
        w:operate("restart", { id = "i1", index = 1, generation = generation, services = service() })
      end
      w:advance "30s"
      local kept = {}
      for _, line in ipairs(w:trace()) do
        if line:find("web/1/2 ", 1, true) then
          kept[#kept + 1] = line
        end
      end
      w:close()
      return kept
    end
    assert.same(lines_of_slot_two(0), lines_of_slot_two(5))
  end)

  it("counts a second instance in a slot that is taken", function()
    open()
    provision("i1", { index = 4 })
    provision("i2", { index = 4 })
    provision("i3", { index = 5 })
    world:advance "1s"
    assert.equal(1, world:counts().twins)
    assert.equal(3, world:counts().workloads.web.peak_live)
  end)

  it("lists what it has by age", function()
    open()
    for index = 1, 5 do
      provision("i" .. index, { index = 6 - index })
    end
    world:advance "2s"
    local ids = {}
    for _, seen in ipairs(assert(world:list())) do
      ids[#ids + 1] = seen.instance_id
    end
    assert.same({ "i1", "i2", "i3", "i4", "i5" }, ids)
    assert.equal("i5", world:instances()[1].id)
  end)

  it("keeps log lines, gives the tail of them, goes on from a cursor and follows", function()
    open()
    provision "i1"
    world:advance "2s"
    for n = 1, 5 do
      assert(world:write("i1", nil, "line " .. n, n % 2 == 0))
    end
    local function texts(reader)
      local got, ended = world:lines(reader)
      local out = {}
      for i, line in ipairs(got) do
        out[i] = line.text
      end
      return out, ended, got
    end
    local all = assert(world:logs("i1", nil, {}))
    local tail = assert(world:logs("i1", "app", { tail = 2 }))
    local follow = assert(world:logs("i1", nil, { tail = 0, follow = true }))
    world:advance "1ms"
    local lines, ended, raw = texts(all)
    assert.same({ "started", "line 1", "line 2", "line 3", "line 4", "line 5" }, lines)
    assert.is_true(ended)
    assert.is_true(raw[3].stderr)
    assert.same({ "line 4", "line 5" }, (texts(tail)))
    local after = assert(world:logs("i1", nil, { after = raw[4].cursor }))
    world:advance "1ms"
    assert.same({ "line 4", "line 5" }, (texts(after)))
    assert.same({}, (texts(follow)))
    world:write("i1", nil, "news")
    world:advance "1ms"
    lines, ended = texts(follow)
    assert.same({ "news" }, lines)
    assert.is_false(ended)
    world:operate("deprovision", { id = "i1" })
    world:advance "1s"
    assert.is_true(select(2, texts(follow)))
    assert.equal("not_found", select(2, world:logs("i1", nil, {})).code)
  end)

  it("refuses a log cursor that is none, and a service that is none", function()
    open()
    provision "i1"
    world:advance "2s"
    assert.equal("after", select(2, world:logs("i1", nil, { after = "x1" })).field)
    assert.equal("instance i1 has no service 'apq'", select(2, world:logs("i1", "apq", {})).message)
  end)

  it("refuses a scenario with an unknown or impossible field", function()
    local w, err = sim.open { scenario = { latencie = "1s" } }
    assert.is_nil(w)
    assert.equal("invalid", err.code)
    assert.matches("latency", err.hint)
    w, err = sim.open { scenario = { new = { crash_rate = 1.5 } } }
    assert.is_nil(w)
    assert.equal("scenario.new.crash_rate", err.field)
  end)

  it("holds 10,000 instances at a small price", function()
    open { latency = 0 }
    local before = os.clock()
    for index = 1, 10000 do
      world:operate("provision", { id = "i" .. index, index = index })
    end
    world:advance "10s"
    assert.equal(10000, world:counts().workloads.web.ready)
    local seconds = os.clock() - before
    assert.is_true(seconds < 3, ("took %.2f s"):format(seconds)) -- 0.2 s where this was written
  end)
end)
