--- Names that have no Latin letters, and names that only look the same (D5).
local lab = require "spec.support.lab"

describe("workloads with unusual names", function()
  local plane
  before_each(function() plane = lab.open {} end)
  after_each(function() lab.close(plane) end)

  local function create(name)
    return plane.workloads:create { name = name, services = { { name = "app", image = "app" } }, wait = "1m" }
  end

  it("are found by slugs of their own, which are DNS labels", function()
    local seen = {}
    for _, name in ipairs { "数据", "🚀", "---", "é", "e\204\129", "Ünï Cöde" } do
      local workload = assert(create(name))
      assert.equal(name, workload.name)
      assert.matches("^[a-z0-9][a-z0-9-]*[a-z0-9]?$", workload.slug)
      assert.is_true(#workload.slug <= 48)
      assert.is_nil(seen[workload.slug])
      seen[workload.slug] = true
      assert.equal(workload.id, assert(plane.workloads:get(workload.slug)).id)
      local instance = lab.instances(plane, workload)[1]
      assert.matches("^" .. workload.slug:gsub("%-", "%%-") .. "%-0%-%w%w%w%w%w$", instance.name)
    end
  end)

  it("collide where their slugs do, and say with whom", function()
    local web = assert(create "Web App")
    for _, name in ipairs { "web-app", "WEB  APP", " web_app " } do
      local other, err = create(name)
      assert.is_nil(other)
      assert.same({ "already_exists", "name" }, { err.code, err.field })
      assert.matches(web.id, err.message)
    end
    assert(plane.workloads:delete(web.id, { wait = "1m" }))
    assert(create "web-app")
  end)
end)
