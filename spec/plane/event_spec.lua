-- Events: rows of the transaction that they tell of; positions; what a failed request leaves behind.
local core = require "ctrlplane.core"
local house = require "spec.support.house"
local lab = require "spec.support.lab"

describe("events", function()
  local plane, clock, folder

  local function open(options)
    plane, clock = lab.open(options or { seed = 6 })
  end
  after_each(function()
    core.testing.failpoint(nil)
    lab.close(plane)
    if folder then
      house.remove(folder)
      folder = nil
    end
  end)

  local function without_gap()
    local all = lab.events(plane)
    for i, event in ipairs(all) do
      assert.equal(i, event.seq)
    end
    return #all
  end

  it("are numbered without a gap, also around refused requests", function()
    open()
    local web = lab.workload(plane, { replicas = 2 })
    for i = 1, 20 do
      plane.workloads:scale(web.id, { replicas = i % 3 == 0 and -1 or i })
      plane.workloads:create { name = "web", services = { { name = "app", image = "app" } } }
      plane.workloads:deploy(web.id, { services = { { name = "nobody" } } })
      plane.workloads:scale("nobody", { replicas = 1 })
    end
    clock:advance "1m"
    assert.is_true(without_gap() > 20)
  end)

  it("are numbered on without a gap after a failed commit and after a crash", function()
    folder = house.folder()
    open { seed = 6, store = folder .. "/plane.db" }
    local web = lab.workload(plane, { replicas = 2 })
    local passes = 0
    core.testing.failpoint(function(name) -- the second pass of a commit is the store's own
      passes = passes + (name == "before_commit" and 1 or 0)
      return name == "before_commit" and passes == 4
    end)
    local ok, err = plane.workloads:scale(web.id, { replicas = 4 })
    if ok then -- the first commit was somebody else's
      ok, err = plane.workloads:scale(web.id, { replicas = 6 })
    end
    assert.is_nil(ok)
    assert.equal("storage_failed", err.code)
    assert.equal("not_done", err.details.outcome)
    core.testing.failpoint(nil)
    local before = without_gap()
    plane, clock = lab.crash(plane)
    assert(plane.workloads:scale(web.id, { replicas = 5, wait = "1m" }))
    assert.is_true(without_gap() > before)
  end)

  it("carry who did it, and to what", function()
    open()
    local web = lab.workload(plane, { replicas = 1 })
    assert(plane.workloads:pause(web.id, { wait = "1m" }))
    local event = lab.events(plane, { types = { "workload.paused" } })[1]
    assert.equal("local", event.actor_id)
    assert.equal(web.id, event.workload_id)
    local deleted = lab.events(plane, { types = { "instance.deleted" } })[1]
    assert.equal("engine", deleted.actor_id)
    assert.matches("^inst_", deleted.instance_id)
    assert.matches("^evt_", deleted.id)
    assert.matches("^%d+%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$", deleted.at)
  end)

  it("can be narrowed by type, kind of type and workload", function()
    open()
    local a = lab.workload(plane, { name = "a", replicas = 2 })
    lab.workload(plane, { name = "b", replicas = 1 })
    assert.equal(3, lab.count_events(plane, "instance.started"))
    assert.equal(2, #lab.events(plane, { types = { "instance.started" }, workload = "a" }))
    assert.equal(2, #lab.events(plane, { types = { "instance.started" }, workload = a.id }))
    for _, event in ipairs(lab.events(plane, { types = { "instance.*" } })) do
      assert.matches("^instance%.", event.type)
    end
    local page = assert(plane.events:list { types = { "instance.*", "workload.created" }, workload = "a", limit = 2 })
    assert.equal(2, #page.items)
    assert.equal(5, page.total)
    local _, err = plane.events:list { workload = "c" }
    assert.equal("not_found", err.code)
    _, err = plane.events:list { cursor = "events.x" }
    assert.equal("cursor", err.field)
  end)

  it("are streamed from a position, each once and in order, also those that are still to come", function()
    open()
    local web = lab.workload(plane, { replicas = 2 })
    local seqs = {}
    plane:spawn(function()
      local stream = assert(plane.events:stream { after = 2 })
      for event in stream do
        seqs[#seqs + 1] = event.seq
        if event.type == "workload.deleted" then
          break
        end
      end
      stream:close()
    end)
    clock:advance "1s"
    assert.equal(3, seqs[1])
    assert(plane.workloads:scale(web.id, { replicas = 4, wait = "1m" }))
    assert(plane.workloads:delete(web.id, { wait = "1m" }))
    clock:advance "1s"
    local last = assert(plane.events:list { limit = 1 }).last_seq
    assert.equal(last, seqs[#seqs])
    assert.equal(last - 2, #seqs)
  end)

  it("tell a position of another history", function()
    open()
    lab.workload(plane)
    local _, err = plane.events:stream { after = 100000 }
    assert.equal("invalid", err.code)
    assert.equal("after", err.field)
  end)

  it("are kept for seven days; a stream from before is told of the gap", function()
    open()
    local web = lab.workload(plane, { replicas = 1 })
    clock:advance "192h"
    assert(plane.workloads:pause(web.id, { wait = "1m" }))
    local all = lab.events(plane)
    assert.equal("workload.paused", all[1].type)
    local stream = assert(plane.events:stream { after = 1 })
    local first = assert(stream:next { timeout = "1s" })
    stream:close()
    assert.same({ type = "gap", from = 2, to = all[1].seq - 1 }, first)
  end)
end)

describe("retention", function()
  it("keeps ten releases and those in use, a hundred deployments, and destroyed rows for seven days", function()
    local plane, clock = lab.open { seed = 8 }
    local web = lab.workload(plane, { replicas = 1 })
    for i = 1, 110 do
      assert(plane.workloads:deploy(web.id, lab.good({ wait = "5m" }, "r" .. i)))
    end
    clock:advance "5m"
    local releases = assert(plane.workloads:list_releases(web.id))
    assert.equal(10, releases.total)
    assert.equal(111, releases.items[1].version)
    assert.equal(100, assert(plane.workloads:list_deployments(web.id)).total)
    local gone = lab.workload(plane, { name = "gone" })
    assert(plane.workloads:delete(gone.id, { wait = "1m" }))
    clock:advance "144h"
    assert(plane.workloads:get(gone.id))
    clock:advance "48h"
    local _, err = plane.workloads:get(gone.id)
    assert.equal("not_found", err.code)
    lab.close(plane)
  end)
end)
