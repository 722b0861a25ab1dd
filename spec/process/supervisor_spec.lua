-- ctest: timeout=300 serial labels=process
--- Shims and the host go away (testing plan, row 3): kill -9 of shims, of shims and the engine, of everything at once as a
--- reboot does, and other programs that have got the pids by then. CP_ROUNDS rounds of each (20; the long size is 1,000).
--- A reboot is a pid namespace whose first process is killed, and another one with another boot id; it needs root.
local house = require "spec.support.house"
local served = require "spec.support.served"
local posix = { signal = require "posix.signal", unistd = require "posix.unistd" }

local ROUNDS = tonumber(os.getenv "CP_ROUNDS") or 20
local REPLICAS = 2
local SERVICE = { command = { "sh", "-c", "setsid sleep 771 & exec ./hello" } } -- with something that a kill leaves behind

local function kill(pid) return posix.signal.kill(pid, posix.signal.SIGKILL) end

describe("after kill -9 (row 3)", function()
  local plane, ids
  before_each(function() plane = served.open() end)
  after_each(function() plane:close() end)

  local function create()
    assert(plane.client:post("/workloads", served.hello("web", REPLICAS, SERVICE)))
    plane:settle("web", REPLICAS)
    ids = {}
    for index, replica in pairs(plane:answers "web") do ids[index] = replica.id end
  end

  --- The replicas are those from the beginning, each answers, each has one server and one sleep under one shim.
  local function whole(gone)
    return house.wait_for("every replica runs, once", function()
      local replicas, why = plane:answers "web"
      if not replicas then return nil, why end
      for index, id in pairs(ids) do
        if not replicas[index] or replicas[index].id ~= id then return nil, "replica " .. index .. " is another" end
        local servers, shims = plane:running(id, "^%./hello")
        local sleeps = plane:running(id, "^sleep 771")
        if #servers ~= 1 or #sleeps ~= 1 then return nil, ("%s: %d servers, %d sleeps"):format(id, #servers, #sleeps) end
        if gone and (gone[servers[1]] or gone[sleeps[1]]) then return nil, id .. " is still what it was" end
        replicas[index].server, replicas[index].shim, replicas[index].sleep = servers[1], shims[1], sleeps[1]
      end
      return replicas
    end, 30)
  end

  local function nothing_failed()
    local counts = plane:events()
    assert.is_nil(counts["instance.failed"])
    assert.is_nil(counts["workload.failed"])
    assert.equal("active", plane:settle("web", REPLICAS).state)
    assert.equal(REPLICAS, #plane:instances "web")
  end

  it("of shims the services are started again, once, and the others are left alone", function()
    plane:start()
    create()
    for round = 1, ROUNDS do
      local before = whole()
      local victim = round % REPLICAS
      kill(before[victim].shim)
      local after = whole { [before[victim].server] = true, [before[victim].sleep] = true }
      for index in pairs(ids) do
        assert.equal(index ~= victim, before[index].server == after[index].server)
      end
    end
    nothing_failed()
  end)

  it("of shims and the engine a new engine starts them again, once", function()
    plane:start()
    create()
    for round = 1, ROUNDS do
      local before = whole()
      local victim = round % REPLICAS
      if round % 3 == 0 then plane:kill() end
      kill(before[victim].shim)
      if round % 3 == 1 then kill(before[victim].sleep) end
      if plane.process then plane:kill() end
      plane:start()
      whole { [before[victim].server] = true, [before[victim].sleep] = true }
    end
    nothing_failed()
  end)

  describe("of everything at once:", function()
    local machine, init, boots
    before_each(function() boots = 0 end)
    after_each(function()
      if init then kill(init) end
      if machine then machine:kill() end
      machine, init = nil, nil
    end)

    --- A machine that has just booted, with nothing running.
    local function boot()
      boots = boots + 1
      local file = house.write(plane.folder .. "/boot_id", ("00000000-0000-4000-8000-%012d\n"):format(boots))
      machine = house.spawn({ "/usr/bin/unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "sh", "-c",
        "mount --bind " .. file .. " /proc/sys/kernel/random/boot_id && echo booted > " .. plane.folder .. "/booted; sleep 100000 & wait" }, {})
      house.wait_for("a machine", function()
        if machine:poll() then error("no machine: " .. machine:stderr(), 0) end
        return house.exists(plane.folder .. "/booted")
      end)
      os.remove(plane.folder .. "/booted")
      init = served.children(machine.pid)[1]
    end

    local function crash()
      kill(init)
      machine:wait()
      machine:kill()
      if plane.process then
        plane.process:wait()
        plane.process:kill()
        plane.process = nil
      end
      machine, init = nil, nil
      assert.same({}, plane:services())
    end

    local function inside(...) return { "/usr/bin/nsenter", "-t", tostring(init), "-p", "-m", ... } end
    local function start() plane:start { before = inside(), under = true } end

    --- A program inside that has got the pid `wanted` there: its pid outside, nil when the number is taken.
    local function stranger(wanted)
      local sleeper = house.spawn(inside("sh", "-c", ("echo %d > /proc/sys/kernel/ns_last_pid; sleep 772 & echo $!"):format(wanted - 1)), {},
        { stdout = plane.folder .. "/stranger" })
      sleeper:wait()
      sleeper:kill()
      local got = tonumber(house.read(plane.folder .. "/stranger"))
      for _, pid in ipairs(served.children(init)) do
        if tonumber(house.read(("/proc/%d/status"):format(pid)):match "NSpid:[^\n]-(%d+)\n") == got then
          if got == wanted then return pid end
          kill(pid)
        end
      end
    end

    --- Strangers with the pids that the state files name.
    local function strangers()
      local found = {}
      for _, id in pairs(ids) do
        local state = plane:state(id)
        for _, number in ipairs { state.shim, state.pid } do found[#found + 1] = stranger(number) end
      end
      return found
    end

    local function all_live(list)
      for _, pid in ipairs(list) do assert.is_true(house.alive(pid), "a stranger was killed") end
    end

    local function no_restarts()
      for _, instance in ipairs(plane:instances "web") do assert.equal(0, instance.restarts or 0) end
    end

    it("a reboot; every service is started again, once, and none of it is a failure or a restart", function()
      if posix.unistd.getuid() ~= 0 then return pending "namespaces need root" end
      boot()
      start()
      create()
      for _ = 1, ROUNDS do
        whole()
        crash()
        boot()
        start()
        whole()
        no_restarts()
      end
      nothing_failed()
      crash()
    end)

    it("the pids belong to strangers afterwards, in the same boot or the next: they live", function()
      if posix.unistd.getuid() ~= 0 then return pending "namespaces need root" end
      boot()
      start()
      create()
      local met = 0
      for round = 1, ROUNDS do
        local before = whole()
        if round % 2 == 0 then
          crash()
          boot()
        else
          plane:kill()
          for index in pairs(ids) do kill(before[index].shim) end
          house.wait_for("the servers end with their shims", function()
            for index in pairs(ids) do
              if house.alive(before[index].server) then return false end
            end
            return true
          end)
        end
        local list = strangers()
        met = met + #list
        start()
        whole()
        all_live(list)
        for _, pid in ipairs(list) do kill(pid) end
      end
      assert.is_true(met >= ROUNDS * REPLICAS, met .. " pids were taken by strangers")
      nothing_failed()
      crash()
    end)
  end)
end)
