-- ctest: timeout=240 labels=process
--- The life of a service under its shim: order, restart policy, back-off, stop, and that nothing is left.
local process = require "spec.support.process"

describe("the process provider", function()
  local world
  before_each(function() world = process.open() end)
  after_each(function() world:close() end)

  describe("starts services in order:", function()
    it("inits one after the other to their end, then main and sidecars, each after what it depends on", function()
      local file = world.dir .. "/order"
      local function step(name) return { "sh", "-c", ("echo %s >> %s; %s"):format(name, file, name:match "init" and "sleep 0.1; echo " .. name .. "-end >> " .. file or "exec sleep 99") } end
      local spec = world:provision(world:instance {
        { name = "app", command = step "app", depends_on = { "proxy", "second" } },
        { name = "proxy", command = step "proxy", role = "sidecar", depends_on = { "db" } },
        { name = "db", command = step "db", role = "sidecar" },
        { name = "second", command = step "init2", role = "init", depends_on = { "first" } },
        { name = "first", command = step "init1", role = "init" },
      })
      world:wait_seen(spec, "running")
      world:wait("all lines", function() return select(2, (process.read(file) or ""):gsub("\n", "")) == 7 end)
      assert.equal("init1\ninit1-end\ninit2\ninit2-end\n", process.read(file):match "^.-init2%-end\n")
      local function started(name) return world:state(spec, name).started_ms end
      assert.is_true(started "db" <= started "proxy" and started "proxy" <= started "app") -- whose echo is first is theirs
      local states = {}
      for _, s in ipairs(world:status(spec).services) do states[s.name] = s.state end
      assert.same({ app = "running", proxy = "running", db = "running", first = "exited", second = "exited" }, states)
    end)

    it("a failed init fails the instance, and nothing behind it starts", function()
      local spec = world:provision(world:instance {
        { name = "app", command = { "sh", "-c", "echo never" } },
        { name = "migrate", role = "init", command = { "sh", "-c", "echo no database; exit 7" } },
      })
      local seen = world:wait_seen(spec, "failed")
      assert.matches("migrate: exited with code 7", seen.message)
      world:wait("the shims to end", function() return world:state(spec, "app").state == "failed" end)
      assert.same({}, (world:log(spec, "app")))
      assert.equal(0, world:state(spec, "migrate").restarts)
    end)

    it("an init that says on_failure is tried again until it ends well", function()
      local spec = world:provision(world:instance {
        { name = "app", command = { "sleep", "99" } },
        { name = "migrate", role = "init", restart = "on_failure",
          command = { "sh", "-c", "echo x >> tries; [ $(wc -l < tries) -ge 3 ]" } },
      })
      world:wait_seen(spec, "running")
      assert.equal(2, world:state(spec, "migrate").restarts)
    end)
  end)

  describe("restarts by policy:", function()
    it("always, whatever the exit was, counted and with the reason", function()
      local spec = world:provision(world:script "echo run; exit 0")
      world:wait("three restarts", function() return (world:state(spec).restarts or 0) >= 3 end)
      local seen = world:status(spec)
      assert.is_true(seen.restarts >= 3)
      assert.is_true(seen.seen == "starting" or seen.seen == "running")
    end)

    it("on_failure not after a good end: it is stopped, with its code", function()
      local spec = world:provision(world:script("exit 0", { restart = "on_failure" }))
      local seen = world:wait_seen(spec, "stopped")
      assert.equal("app: exited with code 0", seen.message)
      assert.equal(0, seen.services[1].exit_code)
      assert.is_false(seen.services[1].ready)
      assert.equal(0, seen.restarts)
    end)

    it("never gives up at the first bad end", function()
      local spec = world:provision(world:script("exit 3", { restart = "never" }))
      local seen = world:wait_seen(spec, "failed")
      assert.equal("app: exited with code 3", seen.message)
      assert.equal(3, seen.services[1].exit_code)
    end)

    it("a command that does not exist is not tried again: the instance fails with the reason", function()
      local spec = world:provision(world:instance { command = { "./server" } })
      local seen = world:wait_seen(spec, "failed")
      assert.equal("app: exec ./server: No such file or directory", seen.message)
      assert.equal(0, seen.restarts)
    end)

    it("a file that is no program, a folder that is not there, a user without permission: each with its reason", function()
      process.write(world.dir .. "/noise", "\1\2\3\4")
      os.execute("chmod 755 " .. world.dir .. "/noise")
      local cases = {
        { { command = { world.dir .. "/noise" } }, "Exec format error" },
        { { command = { "true" }, workdir = "/nonexistent/dir" }, "workdir /nonexistent/dir: No such file or directory" },
        { { command = { "/etc/passwd" } }, "exec /etc/passwd: Permission denied" },
      }
      for _, case in ipairs(cases) do
        local spec = world:provision(world:instance(case[1]))
        assert.matches(case[2], world:wait_seen(spec, "failed").message, 1, true)
      end
    end)

    it("a replica that is killed comes back, also while no engine runs", function()
      local spec = world:provision(world:script "exec sleep 98")
      world:wait_seen(spec, "running")
      local first = world:state(spec).pid
      world.provider:close()
      process.kill(first)
      local second
      for _ = 1, 250 do
        second = world:state(spec)
        if second.state == "running" and second.pid ~= first then break end
        os.execute "sleep 0.02"
      end
      assert.equal("running", second.state)
      assert.not_equal(first, second.pid)
      assert.equal(1, second.restarts)
      assert.equal("killed by signal 9 (KILL)", second.message)
      world:reopen()
      assert.equal("running", world:status(spec).seen)
    end)

    it("one that ends at once for ever backs off, doubling", function()
      local spec = world:provision(world:script "date +%s%N; exit 1")
      world:wait("five runs", function() return #world:log(spec) >= 5 end, 15000)
      local times = {}
      for i, text in ipairs((world:log(spec))) do times[i] = tonumber(text) / 1e6 end
      for i, least in ipairs { 50, 100, 200, 400 } do
        assert.is_true(times[i + 1] - times[i] >= least, ("pause %d was %d ms"):format(i, times[i + 1] - times[i]))
      end
    end)

    it("the back-off begins anew after it ran a while", function()
      local spec = world:provision(world:script "[ -e long ] && sleep 0.7; date +%s%N; echo x >> runs; [ $(wc -l < runs) = 3 ] && : > long; exit 1")
      world:wait("six runs", function() return #world:log(spec) >= 6 end, 15000)
      local times = {}
      for i, text in ipairs((world:log(spec))) do times[i] = tonumber(text) / 1e6 end
      assert.is_true(times[6] - times[5] < 700 + 200, "a run of 0.7 s is ten times the first pause")
    end)
  end)

  it("a grandchild that keeps the pipe open delays nothing and is not left over (B2)", function()
    local spec = world:provision(world:script(
      "(sleep 600 &) ; setsid sleep 601 & echo up; sleep 0.3; pgrep -c x >/dev/null; exit 3", { restart = "on_failure" }))
    local id = spec.instance_id
    local runs, seen_code = {}, false
    world:wait("three restarts", function()
      local state = world:state(spec)
      if state.state == "running" and not runs[state.pid] then
        runs[state.pid] = true
        assert.is_true(#process.processes(id, "^sleep 600") <= 1, "a sleep 600 of the run before is there")
        assert.is_true(#process.processes(id, "^sleep 601") <= 1, "a sleep 601 of the run before is there")
      end
      if state.state == "backoff" then
        seen_code = seen_code or state.exit_code == 3
      end
      return state.restarts and state.restarts >= 3
    end)
    assert.is_true(seen_code)
    assert(world.provider:operate("stop", spec))
    assert.equal("stopped", world:status(spec).seen)
    assert.same({}, process.processes(id))
    local ups = #world:log(spec)
    assert.is_true(ups == 3 or ups == 4, "up once per run: " .. ups)
  end)

  it("an exit is recorded at once, whoever still holds the pipe (B2)", function()
    local spec = world:provision(world:script("setsid sleep 602 & sleep 0.2; date +%s%N; exit 3", { restart = "never" }))
    world:wait_seen(spec, "failed", 3000)
    local at = tonumber(world:log(spec)[1]) / 1e6
    local changed = tonumber(process.sh("stat -c %.9Y " .. world:path(spec, "app.state"))) * 1e3
    assert.is_true(changed - at < 1000, ("recorded %d ms after the exit"):format(changed - at))
    assert.same({}, process.processes(spec.instance_id))
  end)

  describe("stops", function()
    it("with the signal, at once when the service obeys", function()
      local spec = world:provision(world:script "trap 'echo bye; exit 0' INT; echo up; while :; do sleep 0.05; done")
      spec.services[1].stop_signal = "INT"
      spec.generation = 2
      assert(world.provider:operate("restart", spec))
      world:wait_log(spec, "up")
      assert(world.provider:operate("stop", spec))
      local texts = world:log(spec)
      assert.equal("bye", texts[#texts])
      assert.same({}, process.processes(spec.instance_id))
    end)

    it("with a kill of everything after the stop timeout when it ignores the signal", function()
      local spec = world:provision(world:script("trap '' TERM; (trap '' TERM; setsid sleep 603) & echo up; while :; do sleep 0.05; done", { stop_timeout = 0.3 }))
      world:wait_log(spec, "up")
      local before = os.time()
      assert(world.provider:operate("stop", spec))
      assert.is_true(os.time() - before <= 3)
      assert.same({}, process.processes(spec.instance_id))
      assert.equal("killed after its stop timeout of 300 ms", world:state(spec).message)
    end)

    it("what depends on another before that other", function()
      local file = world.dir .. "/order"
      local function service(name) return { "sh", "-c", ("trap 'sleep 0.1; echo %s >> %s; exit 0' TERM; echo up; while :; do sleep 0.02; done"):format(name, file) } end
      local spec = world:provision(world:instance {
        { name = "app", command = service "app", depends_on = { "proxy" } },
        { name = "proxy", role = "sidecar", command = service "proxy", depends_on = { "db" } },
        { name = "db", role = "sidecar", command = service "db" },
      })
      world:wait_log(spec, "up", "app")
      assert(world.provider:operate("stop", spec))
      assert.equal("app\nproxy\ndb\n", process.read(file))
    end)

    it("a service in back-off, or still waiting for another, without waiting itself", function()
      local spec = world:provision(world:instance {
        { name = "app", command = { "sleep", "99" } },
        { name = "init", role = "init", command = { "sleep", "98" } },
      })
      assert.equal("starting", world:status(spec).seen)
      assert(world.provider:operate("stop", spec))
      assert.equal("stopped", world:status(spec).seen)
      local other = world:provision(world:script "exit 1")
      world:wait("a back-off", function() return world:state(other).state == "backoff" end)
      assert(world.provider:operate("stop", other))
      assert.equal("stopped", world:status(other).seen)
    end)

    it("and starts again from the inits on", function()
      local spec = world:provision(world:instance {
        { name = "app", command = { "sleep", "99" } },
        { name = "init", role = "init", command = { "sh", "-c", "echo init" } },
      })
      world:wait_seen(spec, "running")
      assert(world.provider:operate("stop", spec))
      assert(world.provider:operate("start", spec))
      world:wait_seen(spec, "running")
      assert.same({ "init", "init" }, (world:log(spec, "init")))
    end)
  end)

  it("10,000 zombies are reaped quickly, and none is left under the shim (row 16)", function()
    local spec = world:provision(world:instance { command = { "luajit", "-e", [[
      local ffi = require "ffi"
      ffi.cdef "int fork(void); void _exit(int); unsigned sleep(unsigned);"
      for _ = 1, 10000 do if ffi.C.fork() == 0 then ffi.C._exit(0) end end
      print "ready" io.flush() ffi.C.sleep(99)]] }, restart = "never" })
    world:wait_log(spec, "ready", nil, 60000)
    local shim = world:state(spec).shim
    local before = os.time()
    assert(world.provider:operate("stop", spec))
    assert.is_true(os.time() - before <= 4, "the stop took " .. os.time() - before .. " s")
    assert.is_false(process.alive(shim))
  end)
end)
