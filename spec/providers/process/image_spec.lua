-- ctest: timeout=120 labels=process
--- Images by content hash, working copies, and commands beside a service.
local process = require "spec.support.process"

describe("an image", function()
  local world
  before_each(function() world = process.open() end)
  after_each(function() world:close() end)

  local function refused(service, pattern, code)
    service.name = "app"
    local ok, err = world.provider:resolve { service }
    assert.is_nil(ok)
    assert.equal(code or "invalid", err.code)
    assert.equal("services[0].image", err.field)
    assert.matches(pattern, err.message)
  end

  it("that is an executable is copied by its hash, keeps its name, and runs without a command", function()
    local services = assert(world.provider:resolve { { name = "app", image = process.hello } })
    local hash = process.sh("sha256sum " .. process.hello):match "^%x+"
    assert.equal("hello@sha256:" .. hash, services[1].image)
    assert.equal(services[1].image, world.provider:resolve(services)[1].image)
    local spec = world:provision(world:instance { image = process.hello, ports = { { name = "http" } } })
    world:wait_log(spec, "listening on port " .. world:status(spec).endpoints[1].port)
  end)

  it("is tomorrow what it was today, whatever the path points to by then", function()
    local path = world.dir .. "/server"
    process.write(path, "#!/bin/sh\necho v1\nexec sleep 99\n")
    os.execute("chmod 755 " .. path)
    local first = world:instance { image = path }
    process.write(path, "#!/bin/sh\necho v2\nexec sleep 99\n")
    local second = world:instance { image = path }
    assert.not_equal(first.services[1].image, second.services[1].image)
    world:wait_log(world:provision(first), "^v1$")
    world:wait_log(world:provision(second), "^v2$")
    os.remove(path)
    local third = world:instance { image = first.services[1].image }
    world:wait_log(world:provision(third), "^v1$")
  end)

  it("that is a folder becomes the working directory: a copy for each instance, links and modes kept", function()
    os.execute(("cd %s && mkdir -p app/bin app/data && printf '#!/bin/sh\\necho $(cat data/text)\\necho changed > data/text\\nexec sleep 99\\n' > app/bin/run && chmod 755 app/bin/run && echo text > app/data/text && ln -s data/text app/link"):format(world.dir))
    local service = { image = world.dir .. "/app", command = { "bin/run" } }
    local one = world:provision(world:instance(service))
    world:wait_log(one, "^text$")
    world:wait("the change", function() return process.read(world:path(one, "work/app/link")) == "changed\n" end)
    local two = world:provision(world:instance(service))
    world:wait_log(two, "^text$")
    assert.equal("text\n", process.read(world.dir .. "/app/data/text"))
    assert.matches("^app@sha256:%x+$", one.services[1].image)
  end)

  it("has the hash of its content alone: neither path nor times nor order of making", function()
    os.execute(("cd %s && mkdir -p x/a/t y/b/t && echo 1 > x/a/t/1 && echo 2 > x/a/t/2 && echo 2 > y/b/t/2 && echo 1 > y/b/t/1 && cp -r x/a y/c && chmod +x y/c/t/1"):format(world.dir))
    local function hash(path) return world.provider:resolve({ { name = "app", image = world.dir .. path, command = { "true" } } })[1].image:match "@(.*)" end
    assert.equal(hash "/x/a", hash "/y/b")
    assert.not_equal(hash "/x/a", hash "/y/c", "the permission to execute is content")
    process.write(world.dir .. "/x/a/t/1", "3\n")
    assert.not_equal(hash "/x/a", hash "/y/b")
  end)

  it("that cannot be one is refused with its field, and nothing is kept", function()
    os.execute(("mkdir %s/folder; mkfifo %s/folder/pipe; touch %s/plain"):format(world.dir, world.dir, world.dir))
    refused({ image = "/nonexistent/server" }, "is '/nonexistent/server': No such file or directory")
    refused({ image = world.dir .. "/plain" }, "cannot be executed")
    refused({ image = world.dir .. "/folder" }, "say what to run in it with command")
    refused({ image = world.dir .. "/folder", command = { "x" } }, "pipe: an image holds files, folders and links only")
    refused({ image = "app@sha256:" .. ("0"):rep(64) }, "is not in .*/images any more")
    refused({}, "is empty and there is no command")
    assert.equal("", process.sh("ls " .. world.dir .. "/data/images"))
  end)
end)

describe("a command beside a service", function()
  local world, spec
  before_each(function()
    world = process.open()
    spec = world:provision(world:script("exec sleep 99", { env = { COLOUR = "blue" }, user = process.sh "id -u" == "0\n" and "nobody" or nil }))
    world:wait_seen(spec, "running")
  end)
  after_each(function() world:close() end)

  it("runs with its environment, user and folder; output and exit code come back", function()
    local result = assert(world.provider:exec(spec.instance_id, "app", { "sh", "-c", "echo $COLOUR; id -u; pwd; echo err >&2; exit 42" }, 5000))
    assert.equal(42, result.exit_code)
    local uid = process.sh("stat -c %u /proc/" .. world:state(spec).pid)
    assert.equal(("blue\n%s%s\nerr\n"):format(uid, world:path(spec, "work/app")), result.output)
  end)

  it("that does not exist, of a service that does not run, of an unknown instance: errors, never an exit code 0", function()
    for _, case in ipairs {
      { spec.instance_id, "app", { "/nonexistent" }, "provider_failed", "exec /nonexistent: No such file or directory" },
      { spec.instance_id, "other", { "true" }, "provider_failed", "does not run" },
      { "inst_unknown", "app", { "true" }, "not_found", "no instance inst_unknown" },
      { spec.instance_id, "app", {}, "invalid", "command is empty" },
    } do
      local result, err = world.provider:exec(case[1], case[2], case[3], 5000)
      assert.is_nil(result)
      assert.equal(case[4], err.code)
      assert.matches(case[5], err.message, 1, true)
    end
  end)

  it("that does not end in time is ended with all that it started", function()
    local result, err = world.provider:exec(spec.instance_id, "app", { "sh", "-c", "setsid sleep 641 & sleep 640" }, 200)
    assert.is_nil(result)
    assert.equal("timeout", err.code)
    world:wait("both to end", function() return #process.processes(spec.instance_id, "^sleep 64") == 0 end)
    assert.equal("running", world:status(spec).seen)
  end)

  it("ends when the engine goes away", function()
    local program = ([[local p = require("ctrlplane.core").testing.process.open { data_dir = "%s/data", shim = "%s", plane_id = "plane_spec" }
      p:exec("%s", "app", { "sleep", "642" }, 60000)]]):format(world.dir, process.shim, spec.instance_id)
    process.write(world.dir .. "/engine.lua", program)
    local engine = tonumber(process.sh(("LD_PRELOAD=$CTRLPLANE_PRELOAD luajit %s/engine.lua > /dev/null 2>&1 & echo $!"):format(world.dir)))
    world:wait("the command", function() return #process.processes(spec.instance_id, "^sleep 642") == 1 end)
    process.kill(engine)
    world:wait("its end", function() return #process.processes(spec.instance_id, "^sleep 642") == 0 end)
    assert.equal("running", world:status(spec).seen)
  end)

  it("leaves the service and its log alone, 16 times in a row", function()
    local state = world:state(spec)
    for i = 1, 16 do assert.equal(i, assert(world.provider:exec(spec.instance_id, nil, { "sh", "-c", "exit " .. i }, 5000)).exit_code) end
    assert.same(state, world:state(spec))
    assert.same({}, (world:log(spec)))
  end)
end)
