-- The process provider answered questions of a plane that had dropped what it held: after a commit that failed, the
-- answer to a look that was under way went to memory that was freed.
local core = require "ctrlplane.core"
local ctrlplane = require "ctrlplane"
local house = require "spec.support.house"

describe("a commit that fails while providers are asked", function()
  local folder, plane
  before_each(function()
    folder = house.folder()
    plane = assert(ctrlplane.open { store = folder .. "/plane.db" })
  end)
  after_each(function()
    core.testing.failpoint(nil)
    assert(plane.workloads:delete("web", { wait = "30s" }))
    plane:close()
    house.remove(folder)
  end)

  it("ends what they were asked, and the engine goes on", function()
    local failed, passes = 0, nil
    core.testing.failpoint(function(name)
      if name == "record" then -- an operation ended: its instance is looked at in the same turn
        passes = passes or 0
      elseif name == "before_commit" and passes and failed < 10 then
        passes = passes + 1 -- the plane's own pass, then the store's
        if passes == 2 then
          passes, failed = nil, failed + 1
          return true
        end
      end
    end)
    local services = { { name = "app", command = { "sleep", "1000" }, stop_timeout = 1 } }
    assert(plane.workloads:create { name = "web", services = services, replicas = 4 })
    local deadline = house.now() + 40
    local web
    repeat
      plane:step(0.05)
      web = assert(plane.workloads:get "web")
    until web.ready_replicas == 4 or house.now() > deadline
    assert.equal(4, web.ready_replicas)
    assert.is_true(failed > 0)
  end)
end)
