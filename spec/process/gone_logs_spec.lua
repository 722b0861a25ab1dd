-- ctest: timeout=60 labels=process
--- Logs of replicas that are gone: who sees them.
local ctrlplane = require "ctrlplane"
local house = require "spec.support.house"

describe("the logs of a workload", function()
  local folder, plane, web
  before_each(function()
    folder = house.folder()
    plane = assert(ctrlplane.open { store = folder .. "/plane.db" })
  end)
  after_each(function()
    assert(plane.workloads:delete(web.id, { wait = "30s" }))
    plane:close()
    house.remove(folder)
  end)

  local function read(options)
    local lines = {}
    for event in assert(plane.workloads:stream_logs(web.id, options)) do lines[#lines + 1] = event end
    return lines
  end

  it("are those of living replicas; of gone ones by a time, by a cursor, or when none lives", function()
    web = assert(plane.workloads:create {
      name = "web", replicas = 2, wait = "30s",
      services = { { name = "app", command = { "sh", "-c", "echo one; echo two; exec sleep 600" } } },
    })
    local gone
    for _, instance in ipairs(assert(plane.workloads:list_instances(web.id)).items) do
      if instance.replica_index == 1 then gone = instance.id end
    end
    house.wait_for("its lines", function() return #read { tail = 1 } == 2 end)
    local cursor
    for _, event in ipairs(read {}) do
      if event.instance_id == gone and event.line == "one" then cursor = event.cursor end
    end
    assert(plane.workloads:scale(web.id, { replicas = 1, wait = "30s" }))
    local function lines(options)
      local count = 0
      for _, event in ipairs(read(options)) do
        if event.instance_id == gone then count = count + 1 end
      end
      return count
    end
    assert.equal(0, lines {})
    assert.equal(0, lines { tail = 1 })
    assert.equal(0, lines { tail = 1, follow = true, timeout = "300ms" })
    assert.equal(1, lines { tail = 1, since = web.created_at })
    assert.equal(2, lines { since = web.created_at, follow = true, timeout = "300ms" })
    assert.equal(1, lines { after = cursor })
    assert(plane.workloads:pause(web.id, { wait = "30s" }))
    assert.equal(1, lines { tail = 1 })
  end)
end)
