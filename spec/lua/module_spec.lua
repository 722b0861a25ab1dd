local core = require "ctrlplane.core"
local ctrlplane = require "ctrlplane"
local lab = require "spec.support.lab"

local HERE = "^spec/lua/module_spec.lua:%d+: "

--- What a misuse raises; the call must not be the last thing of a function, or its line is lost.
local function raised(fn, ...)
  local ok, err = pcall(fn, ...)
  assert(not ok, "it did not raise")
  return err
end

describe("the module", function()
  it("refuses another Lua before the C half is loaded", function()
    local chunk = assert(loadfile "lua/ctrlplane/init.lua")
    local other = { _VERSION = "Lua 5.4", error = error, require = function() error "loaded the C half" end }
    other.type, other.rawget, other._G = type, rawget, other
    setfenv(chunk, other)
    assert.matches("^ctrlplane needs LuaJIT, and this is Lua 5.4; run it with `luajit`", raised(chunk))
  end)

  it("is not linked with a second VM", function()
    local pipe = assert(io.popen("readelf -d " .. assert(package.searchpath("ctrlplane.core", package.cpath))))
    local needed = pipe:read "*a"
    pipe:close()
    assert.matches("NEEDED", needed)
    assert.not_matches("luajit", needed)
  end)

  it("knows its names", function()
    local err = raised(function() local _ = ctrlplane.opne end)
    assert.matches(HERE .. "ctrlplane has no 'opne'; did you mean 'open'%?", err)
    assert.has_error(function() local _ = ctrlplane.simulate end)
  end)

  it("has no method that is not in the table of operations, and all that are", function()
    local plane = lab.open()
    for _, op in ipairs(core.operations) do
      assert.is_function(plane[op.namespace][op.method], op.name)
    end
    lab.close(plane)
  end)
end)

describe("open", function()
  it("raises for options it does not know, with the nearest", function()
    local err = raised(function() local _ = ctrlplane.open { stoer = "x" } end)
    assert.matches(HERE .. "unknown option 'stoer' of open; did you mean 'store'%?", err)
  end)

  it("raises for types that cannot be meant", function()
    for _, options in ipairs { 7, "plane.db", { store = 1 }, { store = {} }, { store = ":memory:", strategies = "here" },
      { store = ":memory:", seed = "7" }, { store = ":memory:", strategies = { 1 } } } do
      assert.matches(HERE, raised(function() local _ = ctrlplane.open(options) end))
    end
  end)

  it("returns nil and the error for what is wrong in operation", function()
    for field, options in pairs {
      store = {},
      clock = { store = ":memory:", clock = "fast" },
      seed = { store = ":memory:", seed = -1 },
    } do
      local plane, err = ctrlplane.open(options)
      assert.is_nil(plane)
      assert.equal("invalid", err.code)
      assert.equal(field, err.field)
    end
    local _, err = ctrlplane.open { store = ":memory:", provider = "dokcer" }
    assert.matches("dokcer", err.message)
    _, err = ctrlplane.open { store = "/nowhere/at/all/plane.db", provider = "sim" }
    assert.matches("/nowhere/at/all", err.message)
  end)

  it("tells whose store it is when another has it", function()
    local path = os.tmpname()
    local plane = assert(ctrlplane.open { store = path, provider = "sim" })
    local again, err = ctrlplane.open { store = path, provider = "sim" }
    assert.is_nil(again)
    assert.equal("conflict", err.code)
    plane:close()
    plane = assert(ctrlplane.open { store = path, provider = "sim" })
    plane:close()
    for _, suffix in ipairs { "", "-wal", "-shm" } do os.remove(path .. suffix) end
    os.execute("rm -rf " .. path .. ".d")
  end)
end)

