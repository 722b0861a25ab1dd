local command = require "spec.support.command"
local house = require "spec.support.house"

describe("run, demo and doctor", function()
  local home
  before_each(function() home = command.open() end)
  after_each(function() home:close() end)

  it("runs a script as a task, with its arguments, options too", function()
    home:file("say.lua", [[
      local ctrlplane = require "ctrlplane"
      print(arg[0], arg[1], arg[2], select("#", ...), ctrlplane.version)
      return 7
    ]])
    local code, out = home:run { "run", "say.lua", "--loud", "-o" }
    assert.equal(7, code)
    assert.equal(("say.lua\t--loud\t-o\t2\t%s\n"):format(home:json("version").version), out)
  end)

  it("runs the same script as plain luajit does", function()
    home:file("count.lua", ([[
      local ctrlplane = require "ctrlplane"
      local plane = assert(ctrlplane.open { store = arg[1] })
      local web = assert(plane.workloads:create { name = "web", replicas = 2, wait = "20s",
        services = { { name = "app", image = "%s", ports = { { name = "http" } } } } })
      print(web.state, web.ready_replicas)
      print(assert(plane.workloads:delete(web.id, { wait = "20s" })).state)
      plane:close()
    ]]):format(house.program "hello"))
    local expected = "active\t2\ndestroyed\n"
    assert.equal(expected, (home:ok "run count.lua one.db"))
    local source = io.popen("pwd"):read "*l"
    local code, out, err = house.run({ "/usr/bin/env", "luajit", "count.lua", "two.db" }, {
      LUA_PATH = ("%s/lua/?.lua;%s/lua/?/init.lua;;"):format(source, source),
      LUA_CPATH = house.build() .. "/lua/?.so;;",
      LD_PRELOAD = os.getenv "CTRLPLANE_PRELOAD" or false,
    }, { cwd = home.folder })
    assert.equal(0, code, err)
    assert.equal(expected, out)
  end)

  it("says where a script failed", function()
    home:file("bad.lua", "local x = nil\nprint(x.y)\n")
    local code, _, err = home:run "run bad.lua"
    assert.equal(1, code)
    assert.truthy(err:find("bad.lua:2:", 1, true), err)
    code, _, err = home:run "run missing.lua"
    assert.equal(3, code, err)
    home:file("worse.lua", "local = 3")
    code, _, err = home:run "run worse.lua"
    assert.equal(1, code)
    assert.truthy(err:find("worse.lua:1:", 1, true), err)
  end)

  it("shows a deploy and a rollback in the demo, and leaves nothing", function()
    local code, out, err = home:run("demo", { timeout = 110 })
    assert.equal(0, code, err .. out)
    assert.truthy(err:find("rolled_back", 1, true), err)
    assert.truthy(err:find("Done.", 1, true), err)
    local _, rows = out:gsub(" running ", "")
    assert.equal(6, rows)
    assert.same({}, house.with_environment("TMPDIR", home.folder))
  end)

  it("shows each setting with its source", function()
    local value, code = home:json "doctor"
    assert.equal(0, code)
    local by_name = {}
    for _, row in ipairs(value.items) do by_name[row.name] = row end
    assert.same({ home.store, "CTRLPLANE_STORE" }, { by_name.store.value, by_name.store.source })
    assert.truthy(by_name.engine.value:find("nobody owns the store", 1, true))
    assert.is_true(house.exists(by_name.shim.value))
    local named = home:json { "doctor", "--store", home.folder .. "/other.db" }
    for _, row in ipairs(named.items) do
      if row.name == "store" then assert.same({ home.folder .. "/other.db", "--store" }, { row.value, row.source }) end
    end
    local _, bad = home:json { "doctor", "--store", "/proc/no/plane.db" }
    assert.equal(1, bad)
    assert.is_false(house.exists(home.socket)) -- it only looks
    local _, said = home:ok "ls" -- starts an engine
    for _, row in ipairs(home:json("doctor").items) do
      if row.name == "engine" then assert.equal(command.started_pid(said), row.pid) end
    end
    home:ok "stop"
  end)

  it("lists strategies and their parameters", function()
    local names = home:ok "strategy ls -o name"
    for _, name in ipairs { "initial", "recreate", "rolling" } do assert.truthy(("\n" .. names):find("\n" .. name .. "\n", 1, true)) end
    local rolling = home:json "strategy show rolling"
    assert.truthy(rolling.params.batch)
    local value, code = home:json "strategy show rollign"
    assert.equal(3, code)
    assert.truthy((value.error.message .. (value.error.hint or "")):find("rolling", 1, true))
  end)
end)
