-- Checks of what ran before spoke for what a restart or an update was about to start: the next replica was restarted
-- while the one before it was still going down, and a check that the new release does not have ended the engine.
local ctrlplane = require "ctrlplane"
local house = require "spec.support.house"

local function service(more)
  local one = {
    name = "app", command = { "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done" }, stop_timeout = 2,
    health_check = { type = "command", command = { "true" }, interval = "200ms" },
  }
  for key, value in pairs(more or {}) do
    one[key] = value
  end
  return { one }
end

describe("a replica that is renewed in place, and slow to stop", function()
  local folder, plane
  before_each(function()
    folder = house.folder()
    plane = assert(ctrlplane.open { store = folder .. "/plane.db" })
  end)
  after_each(function()
    for _, item in ipairs(assert(plane.workloads:list()).items) do
      assert(plane.workloads:delete(item.id, { volumes = true, wait = "30s" }))
    end
    plane:close()
    house.remove(folder)
  end)

  it("is ready again before the next one is restarted", function()
    local web = assert(plane.workloads:create { name = "web", services = service(), replicas = 2, wait = "30s" })
    assert.equal("active", web.state)
    assert(plane.workloads:restart(web.id, { wait = "30s" }))
    local restarted = assert(plane.events:list { types = { "instance.restarted" } }).items
    assert.equal(2, #restarted)
    local function seconds(event)
      local h, m, s = event.at:match "T(%d+):(%d+):([%d.]+)"
      return (h * 60 + m) * 60 + s
    end
    assert.is_true((seconds(restarted[1]) - seconds(restarted[2])) % 86400 >= 1.9, "both were down at once")
  end)

  it("is not asked by a check that its new release does not have", function()
    local db = assert(plane.workloads:create { name = "db", kind = "stateful_set", services = service(), wait = "30s" })
    local bare = service { env = { RELEASE = "2" } }
    bare[1].health_check = nil
    assert(plane.workloads:update(db.id, { services = bare }))
    local deployment = assert(plane.workloads:deploy(db.id, { wait = "30s" }))
    assert.equal("succeeded", deployment.state)
  end)
end)
