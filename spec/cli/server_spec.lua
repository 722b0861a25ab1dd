local api = require "spec.support.api"
local command = require "spec.support.command"
local house = require "spec.support.house"
local posix = require "posix.unistd"

describe("who owns a store", function()
  local home
  before_each(function() home = command.open() end)
  after_each(function() home:close() end)

  it("keeps store and log to itself, and is asked by the path of its socket", function()
    home:file("web.json", command.web { replicas = 1 })
    home:ok "up web.json"
    local pipe = assert(io.popen("stat -c %a " .. home.store .. " " .. home.store .. ".log"))
    assert.equal("600\n600\n", pipe:read "*a")
    pipe:close()
    for _, prefix in ipairs { "unix:", "unix://" } do
      local out = home:ok("ls --store /nowhere/plane.db --url " .. prefix .. home.socket)
      assert.matches("web", out)
    end
    local code, _, err = home:run "ls --url ftp://x"
    assert.equal(1, code)
    assert.matches("write it like unix:/path/plane.db.sock or http://127.0.0.1:7070", err, 1, true)
  end)

  it("is an engine that the first command starts, and says so with its pid and how to stop it", function()
    local out, err = home:ok "ls"
    assert.equal("", out)
    local pid = command.started_pid(err)
    assert.truthy(pid, err)
    assert.is_true(house.alive(pid))
    assert.truthy(err:find("ctrlplane stop", 1, true), err)
    local _, second = home:ok "ls"
    assert.is_nil(command.started_pid(second))
    home:ok "stop"
    house.wait_for("the engine is gone", function() return not house.alive(pid) end)
    assert.is_false(house.exists(home.socket))
  end)

  it("is one engine also when eight commands come at once", function()
    local processes = {}
    for i = 1, 8 do processes[i] = house.spawn({ house.program "ctrlplane", "ls", "-o", "json" }, home:environment()) end
    local started = 0
    for i, process in ipairs(processes) do
      local ended = process:wait(60)
      assert.same({ code = 0 }, ended, ("command %d: %s"):format(i, process:stderr()))
      if command.started_pid(process:stderr()) then started = started + 1 end
      process:kill()
    end
    assert.equal(1, started)
    home:ok "stop"
  end)

  it("is named to a second engine, which is refused and changes nothing", function()
    local _, err = home:ok "ls"
    local pid = command.started_pid(err)
    local code, _, refused = home:run "serve"
    assert.equal(1, code)
    assert.truthy(refused:find(tostring(pid), 1, true), refused)
    assert.is_true(api.new(home.socket):ready())
  end)

  it("can be killed: the next command starts another on the same store", function()
    home:file("web.json", command.web { replicas = 1 })
    local _, err = home:ok "up web.json"
    local before = home:json("ps web").items
    local pid = command.started_pid(err)
    os.execute("kill -9 " .. pid)
    house.wait_for("it is dead", function() return not house.alive(pid) end)
    local after
    house.wait_for("it is adopted", function()
      after = home:json("ps web").items
      return after[1] and after[1].ready
    end)
    assert.equal(before[1].id, after[1].id)
    assert.same(before[1].endpoints, after[1].endpoints)
  end)

  it("leaves at SIGTERM while its workloads go on", function()
    home:file("web.json", command.web { replicas = 1 })
    local _, err = home:ok "up web.json"
    local port = home:json("ps web").items[1].endpoints[1].port
    local pid = command.started_pid(err)
    os.execute("kill -TERM " .. pid)
    house.wait_for("it is gone", function() return not house.alive(pid) end)
    assert.is_false(house.exists(home.socket))
    assert.equal(200, (house.get(port, "/healthz")))
  end)

  it("keeps its socket to its user", function()
    home:ok "ls"
    local pipe = io.popen("stat -c %a " .. home.socket)
    assert.equal("600", pipe:read "*l")
    pipe:close()
  end)

  it("is not said to be absent to a user whom it does not let in (4)", function()
    if posix.geteuid() ~= 0 then return pending "becoming another user needs root" end
    local _, said = home:ok "ls"
    os.execute("chmod 755 " .. home.folder)
    local function as_other(arguments)
      local argv = { "/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", house.program "ctrlplane" }
      for word in arguments:gmatch "%S+" do argv[#argv + 1] = word end
      return house.run(argv, home:environment(), { cwd = "/" })
    end
    for _, verb in ipairs { "ls", "stop" } do
      local code, _, err = as_other(verb)
      assert.equal(4, code, err)
      assert.truthy(err:find(home.socket .. " is for the user whose engine it is", 1, true), err)
    end
    local code, out = as_other "doctor"
    assert.equal(1, code, out)
    assert.truthy(out:find("does not let this user in", 1, true), out)
    assert.is_true(house.alive(command.started_pid(said)))
  end)

  it("says why it cannot start, and where it could", function()
    local other = home.folder .. "/locked"
    local code, _, err = home:run { "--store", "", "ls" }
    assert.equal("2 ctrlplane: --store is empty; give a path\n", code .. " " .. err)
    code, _, err = home:run { "--store", ":memory:", "ls" }
    assert.equal(2, code, err)
    code, _, err = home:run { "--store", "/proc/nothing.db", "ls" }
    assert.equal(1, code, err)
    assert.truthy(err:find("^ctrlplane: no engine can be started here: /proc/nothing.db.log: .*%-%-store"), err)
    house.write(other, "")
    code, _, err = home:run { "--store", other .. "/deep/plane.db", "ls" }
    assert.equal(1, code, err)
    assert.truthy(err:find("cannot be made; give another path with --store or CTRLPLANE_STORE", 1, true), err)
  end)

  it("says where the log is when it cannot start", function()
    house.write(home.store, ("this is no database, and long enough to be read as one; "):rep(20))
    local value, code, err = home:json "ls"
    assert.equal(1, code)
    assert.truthy(value.error.message:find("did not start", 1, true), value.error.message)
    assert.equal("see " .. home.store .. ".log", value.error.hint)
    assert.equal("", err)
  end)
end)
