-- ctest: timeout=240 serial labels=process
--- Unkind services, and a host that is short of things (rows 11 and 16).
local ffi = require "ffi"
local process = require "spec.support.process"

ffi.cdef [[
struct cp_unkind_rlimit { unsigned long cur, max; };
int setrlimit(int, const struct cp_unkind_rlimit *);
int getrlimit(int, struct cp_unkind_rlimit *);
]]

describe("the process provider", function()
  local world
  before_each(function() world = process.open() end)
  after_each(function() world:close() end)

  local function now() return tonumber(process.sh "date +%s%N") / 1e6 end

  it("stops what double-forks, leaves its session and ignores every signal; nothing is left (row 16)", function()
    local spec = world:provision(world:script(
      "trap '' TERM INT HUP; (setsid sh -c 'trap \"\" TERM INT HUP; (setsid sleep 650 &) ; sleep 651; sleep 652' &) ; echo up; sleep 653; sleep 654",
      { stop_timeout = 0.2 }))
    world:wait("three sleeps", function() return #process.processes(spec.instance_id, "^sleep 65") == 3 end)
    assert(world.provider:operate("stop", spec))
    assert.same({}, process.processes(spec.instance_id))
  end)

  it("ends one that fills its output without a newline at once, and its shim stays small (row 16)", function()
    local spec = world:provision(world:script "exec cat /dev/zero")
    local shim = world:state(spec).shim
    world.provider:turn(1500)
    local rss = tonumber(process.read("/proc/" .. shim .. "/status"):match "VmRSS:%s+(%d+)")
    if not process.sh("ldd " .. process.shim):match "asan" then assert.is_true(rss < 1024, rss .. " KiB") end
    local size = tonumber(process.sh("du -sk " .. world:path(spec)):match "%d+")
    assert.is_true(size < 60 * 1024, "its logs have " .. size .. " KiB")
    local before = now()
    assert(world.provider:operate("stop", spec))
    assert.is_true(now() - before < 2000, "the stop took " .. now() - before .. " ms")
  end)

  it("lets others be while one floods its output (row 16)", function()
    local quiet = world:provision(world:script "while :; do date +%s%N; sleep 0.05; done")
    world:wait("a beginning", function() return #world:log(quiet) > 5 end)
    for _ = 1, 2 do world:provision(world:script "exec cat /dev/zero") end
    local at = #world:log(quiet)
    world.provider:turn(2000)
    local lines = #world:log(quiet) - at
    assert.is_true(lines >= 10, lines .. " lines in 2 s")
  end)

  it("makes 135 instances that wait for another: a user's inotify instances do not matter", function()
    local file = world.dir .. "/go"
    local specs, numbers = {}, {}
    for i = 1, 135 do
      specs[i] = world:instance {
        { name = "app", command = { "sleep", "660" } },
        { name = "init", role = "init", command = { "sh", "-c", ("while [ ! -e %s ]; do sleep 0.3; done"):format(file) } },
      }
      numbers[i] = assert(world.provider:begin("provision", specs[i]))
    end
    for i = 1, 135 do assert(world.provider:finish(numbers[i])) end
    process.write(file, "")
    for i = 1, 135 do world:wait_seen(specs[i], "running", 20000) end
  end)

  it("says what it is short of, counts it to nobody, and goes on when there is more (row 11)", function()
    local spec = world:script "exec sleep 661"
    local old, few = ffi.new "struct cp_unkind_rlimit", ffi.new "struct cp_unkind_rlimit"
    ffi.C.getrlimit(7, old)
    collectgarbage()
    local lowest = ffi.C.socket(1, 1, 0) -- the number that the next descriptor would have
    ffi.C.close(lowest)
    few.cur, few.max = lowest, old.max
    ffi.C.setrlimit(7, few)
    local ok, err = world.provider:operate("provision", spec)
    ffi.C.setrlimit(7, old)
    assert.is_nil(ok)
    assert.equal("provider_unavailable", err.code)
    assert.matches("Too many open files", err.message)
    assert(world.provider:operate("provision", spec))
    world:wait_seen(spec, "running")
  end)

  it("starts again what somebody ended by a signal to its shim", function()
    local spec = world:provision(world:script "exec sleep 662")
    world:wait_seen(spec, "running")
    local shim = world:state(spec).shim
    process.kill(shim, 15)
    world:wait("its end", function() return not process.alive(shim) end)
    assert.same({}, process.processes(spec.instance_id))
    assert.equal("lost", world:status(spec).seen)
    assert(world.provider:operate("start", spec))
    world:wait_seen(spec, "running")
  end)

  it("answers on the shim's socket: status, and a restart that is no stop", function()
    local spec = world:provision(world:script "exec sleep 663")
    world:wait("its sleep", function() return #process.processes(spec.instance_id, "^sleep 663") == 1 end)
    local first = world:state(spec).pid
    assert.matches("state running\n", process.ask(world:path(spec, "app.sock"), "status\n"))
    process.ask(world:path(spec, "app.sock"), "restart\n")
    world:wait("another run", function()
      local state = world:state(spec)
      return state.state == "running" and state.pid ~= first
    end)
    assert.equal(1, world:status(spec).restarts)
    assert.equal("running", world:status(spec).seen)
  end)
end)
