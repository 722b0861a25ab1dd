-- ctest: timeout=120 labels=process
--- What a service starts with: signals, user, environment, descriptors, limits, ports, files, volumes.
local ffi = require "ffi"
local process = require "spec.support.process"

ffi.cdef [[
typedef void (*cp_spec_handler)(int);
cp_spec_handler signal(int, cp_spec_handler);
struct cp_spec_rlimit { unsigned long cur, max; };
int setrlimit(int, const struct cp_spec_rlimit *);
int getrlimit(int, struct cp_spec_rlimit *);
int getuid(void);
]]
local root = ffi.C.getuid() == 0
local as_root = root and it or function(name) pending(name .. " (needs root)") end

local function env_of(world, spec, service)
  world:wait_log(spec, "^(end)$", service)
  local env = {}
  for _, text in ipairs((world:log(spec, service))) do
    local key, value = text:match "^([%w_]+)=(.*)$"
    if key then env[key] = value end
  end
  return env
end

describe("a service", function()
  local world
  before_each(function() world = process.open() end)
  after_each(function() world:close() end)

  as_root("inherits nothing of the engine's signals, groups, limits, descriptors and secrets (B4)", function()
    local SIGHUP, SIGPIPE, NOFILE = 1, 13, 7
    local ignore, default = ffi.cast("cp_spec_handler", 1), ffi.cast("cp_spec_handler", 0)
    local old = ffi.new "struct cp_spec_rlimit"
    ffi.C.getrlimit(NOFILE, old)
    ffi.C.setrlimit(NOFILE, ffi.new("struct cp_spec_rlimit", { 500000, 500000 }))
    ffi.C.signal(SIGHUP, ignore)
    ffi.C.signal(SIGPIPE, ignore)
    process.setenv("CTRL_SECRET", "x")
    local held = io.open("/etc/hostname") -- a descriptor without close-on-exec, as a program around the engine may have
    local spec = world:provision(world:script(
      "grep ^Sig /proc/self/status; echo groups $(id -G); env; echo nofile $(ulimit -n); echo fds $(ls /proc/self/fd | tr '\\n' ' '); " ..
      "echo umask $(umask); echo end; exec sleep 99", { user = "nobody" }))
    local env = env_of(world, spec)
    ffi.C.signal(SIGHUP, default)
    ffi.C.signal(SIGPIPE, default)
    ffi.C.setrlimit(NOFILE, old)
    process.setenv "CTRL_SECRET"
    if held then held:close() end

    local text = table.concat((world:log(spec)), "\n")
    assert.matches("SigBlk:%s+0000000000000000\n", text)
    assert.matches("SigIgn:%s+0000000000000000\n", text)
    local group = process.sh("id -G nobody"):gsub("%s+$", "")
    assert.matches("groups " .. group .. "\n", text)
    assert.is_nil((" " .. group .. " "):match " 0 ")
    assert.matches("nofile 1024\n", text)
    assert.matches("fds 0 1 2 3\n", text) -- 3 is that of ls itself
    assert.matches("umask 0022\n", text)
    assert.equal("nobody", env.USER)
    assert.equal("nobody", env.LOGNAME)
    assert.equal("/nonexistent", env.HOME)
    assert.equal(spec.instance_id, env.CTRLPLANE_INSTANCE)
    assert.equal("app", env.CTRLPLANE_SERVICE)
    local expected = { PATH = true, LANG = true, HOME = true, USER = true, LOGNAME = true, CTRLPLANE_INSTANCE = true,
      CTRLPLANE_SERVICE = true, PWD = true }
    for key in pairs(env) do assert.is_true(expected[key], "the environment has " .. key) end

    local before = process.sh "date +%s%N"
    assert(world.provider:operate("stop", spec))
    assert.is_true(tonumber(process.sh "date +%s%N") - tonumber(before) < 1e9, "TERM ends it at once")
  end)

  as_root("runs as its user, in a working copy that is the user's, with the user's rights only", function()
    local spec = world:provision(world:script("id -un; : > mine && echo writes; cat ../../instance.json || echo denied; cat ../../app.run || echo denied; exec sleep 99", { user = "nobody:daemon" }))
    world:wait("four lines", function() return #world:log(spec) >= 6 end)
    local text = table.concat((world:log(spec)), "\n")
    assert.matches("^nobody\nwrites\n", text)
    local _, denials = text:gsub("\ndenied", "")
    assert.equal(2, denials)
    local gid = process.sh("stat -c %g /proc/" .. world:state(spec).pid):gsub("%s", "")
    assert.equal(process.sh("getent group daemon | cut -d: -f3"):gsub("%s", ""), gid)
  end)

  it("whose user this host does not have is refused with its field", function()
    local ok, err = world.provider:resolve { { name = "app", command = { "true" }, user = "no-such-user" } }
    assert.is_nil(ok)
    assert.equal("invalid", err.code)
    assert.equal("services[0].user", err.field)
    assert.matches("this host has no user 'no%-such%-user'", err.message)
  end)

  it("gets a free port for each port, in PORT, PORT_<NAME>, ${port.<name>} and the endpoints, and keeps it", function()
    local ports = { { name = "http" }, { name = "admin-api" } }
    local script = "env; echo \"arg $0\"; echo end; exec sleep 99"
    local function service() return { command = { "sh", "-c", script, "${port.admin-api}" }, ports = ports, env = { URL = "http://h:${port.http}/$${port.http}/$HOME" } } end
    local one = world:provision(world:instance(service()))
    local two = world:provision(world:instance(service()))
    local env, other = env_of(world, one), env_of(world, two)
    assert.equal(env.PORT, env.PORT_HTTP)
    assert.not_equal(env.PORT_HTTP, env.PORT_ADMIN_API)
    assert.equal(("http://h:%s/${port.http}/$HOME"):format(env.PORT), env.URL)
    assert.matches("arg " .. env.PORT_ADMIN_API, table.concat((world:log(one)), "\n"))
    local all = {}
    for _, port in ipairs { env.PORT_HTTP, env.PORT_ADMIN_API, other.PORT_HTTP, other.PORT_ADMIN_API } do
      assert.is_nil(all[port], "a port was given out twice")
      all[port] = true
    end
    local endpoints = world:status(one).endpoints
    assert.same({ service = "app", name = "http", host = "127.0.0.1", port = tonumber(env.PORT), protocol = "tcp" }, endpoints[1])
    world:reopen()
    one.generation = 2
    assert(world.provider:operate("restart", one))
    assert.same(endpoints, world:status(one).endpoints)
    local third = world:provision(world:instance(service()))
    assert.is_nil(all[tostring(world:status(third).endpoints[1].port)], "an adopted instance's port was given out")
  end)

  it("of a sidecar knows the ports of main; its own of the same name win", function()
    local spec = world:provision(world:instance {
      { name = "app", command = { "sleep", "99" }, ports = { { name = "http" }, { name = "grpc" } } },
      { name = "proxy", role = "sidecar", command = { "sh", "-c", "env; echo end; exec sleep 99" }, ports = { { name = "http" } }, env = { UP = "${port.grpc}" } },
    })
    local env, port = env_of(world, spec, "proxy"), {}
    for _, e in ipairs(world:status(spec).endpoints) do port[e.service .. "." .. e.name] = tostring(e.port) end
    assert.equal(port["proxy.http"], env.PORT)
    assert.equal(port["proxy.http"], env.PORT_HTTP)
    assert.equal(port["app.grpc"], env.UP)
  end)

  it("with a fixed port keeps another instance from it, with a message that names the owner", function()
    local function service() return { command = { "sleep", "99" }, ports = { { name = "http", host = 19123 } } } end
    local one = world:provision(world:instance(service()))
    assert.equal(19123, world:status(one).endpoints[1].port)
    local ok, err = world.provider:operate("provision", world:instance(service()))
    assert.is_nil(ok)
    assert.equal("provider_failed", err.code)
    assert.matches("port 19123 of app is taken by " .. one.name, err.message, 1, true)
  end)

  it("finds its configuration files, expanded, with their modes, inside its working copy only", function()
    os.execute(("mkdir -p %s/image/etc %s/outside; ln -s %s/outside %s/image/link; echo old > %s/image/etc/old.conf"):format(world.dir, world.dir, world.dir, world.dir, world.dir))
    local function files(list) return { image = world.dir .. "/image", command = { "sleep", "99" }, ports = { { name = "http" } }, config_files = list } end
    local spec = world:provision(world:instance(files {
      { name = "a", path = "/etc/app.conf", content = "listen ${port.http}; ${1:-x} $uri $${HOME} ${instance.name}\n", mode = "0640" },
      { name = "b", path = "etc/old.conf", content = "new" },
      { name = "c", path = "run.sh", content = "#!/bin/sh\n", mode = "0755" },
    }))
    local work, port = world:path(spec, "work/app/"), world:status(spec).endpoints[1].port
    assert.equal(("listen %d; ${1:-x} $uri ${HOME} web-0\n"):format(port), process.read(work .. "etc/app.conf"))
    assert.equal("new", process.read(work .. "etc/old.conf"))
    assert.equal("640 755\n", process.sh(("echo $(stat -c %%a %setc/app.conf %srun.sh)"):format(work, work)))
    assert.equal("old\n", process.read(world.dir .. "/image/etc/old.conf"), "the image is not changed")
    for _, path in ipairs { "link/evil", "../evil", "a/../../evil" } do
      local ok, err = world.provider:operate("provision", world:instance(files { { name = "a", path = path, content = "x" } }))
      assert.is_nil(ok)
      assert.matches(path, err.message, 1, true)
    end
    assert.is_nil(process.read(world.dir .. "/outside/evil"))
  end)

  it("has volumes that outlive it, one for each index of a stateful set, until they are asked to go", function()
    local service = { command = { "sh", "-c", "cat data/x $VOLUME_DB/x; echo ${CTRLPLANE_INSTANCE} > data/x; echo end; exec sleep 99" }, volumes = { { name = "db", mount_path = "/data" } } }
    local set = { kind = "stateful_set", workload_id = "wkl_set" }
    local function with(index) return world:instance(service, { kind = set.kind, workload_id = set.workload_id, replica_index = index }) end
    local zero, one = world:provision(with(0)), world:provision(with(1))
    world:wait_log(zero, "^(end)$")
    world:wait_log(one, "^(end)$")
    assert(world.provider:operate("deprovision", zero))
    local again = world:provision(with(0))
    world:wait_log(again, "^(end)$")
    assert.same({ zero.instance_id, zero.instance_id, "end" }, (world:log(again)))
    assert.not_equal(process.read(world.dir .. "/data/volumes/wkl_set/db/0/x"), process.read(world.dir .. "/data/volumes/wkl_set/db/1/x"))
    again.remove_volumes, one.remove_volumes = true, true
    assert(world.provider:operate("deprovision", again))
    assert.is_truthy(process.read(world.dir .. "/data/volumes/wkl_set/db/1/x"), "another instance still has it")
    assert(world.provider:operate("deprovision", one))
    assert.equal("", process.sh("ls " .. world.dir .. "/data/volumes"))
  end)

  it("of a deployment shares its volume with the other replicas", function()
    local service = { command = { "sh", "-c", "echo x >> data/x; echo end; exec sleep 99" }, volumes = { { name = "db", mount_path = "data" } } }
    for _ = 1, 2 do world:wait_log(world:provision(world:instance(service)), "^(end)$") end
    assert.equal("x\nx\n", process.read(world.dir .. "/data/volumes/wkl_1/db/shared/x"))
  end)

  local info_world = process.open()
  local info = info_world.provider:info()
  info_world:close()

  it("that uses more memory than memory_mb is killed, and the message says why", function()
    if not info.limits_memory then return pending "no memory control group can be written here" end
    local spec = world:provision(world:instance { restart = "never", resources = { memory_mb = 16 },
      command = { "luajit", "-e", "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e6) .. i end" } })
    local seen = world:wait_seen(spec, "failed", 20000)
    assert.equal("app: killed: out of memory", seen.message)
  end)

  it("does not get more CPU than cpu_millis", function()
    if not info.limits_cpu then return pending "no cpu control group can be written here" end
    local spec = world:provision(world:instance { resources = { cpu_millis = 100 }, command = { "sh", "-c", "while :; do :; done" } })
    world:wait_seen(spec, "running")
    local function used()
      local stat = process.read("/proc/" .. world:state(spec).pid .. "/stat"):match "%) (.*)"
      local fields = {}
      for field in stat:gmatch "%S+" do fields[#fields + 1] = tonumber(field) or 0 end
      return (fields[12] + fields[13]) * 10
    end
    local before = used()
    world.provider:turn(1500)
    assert.is_true(used() - before < 500, "it used " .. used() - before .. " ms of 1,500")
  end)

  it("whose limits cannot be had runs with a warning", function()
    local spec = world:provision(world:instance { resources = { disk_mb = 10 }, command = { "sleep", "99" } })
    local seen = world:wait_seen(spec, "running")
    assert.matches("disk_mb is not in force", seen.message)
  end)
end)
