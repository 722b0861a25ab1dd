-- ctest: timeout=240 labels=process
--- Found again: after the engine, the shim, or the host went away; the same operation twice; operations cut short.
local process = require "spec.support.process"
local testing = require("ctrlplane.core").testing

describe("an instance", function()
  local world
  before_each(function() world = process.open() end)
  after_each(function()
    testing.failpoint(nil)
    world:close()
  end)

  local function sleeper(seconds)
    local spec = world:provision(world:script("exec sleep " .. seconds))
    world:wait("its sleep", function() return #process.processes(spec.instance_id, "^sleep " .. seconds) == 1 end)
    return spec
  end

  it("is adopted as it is when the engine's memory is dropped: same pid, ports, generation", function()
    local spec = world:provision(world:instance { image = process.hello, ports = { { name = "http" } } })
    local before, state = world:wait_seen(spec, "running"), world:state(spec)
    world:reopen()
    local list = assert(world.provider:list())
    assert.equal(1, #list)
    assert.same(before, list[1])
    assert.equal(state.pid, world:state(spec).pid)
    assert(world.provider:operate("provision", spec)) -- asked again, as an engine that had no answer does
    assert.equal(state.pid, world:state(spec).pid)
    assert.equal(state.shim, world:state(spec).shim)
  end)

  it("whose operation is asked again and again changes nothing", function()
    local spec = sleeper(98)
    local state = world:state(spec)
    for _, kind in ipairs { "provision", "start", "restart", "update" } do assert(world.provider:operate(kind, spec)) end
    assert.equal(state.pid, world:state(spec).pid)
    assert(world.provider:operate("stop", spec))
    assert(world.provider:operate("stop", spec))
    assert(world.provider:operate("deprovision", spec))
    assert(world.provider:operate("deprovision", spec))
    assert.equal("absent", world:status(spec).seen)
  end)

  it("is restarted in place by a newer generation, once", function()
    local spec = sleeper(98)
    local first = world:state(spec).pid
    spec.generation = 2
    assert(world.provider:operate("restart", spec))
    local second = world:wait("running", function() local s = world:state(spec) return s.state == "running" and s end)
    assert.not_equal(first, second.pid)
    assert.is_false(process.alive(first))
    assert.equal(2, world:status(spec).generation)
    assert.equal(0, world:status(spec).restarts)
    assert(world.provider:operate("restart", spec))
    assert.equal(second.pid, world:state(spec).pid)
  end)

  it("is updated in place: another image and services, the same volumes and ports", function()
    os.execute(("mkdir -p %s/v1 %s/v2; echo one > %s/v1/text; echo two > %s/v2/text"):format(world.dir, world.dir, world.dir, world.dir))
    local function services(version, extra)
      local list = { { name = "app", image = world.dir .. "/" .. version, ports = { { name = "http" } }, volumes = { { name = "db", mount_path = "db" } },
        command = { "sh", "-c", "cat text; echo $PORT >> db/ports; exec sleep 99" } }, extra }
      return list
    end
    local old = world:provision(world:instance(services("v1", { name = "side", role = "sidecar", command = { "sleep", "97" } }), { kind = "stateful_set" }))
    world:wait_log(old, "one")
    local new = world:instance(services "v2", { kind = "stateful_set", instance_id = old.instance_id, release_id = "rel_2", generation = 2, replica_index = old.replica_index })
    assert(world.provider:operate("update", new))
    world:wait_log(new, "two")
    local seen = world:status(new)
    assert.equal("rel_2", seen.release_id)
    assert.equal(1, #seen.services)
    assert.same({}, process.processes(old.instance_id, "^sleep 97"))
    local ports = process.read(world:path(new, "work/app/db/ports"))
    assert.matches("^(%d+)\n%1\n$", ports)
    assert.same({ "one", "two" }, (world:log(new)))
  end)

  it("goes on as it was when the new release cannot be made, and says so", function()
    local old = world:provision(world:instance { image = process.hello, ports = { { name = "http" } } })
    local pid = world:wait_seen(old, "running") and world:state(old).pid
    os.execute(("mkdir %s/v2 && touch %s/v2/x"):format(world.dir, world.dir))
    local new = world:instance({ image = world.dir .. "/v2", command = { "true" } }, { instance_id = old.instance_id, release_id = "rel_2", generation = 2 })
    local hash = new.services[1].image:match "sha256:(%x+)"
    os.execute(("mv %s/data/images/%s %s/away"):format(world.dir, hash, world.dir))
    local ok, err = world.provider:operate("update", new)
    assert.is_nil(ok)
    assert.equal("provider_failed", err.code)
    assert.matches("is not in .* any more; deploy it again", err.message)
    local seen = world:status(old)
    assert.equal("running", seen.seen)
    assert.equal(1, seen.generation)
    assert.equal("rel_1", seen.release_id)
    assert.equal(pid, world:state(old).pid)
    os.execute(("mv %s/away %s/data/images/%s"):format(world.dir, world.dir, hash))
    assert(world.provider:operate("update", new))
    assert.equal("rel_2", world:status(new).release_id)
  end)

  describe("whose shim is killed", function()
    it("loses its service with it, is seen as lost at once, and one copy runs after the next start (row 3)", function()
      local spec = world:provision(world:script("setsid sh -c 'sleep 611' & exec sleep 610"))
      world:wait("both", function() return #process.processes(spec.instance_id, "^sleep 61") == 2 end)
      world.provider:hints()
      process.kill(world:state(spec).shim)
      world:wait("a hint", function() return world.provider:hints()[1] == spec.instance_id end, 2000)
      assert.equal("lost", world:status(spec).seen)
      world:wait("the death of the service", function() return #process.processes(spec.instance_id, "^sleep 610") == 0 end, 2000)
      assert(world.provider:operate("start", spec))
      world:wait("both", function() return #process.processes(spec.instance_id, "^sleep 61") == 2 end)
      local seen = world:wait_seen(spec, "running")
      assert.equal(1, seen.restarts)
    end)

    it("leaves a sidecar alone: only what is lost is started again", function()
      local spec = world:provision(world:instance {
        { name = "app", command = { "sleep", "610" } },
        { name = "side", role = "sidecar", command = { "sh", "-c", "setsid sleep 612 & exec sleep 611" } },
        { name = "init", role = "init", command = { "sh", "-c", "echo once" } },
      })
      world:wait_seen(spec, "running")
      world:wait("three", function() return #process.processes(spec.instance_id, "^sleep 61") == 3 end)
      local side = process.processes(spec.instance_id, "^sleep 61[12]")
      process.kill(world:state(spec, "app").shim)
      world:wait_seen(spec, "lost")
      assert(world.provider:operate("start", spec))
      world:wait_seen(spec, "running")
      table.sort(side)
      local now = process.processes(spec.instance_id, "^sleep 61[12]")
      table.sort(now)
      assert.same(side, now)
      assert.equal(1, #process.processes(spec.instance_id, "^sleep 610"))
      assert.same({ "once" }, (world:log(spec, "init")))
    end)

    it("together with the engine, 20 times: exactly one copy each time (row 3)", function()
      local spec = sleeper(610)
      for _ = 1, 20 do
        local state = world:wait("running", function() local s = world:state(spec) return s.state == "running" and process.alive(s.shim) and s end)
        process.kill(state.shim)
        world:reopen()
        world:wait_seen(spec, "lost")
        assert(world.provider:operate("start", spec))
        assert.is_true(#process.processes(spec.instance_id, "^sleep 610") <= 1)
      end
      world:wait_seen(spec, "running")
      assert.equal(1, #process.processes(spec.instance_id, "^sleep 610"))
    end)

    it("is stopped and removed without a trace all the same", function()
      local spec = world:provision(world:script("setsid sleep 611 & exec sleep 610"))
      world:wait("both", function() return #process.processes(spec.instance_id, "^sleep 61") == 2 end)
      process.kill(world:state(spec).shim)
      world:wait_seen(spec, "lost")
      assert(world.provider:operate("deprovision", spec))
      assert.same({}, process.processes(spec.instance_id))
    end)
  end)

  it("is ended by force when its shim is halted and does not answer", function()
    local spec = world:provision(world:script("exec sleep 610", { stop_timeout = 0 }))
    local shim = world:state(spec).shim
    process.kill(shim, 19) -- SIGSTOP
    world:reopen()
    assert(world.provider:operate("stop", spec))
    assert.is_false(process.alive(shim))
    assert.same({}, process.processes(spec.instance_id))
  end)

  it("never costs a stranger its life, whatever pid the state file names (invariant 4, row 3)", function()
    local stranger = tonumber(process.sh("CTRLPLANE_INSTANCE= sh -c 'sleep 620 > /dev/null 2>&1 & echo $!'"))
    local spec = sleeper(610)
    local similar = tonumber(process.sh(("CTRLPLANE_INSTANCE=%sx sh -c 'sleep 621 > /dev/null 2>&1 & echo $!'"):format(spec.instance_id)))
    process.kill(world:state(spec).shim)
    world:wait_seen(spec, "lost")
    local path = world:path(spec, "app.state") -- as after many forks: the shim's pid and the service's are another's now
    process.write(path, (process.read(path):gsub("shim %d+", "shim " .. stranger):gsub("\npid %d+", "\npid " .. stranger)))
    assert(world.provider:operate("start", spec))
    world:wait_seen(spec, "running")
    assert(world.provider:operate("stop", spec))
    process.kill(world:state(spec).shim)
    assert.is_true(process.alive(stranger))
    assert.is_true(process.alive(similar))
    process.kill(stranger)
    process.kill(similar)
  end)

  it("is started again after a reboot, from the inits on, and none of it counts as a failure (row 3)", function()
    local spec = world:provision(world:instance {
      { name = "app", command = { "sleep", "610" } },
      { name = "init", role = "init", command = { "sh", "-c", "echo boot" } },
    })
    world:wait_seen(spec, "running")
    local shim = world:state(spec).shim
    world.provider:close()
    process.kill(shim) -- all is gone, and the boot is another
    os.execute "sleep 0.1"
    for _, name in ipairs { "app.state", "init.state", "instance.json" } do
      local path = world:path(spec, name)
      process.write(path, (process.read(path):gsub("%x+%-%x+%-%x+%-%x+%-%x+", "00000000-0000-0000-0000-000000000000")))
    end
    world:reopen()
    assert.equal("lost", world:status(spec).seen)
    assert(world.provider:operate("start", spec))
    local seen = world:wait_seen(spec, "running")
    assert.equal(0, seen.restarts)
    assert.same({ "boot", "boot" }, (world:log(spec, "init")))
  end)

  it("that was stopped before the reboot stays stopped", function()
    local spec = sleeper(610)
    assert(world.provider:operate("stop", spec))
    local path = world:path(spec, "app.state")
    process.write(path, (process.read(path):gsub("boot %S+", "boot 00000000-0000-0000-0000-000000000000")))
    world:reopen()
    assert.equal("stopped", world:status(spec).seen)
  end)

  it("of another plane in the same folder is neither listed nor touched", function()
    local spec = sleeper(610)
    local path = world:path(spec, "instance.json")
    local text = process.read(path)
    process.write(path, (text:gsub("plane_spec", "plane_other")))
    world:reopen()
    assert.same({}, assert(world.provider:list()))
    assert.equal(1, #process.processes(spec.instance_id, "^sleep 610"))
    process.write(path, text)
    world:reopen()
    assert.equal("running", world:status(spec).seen)
  end)

  describe("in whose making the engine died", function()
    for _, name in ipairs { "process_operate", "process_made" } do
      it("at " .. name .. " is made by the next try, once", function()
        local armed = true
        testing.failpoint(function(point) if point == name and armed then armed = false return true end end)
        local spec = world:script "exec sleep 610"
        local ok, err = world.provider:operate("provision", spec)
        assert.is_nil(ok)
        assert.equal("provider_unavailable", err.code)
        world:reopen()
        local seen = world:status(spec).seen
        assert.is_true(seen == "absent" or seen == "lost" or seen == "stopped", seen)
        assert(world.provider:operate("provision", spec))
        world:wait_seen(spec, "running")
        assert.equal(1, #process.processes(spec.instance_id, "^sleep 610"))
      end)
    end

    it("at any moment of it is made by the next try, once; nothing is left in the folder", function()
      for turns = 0, 10 do
        local spec = world:script("exec sleep 610")
        assert(world.provider:begin("provision", spec))
        for _ = 1, turns do world.provider:turn(0) end
        world:reopen()
        assert(world.provider:operate("provision", spec))
        world:wait_seen(spec, "running")
        assert.equal(1, #process.processes(spec.instance_id, "^sleep 610"))
        world:wait("what was half made to go", function() return not process.sh("ls " .. world:path(spec)):match "stage" end)
      end
    end)

    it("is not a reason to open: the next one opens", function()
      testing.failpoint(function(point) return point == "process_adopt" end)
      local ok, err = testing.process.open { data_dir = world.dir .. "/data", shim = process.shim, plane_id = "plane_spec" }
      assert.is_nil(ok)
      assert.equal("provider_unavailable", err.code)
      testing.failpoint(nil)
      world:reopen()
    end)

    it("at process_remove is removed by the next try", function()
      local spec = sleeper(610)
      testing.failpoint(function(point) return point == "process_remove" end)
      assert.is_nil((world.provider:operate("deprovision", spec)))
      testing.failpoint(nil)
      world:reopen()
      assert.equal("stopped", world:status(spec).seen)
      assert(world.provider:operate("deprovision", spec))
      assert.equal("absent", world:status(spec).seen)
    end)
  end)

  it("whose operation is cancelled can be operated again at once", function()
    local spec = world:script("exec sleep 610")
    local number = assert(world.provider:begin("provision", spec))
    local ok, err = world.provider:operate("stop", spec)
    assert.is_nil(ok)
    assert.equal("conflict", err.code)
    world.provider:cancel(number)
    assert(world.provider:operate("provision", spec))
    world:wait_seen(spec, "running")
    assert.equal(1, #process.processes(spec.instance_id, "^sleep 610"))
  end)

  it("is not made without its shim, which is an outage and no fault of the release", function()
    local other = process.open { shim = "/nonexistent/ctrlplane-shim" }
    local ok, err = other.provider:operate("provision", other:script "exec sleep 1")
    assert.is_nil(ok)
    assert.equal("provider_unavailable", err.code)
    assert.matches("/nonexistent/ctrlplane%-shim", err.message)
    other:close()
  end)

  it("costs its shim less than 1 MiB of resident memory", function()
    local spec = sleeper(610)
    local rss = tonumber(process.read("/proc/" .. world:state(spec).shim .. "/status"):match "VmRSS:%s+(%d+)")
    if process.sh("ldd " .. process.shim):match "asan" then return pending "with AddressSanitizer it needs more" end
    assert.is_true(rss < 1024, rss .. " KiB")
  end)

  it("is not adopted from half a folder: what has no record is cleared away", function()
    local path = world.dir .. "/data/instances/inst_half"
    os.execute("mkdir -p " .. path .. "/work; echo '{' > " .. path .. "/instance.json")
    world:reopen()
    world:wait("the folder to go", function() return process.sh("ls -d " .. path):match "No such file" end)
  end)

  it("with an id that is no id is refused", function()
    local spec = world:script "true"
    spec.instance_id = "../../evil"
    local ok, err = world.provider:operate("provision", spec)
    assert.is_nil(ok)
    assert.equal("invalid", err.code)
    world.instances = {}
  end)
end)
