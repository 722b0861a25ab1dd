-- A service without a health check that dies as soon as it starts was ready between two restarts: a rollout of it
-- succeeded, and the release that worked was gone.
local ctrlplane = require "ctrlplane"
local house = require "spec.support.house"

describe("a service without a health check that dies at once", function()
  local folder, plane
  before_each(function()
    folder = house.folder()
    plane = assert(ctrlplane.open { store = folder .. "/plane.db" })
  end)
  after_each(function()
    assert(plane.workloads:delete("web", { wait = "30s" }))
    plane:close()
    house.remove(folder)
  end)

  local function services(script) return { { name = "app", command = { "sh", "-c", script } } } end

  it("is never ready, and its rollout goes back", function()
    local web = assert(plane.workloads:create { name = "web", services = services "exec sleep 1000", wait = "30s" })
    assert.equal(1, web.ready_replicas)
    local before = assert(plane.workloads:list_instances "web").items[1]
    assert.is_true(before.ready)

    local ended = assert(plane.workloads:deploy("web", { services = services "exit 7", wait = "1m" }))
    assert.equal("rolled_back", ended.state)
    assert.matches("restarts again and again: app: exited with code 7", ended.error.message)
    local after = assert(plane.workloads:list_instances "web").items
    assert.same({ 1, before.id, true }, { #after, after[1].id, after[1].ready })
    for _, event in ipairs(assert(plane.events:list { limit = 500 }).items) do
      assert.is_false(event.type == "instance.deleted" and event.instance_id == before.id)
    end
  end)
end)