describe("a method", function()
  local plane
  before_each(function() plane = lab.open() end)
  after_each(function() lab.close(plane) end)

  it("raises, at the caller's line, for unknown options, with the nearest", function()
    local err = raised(function() local _ = plane.workloads:scale("web", { replica = 3 }) end)
    assert.matches(HERE .. "unknown option 'replica' of workloads:scale; did you mean 'replicas'%?$", err)
    err = raised(function() local _ = plane.workloads:pause("web", { zzz = 3 }) end)
    assert.matches(HERE .. "unknown option 'zzz' of workloads:pause; it takes wait, timeout$", err)
  end)

  it("raises for types that cannot be meant", function()
    for option, value in pairs {
      replicas = "three", name = true, services = "app", labels = 7, kind = 1, wait = {}, timeout = true,
    } do
      local err = raised(function() local _ = plane.workloads:create { [option] = value } end)
      assert.matches(HERE, err)
      assert.matches(option, err)
    end
  end)

  it("raises without an id, without a colon, and for arguments too many", function()
    assert.matches(HERE .. "workloads:get takes the id or slug of a workload first; got nothing",
      raised(function() local _ = plane.workloads:get() end))
    assert.matches(HERE .. "workloads:get takes the id or slug of a workload first; got table",
      raised(function() local _ = plane.workloads:get { "web" } end))
    assert.matches("call it with a colon, on its plane: plane.workloads:get",
      raised(function() local _ = plane.workloads.get "web" end))
    assert.matches("got 1 more arguments", raised(function() local _ = plane.workloads:get("web", {}, 1) end))
    assert.matches("takes a table of options; got a string",
      raised(function() local _ = plane.workloads:scale("web", "3") end))
  end)

  it("names the nearest namespace and method", function()
    assert.matches("a plane has no 'worklaods'; did you mean 'workloads'%?",
      raised(function() local _ = plane.worklaods end))
    assert.matches("plane.workloads has no 'depoly'; did you mean 'deploy'%?",
      raised(function() local _ = plane.workloads.depoly end))
    assert.matches("a plane has no 'templates'", raised(function() local _ = plane.templates end))
  end)

  it("returns nil and an error for values that are wrong in operation, and changes nothing", function()
    for field, spec in pairs {
      name = { name = "", services = { { name = "app", image = "x" } } },
      replicas = { name = "web", replicas = 1e9, services = { { name = "app", image = "x" } } },
      ["services[0].imgae"] = { name = "web", services = { { name = "app", imgae = "x" } } },
      ["services[0].env.A"] = { name = "web", services = { { name = "app", image = "x", env = { A = true } } } },
      timeout = { name = "web", timeout = "soon", services = { { name = "app", image = "x" } } },
    } do
      local workload, err = plane.workloads:create(spec)
      assert.is_nil(workload)
      assert.equal("invalid", err.code)
      assert.equal(field, err.field)
    end
    assert.equal(0, assert(plane.workloads:list()).total)
    assert.equal("not_found", select(2, plane.workloads:get "nobody").code)
  end)

  it("takes numbers where a text is meant, and empty tables for what the field is", function()
    local web = lab.workload(plane, {
      labels = {},
      services = { { name = "app", image = "x", env = { PORT = 8080 }, command = { "sleep", 3 }, depends_on = {},
        ports = {} } },
    })
    assert.equal("8080", web.services[1].env.PORT)
    assert.same({ "sleep", "3" }, setmetatable(web.services[1].command, nil))
  end)

  it("keeps to its timeout; the work goes on", function()
    local web = lab.workload(plane)
    local answer, err = plane.workloads:scale(web.id, { replicas = 50, wait = "1h", timeout = 0.001 })
    assert.is_nil(answer)
    assert.equal("timeout", err.code)
    assert.equal(50, assert(plane.workloads:get(web.id)).replica_count)
  end)

  it("answers plain code, tasks and two calls at once alike", function()
    local web = lab.workload(plane)
    local a = plane:spawn(function() return plane.workloads:get "web" end)
    local b = plane:spawn(function() return plane.workloads:get_by_slug "web" end)
    assert.equal(web.id, assert(plane.workloads:get "web").id)
    assert.equal(web.id, a:wait().id)
    assert.equal(web.id, b:wait().id)
  end)
end)

describe("step and fd", function()
  it("let another loop drive the plane", function()
    local plane = assert(ctrlplane.open { store = ":memory:", provider = "sim" })
    assert.is_true(plane:fd() >= 0)
    local total
    plane:spawn(function()
      plane:sleep(0.02)
      total = assert(plane.workloads:list()).total
    end)
    local turns = 0
    while not total do
      plane:step(0.1)
      turns = turns + 1
      assert(turns < 1000)
    end
    assert.equal(0, total)
    assert.matches("clock of this plane is real", raised(function() plane.clock:advance "1s" end))
    plane:close()
  end)

  it("count what is pending", function()
    local plane = lab.open()
    local task = plane:spawn(function() plane:sleep "1s" end)
    local stream = assert(plane.events:stream())
    plane:step()
    assert.same({ tasks = 1, calls = 1, streams = 1 }, plane:pending())
    task:wait()
    stream:close()
    assert.same({ tasks = 0, calls = 0, streams = 0 }, plane:pending())
    lab.close(plane)
  end)
end)
