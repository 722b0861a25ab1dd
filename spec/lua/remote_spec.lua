--- The same methods over HTTP: a served engine on the sim provider, and a plane that is connected to it.
local ctrlplane = require "ctrlplane"
local house = require "spec.support.house"
local lab = require "spec.support.lab"

local function spec_of(name, fields)
  local spec = { name = name, services = { { name = "app", image = "app" } } }
  for key, value in pairs(fields or {}) do spec[key] = value end
  return spec
end

describe("a connection", function()
  local folder, socket, server, plane
  setup(function()
    folder = house.folder()
    socket = folder .. "/plane.db.sock"
    server = house.spawn({ house.program "ctrlplane", "serve", "--store", folder .. "/plane.db", "--provider", "sim" })
    house.wait_for("the engine answers", function() return house.get(socket, "/readyz", { timeout = 1 }) == 200 end)
  end)
  teardown(function()
    server:signal "TERM"
    local ended = server:wait(20)
    server:kill()
    house.remove(folder)
    assert.same({ code = 0 }, ended)
  end)
  before_each(function() plane = assert(ctrlplane.connect { socket = socket }) end)
  after_each(function()
    local left = plane:pending()
    plane:close()
    assert.same({ tasks = 0, calls = 0, streams = 0 }, left)
  end)

  it("has the methods and the answers of a plane", function()
    assert(plane:ping())
    assert.equal(0, assert(plane:stats()).workloads)
    local web = assert(plane.workloads:create(spec_of("web", { replicas = 2, labels = { a = "1" }, wait = "20s" })))
    assert.equal("active", web.state)
    assert.equal(2, web.ready_replicas)
    assert.same(web.id, assert(plane.workloads:get "web").id)
    assert.equal(2, #assert(plane.workloads:list_instances(web.id)).items)
    local scaled = assert(plane.workloads:scale(web.id, { replicas = 3, wait = "20s" }))
    assert.equal(3, scaled.ready_replicas)
    local d = assert(plane.workloads:deploy("web", {
      services = { { name = "app", image = "other" } }, surge = "50%", wait = "20s",
    }))
    assert.equal("succeeded", d.state)
    assert.equal(2, #assert(plane.workloads:list_releases(web.id)).items)
    assert.equal(1, assert(plane.workloads:list { state = "active" }).total)
    assert.equal("destroyed", assert(plane.workloads:delete(web.id, { wait = "20s" })).state)
  end)

  it("fails with the errors of a plane", function()
    local near = lab.open()
    local function compare(call)
      local a, err_a = call(near)
      local b, err_b = call(plane)
      assert.is_nil(a)
      assert.is_nil(b)
      for _, key in ipairs { "code", "message", "field", "hint" } do assert.equal(err_a[key], err_b[key]) end
      assert.equal(tostring(err_a), tostring(err_b))
    end
    compare(function(p) return p.workloads:get "nobody" end)
    compare(function(p) return p.workloads:get "a b/../c?d%00" end)
    compare(function(p) return p.workloads:create(spec_of "") end)
    compare(function(p) return p.workloads:create { name = "x", services = { { name = "app", imgae = "x" } } } end)
    compare(function(p) return p.workloads:list { limit = 100000 } end)
    compare(function(p) return p.workloads:scale("nobody", { replicas = -1 }) end)
    lab.close(near)
  end)

  it("raises for misuse before anything is sent", function()
    local ok, err = pcall(function() local _ = plane.workloads:scale("web", { replica = 1 }) end)
    assert.is_false(ok)
    assert.matches("did you mean 'replicas'", err)
  end)

  it("follows streams, suspending the task", function()
    local seen, last = {}, nil
    local task = plane:spawn(function()
      for event in plane.events:stream { types = { "workload.*" }, timeout = "20s" } do
        assert(not last or event.seq > last)
        last = event.seq
        seen[#seen + 1] = event.type
        if event.type == "workload.deleted" then break end
      end
    end)
    -- The stream begins with what comes after it was opened; another connection would not help us know when that is.
    plane:sleep(0.2)
    local w = assert(plane.workloads:create(spec_of("streamed", { wait = "20s" })))
    assert(plane.workloads:delete(w.id, { wait = "20s" }))
    task:wait()
    assert.equal("workload.created", seen[1])
    assert.equal("workload.deleted", seen[#seen])
    task = nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
  end)

  it("reads past events from any position, and ends when its time is over", function()
    local w = assert(plane.workloads:create(spec_of "past"))
    local first
    for event in plane.events:stream { after = 0, timeout = "1s" } do
      first = first or event.seq
      if event.workload_id == w.id then break end
    end
    assert.equal(1, first)
    assert(plane.workloads:delete(w.id, { wait = "20s" }))
    collectgarbage()
    collectgarbage()
  end)

  it("holds a stream up while nobody reads it, and loses nothing", function()
    local last = 0
    repeat
      for i = 1, 50 do
        plane:spawn(function()
          local w = assert(plane.workloads:create(spec_of("churn" .. last .. "-" .. i)))
          assert(plane.workloads:delete(w.id, { wait = "20s" }))
        end)
      end
      plane:run()
      last = assert(plane.events:list { limit = 1 }).items[1].seq
    until last > 1200
    local stream = assert(plane.events:stream { after = 0 })
    for _ = 1, 50 do plane:step(0.02) end -- far more is sent than is queued
    for seq = 1, last do assert.equal(seq, assert(stream:next { timeout = "10s" }).seq) end
    stream:close()
  end)

  it("says that a stream cannot be opened, when it is read", function()
    local stream = assert(plane.workloads:stream_logs("nobody", { follow = true }))
    local _, err = stream:next()
    assert.equal("not_found", err.code)
  end)

  it("has many calls in flight on few connections", function()
    local tasks = {}
    for i = 1, 100 do
      tasks[i] = plane:spawn(function() return assert(plane.workloads:create(spec_of("many" .. i))).id end)
    end
    local ids = {}
    for i, task in ipairs(tasks) do ids[i] = assert(task:wait()) end
    local list = assert(plane.workloads:list { limit = 500 })
    assert.is_true(list.total >= 100)
    for _, id in ipairs(ids) do plane:spawn(function() assert(plane.workloads:delete(id)) end) end
    plane:run()
  end)

  it("gives up after its timeout; the work goes on", function()
    local w = assert(plane.workloads:create(spec_of "slow"))
    local answer, err = plane.workloads:scale(w.id, { replicas = 300, wait = "30s", timeout = 0.01 })
    assert.is_nil(answer)
    assert.equal("timeout", err.code)
    house.wait_for("the scale is in force", function()
      return assert(plane.workloads:get(w.id)).replica_count == 300
    end)
    assert(plane.workloads:delete(w.id))
  end)

  it("is clean when it is closed with calls and streams in flight", function()
    for round = 0, 3 do
      local other = assert(ctrlplane.connect { socket = socket })
      for _ = 1, 10 do other:spawn(function() other.workloads:list() end) end
      local _ = assert(other.events:stream {})
      for _ = 1, round do other:step(0.01) end
      other:close()
    end
  end)

  it("may share a program, and a task, with a plane of its own", function()
    local near = lab.open()
    local total = near:run(function()
      near:sleep "1h" -- of its virtual time
      return assert(plane.workloads:list()).total
    end)
    assert.is_number(total)
    lab.close(near)
  end)
end)

describe("a connection to nobody", function()
  it("fails at the call, and says how to start an engine", function()
    local plane = assert(ctrlplane.connect { socket = "/tmp/cp-nobody.sock" })
    local _, err = plane.workloads:list()
    assert.equal("provider_unavailable", err.code)
    assert.matches("ctrlplane serve", err.hint)
    plane:close()
  end)

  it("wants a socket or a url", function()
    for _, options in ipairs { {}, { socket = "/x", url = "http://127.0.0.1:1" }, { url = "ftp://x" } } do
      local plane, err = ctrlplane.connect(options)
      assert.is_nil(plane)
      assert.equal("invalid", err.code)
    end
    assert.has_error(function() ctrlplane.connect { sokcet = "/x" } end)
    assert.has_error(function() ctrlplane.connect { socket = 1 } end)
    assert.has_error(function() ctrlplane.connect "x" end)
  end)

  it("is told from a server that is not ctrlplane", function()
    local port = house.free_port()
    local hello = house.spawn({ house.program "hello" }, { PORT = tostring(port) })
    local plane = assert(ctrlplane.connect { url = "http://127.0.0.1:" .. port .. "/" })
    house.wait_for("it listens", function() return house.get(port, "/", { timeout = 1 }) end)
    local _, err = plane.workloads:get "web"
    hello:kill()
    plane:close()
    assert.equal("internal", err.code)
    assert.matches("is it ctrlplane%?$", err.message)
  end)
end)
