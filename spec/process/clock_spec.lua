-- ctest: timeout=240 serial labels=process
--- The clock of a real engine (testing plan, row 10): steps of the wall clock by hours, days and ten years, and an engine
--- that is stopped for a while. CP_STEPS steps (50; the long size is 1,000), CP_STOP seconds of a stop (4; 30).
local house = require "spec.support.house"
local served = require "spec.support.served"

local STEPS = tonumber(os.getenv "CP_STEPS") or 50
local STOP = tonumber(os.getenv "CP_STOP") or 4
local FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
local OFFSETS = { "+1h", "-1h", "+1d", "-1d", "+3650d", "+0", "-3650d", "+0" }

-- Three pauses of a second: what a clock that steps would cut short, or make last for hours.
local SLOW = [[
return {
  name = "slow",
  summary = "Three pauses, then all.",
  run = function(rollout)
    for _ = 1, 3 do rollout:sleep "1s" end
    rollout:replace "100%"
  end,
}
]]

describe("the clock (row 10)", function()
  local plane, faked
  before_each(function() plane, faked = served.open(), {} end)
  after_each(function()
    plane:close()
    for _, pid in ipairs(faked) do -- what libfaketime of a killed process leaves in memory
      os.remove("/dev/shm/faketime_shm_" .. pid)
      os.remove("/dev/shm/sem.faketime_sem_" .. pid)
    end
  end)

  local function set(text) -- at once, as the engine may read it at any moment
    house.write(plane.folder .. "/clock.new", text .. "\n")
    assert(os.rename(plane.folder .. "/clock.new", plane.folder .. "/clock"))
  end

  local function start(offset)
    set(offset or "+0")
    plane:start { environment = {
      LD_PRELOAD = FAKETIME, FAKETIME_TIMESTAMP_FILE = plane.folder .. "/clock", FAKETIME_NO_CACHE = "1",
      FAKETIME_DONT_FAKE_MONOTONIC = "1",
    } }
    faked[#faked + 1] = plane.pid
  end

  local function deploy(version, more)
    local body = { services = { { name = "app", env = { VERSION = version } } }, strategy = "slow", source = SLOW }
    for key, value in pairs(more or {}) do body[key] = value end
    return assert(plane.client:post("/workloads/web/deploy", body))
  end
  local function deployment(id) return assert(plane.client:get("/deployments/" .. id)) end
  local function ended(id)
    return house.wait_for("the rollout ends", function()
      local d = deployment(id)
      return d.state ~= "pending" and d.state ~= "running" and d, d.state
    end, 60)
  end

  it("may step by hours, days and years: no deadline fires early or late, ids and seq grow, services stay ready", function()
    if not house.exists(FAKETIME) or house.asan() then return pending "libfaketime is not here, or does not go with ASan" end
    start()
    assert(plane.client:post("/workloads", served.hello("web", 2)))
    plane:settle("web", 2)
    local before, step, rollouts = plane:answers "web", 0, 0
    while step < STEPS do
      local began, from = house.now(), step
      local d = deploy("v" .. step, { progress_deadline = "20s" })
      while deployment(d.id).state == "pending" or deployment(d.id).state == "running" do
        step = step + 1
        set(OFFSETS[step % #OFFSETS + 1])
        assert(plane.client:patch("/workloads/web", { labels = { step = tostring(step) } }))
        assert.equal(tostring(step), plane.client:get("/workloads/web").labels.step)
        house.sleep(0.05)
      end
      local took = house.now() - began
      d = deployment(d.id)
      assert.equal("succeeded", d.state, d.error and d.error.message)
      assert.is_true(took >= 3, ("three seconds of pauses took %g s"):format(took))
      assert.is_true(took < 30, ("three seconds of pauses took %g s"):format(took))
      assert.is_true(step - from >= 5, "the clock stepped within the rollout")
      rollouts = rollouts + 1
    end
    plane:settle("web", 2)
    local counts, events = plane:events()
    assert.is_nil(counts["health.failed"])
    assert.is_nil(counts["instance.failed"])
    assert.equal(rollouts + 1, counts["deploy.succeeded"]) -- the first was the creation
    for i = 2, #events do assert.is_true(events[i - 1].id < events[i].id, "event ids grow with their seq") end
    for index, replica in pairs(plane:answers "web") do assert.not_equal(before[index].pid, replica.pid) end
    assert.is_true(assert(plane.client:get "/stats").stall_max_ms < 5000, "a step is no stall")
  end)

  it("may be a day behind when an engine starts: what was made is kept, and what is asked is done", function()
    if not house.exists(FAKETIME) or house.asan() then return pending "libfaketime is not here, or does not go with ASan" end
    start()
    assert(plane.client:post("/workloads", served.hello("web", 2)))
    plane:settle("web", 2)
    local before = plane:answers "web"
    plane:kill()
    start "-1d"
    plane:settle("web", 2)
    assert.same(before, plane:answers "web")
    assert.equal("succeeded", ended(deploy("v2").id).state)
    local newest = plane.client:get("/events?limit=1").items[1]
    assert.equal(newest.seq, #select(2, plane:events()))
  end)

  it("runs on while the engine is stopped: the stall is told, and held against no check and no deadline", function()
    plane:start()
    local web = served.hello("web", 2)
    web.services[1].health_check = { path = "/slow?300", interval = "1s", timeout = "1s", retries = 1 }
    assert(plane.client:post("/workloads", web))
    plane:settle("web", 2)
    local before = plane:answers "web"
    local d = deploy("v2", { progress_deadline = ("%ds"):format(STOP) })
    house.wait_for("it runs", function() return deployment(d.id).state == "running" end)
    plane.process:signal "STOP"
    local stopped = house.now()
    while house.now() - stopped < STOP do -- the services do not need the engine
      for _, replica in pairs(before) do assert.equal(200, (house.get(replica.port, "/"))) end
      house.sleep(0.1)
    end
    plane.process:signal "CONT"
    d = ended(d.id)
    assert.equal("succeeded", d.state, d.error and d.error.message)
    plane:settle("web", 2)
    local stall = assert(plane.client:get "/stats").stall_max_ms
    assert.is_true(stall > (STOP - 2) * 1000 and stall < (STOP + 20) * 1000, stall .. " ms")
    assert.is_nil(plane:events()["health.failed"])
  end)
end)
