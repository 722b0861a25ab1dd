local ctrlplane = require "ctrlplane"
local lab = require "spec.support.lab"

describe("a stream", function()
  local plane, clock
  before_each(function() plane, clock = lab.open { seed = 3 } end)
  after_each(function() lab.close(plane) end)

  it("is an iterator: events in order, from any position", function()
    lab.workload(plane, { replicas = 2 })
    local seqs, types = {}, {}
    for event in plane.events:stream { after = 0, timeout = "1s" } do
      seqs[#seqs + 1] = event.seq
      types[event.type] = (types[event.type] or 0) + 1
    end
    for i, seq in ipairs(seqs) do assert.equal(i, seq) end
    assert.equal(1, types["workload.created"])
    assert.equal(2, types["instance.started"])
  end)

  it("suspends a task, and wakes it with what comes", function()
    local seen = {}
    local task = plane:spawn(function()
      for event in plane.events:stream { types = { "workload.*" } } do
        seen[#seen + 1] = event.type
        if event.type == "workload.scaled" then break end
      end
    end)
    local web = lab.workload(plane)
    assert(plane.workloads:scale(web.id, { replicas = 2, wait = "1m" }))
    task:wait()
    assert.same({ "workload.created", "workload.scaled" }, seen)
    task = nil -- luacheck: ignore
    collectgarbage() -- a loop that was left by break leaves its stream to the collector
    collectgarbage()
  end)

  it("ends plainly when its time is over", function()
    local stream = assert(plane.events:stream { timeout = "3s" })
    local before = clock:now()
    assert.is_nil(stream())
    assert.equal(3, clock:now() - before)
    assert.is_nil(stream())
    assert.same({ nil, nil }, { stream:next() })
  end)

  it("has a timeout per event as well, which leaves it open", function()
    local stream = assert(plane.events:stream {})
    local event, err = stream:next { timeout = "2s" }
    assert.is_nil(event)
    assert.equal("timeout", err.code)
    lab.workload(plane, { settle = false })
    assert.equal("workload.created", assert(stream:next { timeout = "2s" }).type)
    stream:close()
    assert.is_nil((stream:next()))
  end)

  it("cannot be opened on what is not there: nil and the error", function()
    local stream, err = plane.workloads:stream_logs("nobody", { follow = true })
    assert.is_nil(stream)
    assert.equal("not_found", err.code)
  end)

  it("raises in a for loop when it breaks off, and says nil, err to next", function()
    local other = assert(ctrlplane.open { store = ":memory:", provider = "sim", clock = "virtual" })
    local stream = assert(other.events:stream {})
    other:close()
    local _, err = stream:next()
    assert.equal("cancelled", err.code)
    local ok, raised = pcall(function()
      for _ in stream do error "an event?" end
    end)
    assert.is_false(ok)
    assert.equal("cancelled", raised.code)
  end)

  it("is read by one task at a time", function()
    local stream = assert(plane.events:stream {})
    local task = plane:spawn(function() return stream:next() end)
    plane:step()
    assert.matches("being read by another task", select(2, pcall(function() local _ = stream:next() end)))
    task:cancel()
    local _, err = task:wait()
    assert.equal("cancelled", err.code)
    stream:close()
  end)

  it("loses nothing while nobody reads, however much comes", function()
    local stream = assert(plane.events:stream { after = 0 })
    for i = 1, 120 do assert(plane.workloads:create { name = "w" .. i, services = { { name = "app", image = "x" } } }) end
    clock:advance "1m"
    local last = 0
    local total = assert(plane.events:list { limit = 1 }).items[1].seq
    assert.is_true(total > 600)
    while last < total do
      local event = assert(stream:next { timeout = "1s" })
      assert.equal(last + 1, event.seq)
      last = event.seq
    end
    stream:close()
  end)

  it("follows the logs of all replicas", function()
    local web, world = lab.workload(plane, { replicas = 2 }), lab.world(plane)
    local lines = {}
    local task = plane:spawn(function()
      for event in plane.workloads:stream_logs(web.id, { follow = true, tail = 0, timeout = "10s" }) do
        lines[#lines + 1] = event.replica_index .. event.line
      end
    end)
    clock:advance "1s"
    for _, instance in ipairs(lab.instances(plane, web)) do assert(world:write(instance.id, "app", "hello")) end
    task:wait()
    table.sort(lines)
    assert.same({ "0hello", "1hello" }, lines)
  end)
end)
