-- create and update: what is checked, what a draft is, what an update leaves alone.
local lab = require "spec.support.lab"

local function app(more)
  local service = { name = "app", image = "app" }
  for key, value in pairs(more or {}) do
    service[key] = value
  end
  return { service }
end

describe("create", function()
  local plane

  before_each(function() plane = lab.open {} end)
  after_each(function() lab.close(plane) end)

  it("refuses what cannot be, with field and hint, and leaves nothing behind", function()
    local cases = {
      { { name = "  ", services = app() }, "invalid", "name" },
      { { name = "web" }, "invalid", "services" },
      { { name = "web", services = {} }, "invalid", "services" },
      { { name = "web", services = app { image = "" } }, "invalid", "services[0].image" },
      { { name = "web", services = app(), provider_name = "sin" }, "provider_not_found", "provider_name" },
      { { name = "web", services = app(), kind = "daemon" }, "invalid", "kind" },
      { { name = "web", services = app(), labels = { ["ctrlplane.x"] = "1" } }, "invalid", nil },
      { { name = "web", services = app(), replicas = 10001 }, "invalid", "replicas" },
      { { name = "web", services = app(), strategy = "rollling" }, "not_found", nil },
      { { name = "web", services = app { secrets = { { key = "a", env = "A" } } } }, "unsupported", "services[0].secrets" },
      { { name = "web", services = app { depends_on = { "db" } } }, "invalid", nil },
    }
    local seq = assert(plane.events:list { limit = 1 }).last_seq
    for i, case in ipairs(cases) do
      local ok, err = plane.workloads:create(case[1])
      assert.is_nil(ok, "case " .. i)
      assert.equal(case[2], err.code, "case " .. i .. ": " .. err.message)
      if case[3] then
        assert.equal(case[3], err.field, "case " .. i)
      end
    end
    assert.equal(0, assert(plane.workloads:list()).total)
    assert.equal(seq, assert(plane.events:list { limit = 1 }).last_seq)
  end)

  it("refuses a name whose slug is taken, also when it is written differently", function()
    local web = lab.workload(plane, { name = "My Shop" })
    local _, err = plane.workloads:create { name = "my-SHOP!", services = app() }
    assert.equal("already_exists", err.code)
    assert.matches(web.id, err.message, 1, true)
  end)

  it("gives names without Latin letters slugs of their own", function()
    local slugs = {}
    for _, name in ipairs { "数据", "🚀", "---" } do
      local web = lab.workload(plane, { name = name })
      assert.matches("^[a-z0-9][a-z0-9-]*$", web.slug)
      assert.is_nil(slugs[web.slug])
      slugs[web.slug] = true
      assert.equal(web.id, assert(plane.workloads:get(web.slug)).id)
    end
  end)
end)

describe("update", function()
  local plane, clock, world

  before_each(function()
    plane, clock, world = lab.open { seed = 4 }
  end)
  after_each(function() lab.close(plane) end)

  it("changes name and labels at once, and neither slug nor count nor what runs", function()
    local web = lab.workload(plane, { replicas = 3 })
    assert(plane.workloads:scale(web.id, { replicas = 5, wait = "1m" }))
    local counts = world:counts()
    local now = assert(plane.workloads:update(web.id, { name = "Shop", labels = { a = "b" } }))
    assert.equal("Shop", now.name)
    assert.equal("web", now.slug)
    assert.same({ a = "b" }, now.labels)
    assert.equal(5, now.replica_count) -- the default of create is never applied to what exists
    clock:advance "1m"
    assert.equal(counts.provision, world:counts().provision)
    assert.equal(counts.restart, world:counts().restart)
    assert.equal(1, lab.count_events(plane, "workload.scaled"))
    assert.equal("b", lab.instances(plane, web)[1].labels.a)
  end)

  it("refuses what is not its own, and what is not known", function()
    local web = lab.workload(plane)
    for _, key in ipairs { "replicas", "kind", "slug", "state" } do
      assert.has_error(function() plane.workloads:update(web.id, { [key] = 3 }) end)
    end
    local _, err = plane.workloads:update(web.id, { labels = { ["ctrlplane.tenant"] = "me" } })
    assert.equal("invalid", err.code)
    _, err = plane.workloads:update(web.id, { name = "" })
    assert.equal("invalid", err.code)
    _, err = plane.workloads:update(web.id, { services = app { image = "" } })
    assert.equal("services[0].image", err.field)
  end)

  it("stages services as a draft: crashes, scales and restarts run the current release", function()
    local web = lab.workload(plane, { replicas = 2 })
    local staged = assert(plane.workloads:update(web.id, { services = app { env = { V = "2" } } }))
    assert.equal("2", staged.services[1].env.V)
    assert(plane.workloads:scale(web.id, { replicas = 3, wait = "1m" }))
    for _, instance in ipairs(lab.instances(plane, web)) do
      assert.equal(web.current_release_id, instance.release_id)
      assert.is_nil(instance.services[1].env)
    end
    assert.equal(1, #assert(plane.workloads:list_releases(web.id)).items)
  end)

  it("is what the next deploy rolls out, with its own changes on top", function()
    local web = lab.workload(plane, { replicas = 2 })
    assert(plane.workloads:update(web.id, { services = app { env = { V = "2" } } }))
    local deployment = assert(plane.workloads:deploy(web.id, { services = { { name = "app", args = { "x" } } }, wait = "5m" }))
    assert.equal("succeeded", deployment.state)
    local release = assert(plane.releases:get(deployment.release_id))
    assert.same({ V = "2" }, release.services[1].env)
    assert.same({ "x" }, release.services[1].args)
    assert.same({ "x" }, assert(plane.workloads:get(web.id)).services[1].args)
    local again = assert(plane.workloads:deploy(web.id, {}))
    assert.is_true(again.unchanged)
    assert.matches("nothing to do", again.message)
  end)

  it("is cleared by a rollback", function()
    local web = lab.workload(plane, { replicas = 1 })
    assert(plane.workloads:deploy(web.id, lab.good { wait = "5m" }))
    assert(plane.workloads:update(web.id, { services = app { env = { V = "3" } } }))
    local back = assert(plane.workloads:rollback(web.id, { wait = "5m" }))
    assert.equal("succeeded", back.state)
    assert.equal(web.current_release_id, back.release_id)
    local now = assert(plane.workloads:get(web.id))
    assert.equal(web.current_release_id, now.current_release_id)
    assert.is_nil(now.services[1].env)
  end)
end)

describe("deploy", function()
  local plane, clock

  before_each(function()
    plane, clock = lab.open { seed = 4 }
  end)
  after_each(function() lab.close(plane) end)

  it("makes a release of what changed, and none of what is the same", function()
    local web = lab.workload(plane, { replicas = 2 })
    local first = assert(plane.workloads:deploy(web.id, lab.release({ V = "1" }, { wait = "5m", notes = "why" })))
    assert.equal("succeeded", first.state)
    local release = assert(plane.releases:get(first.release_id))
    assert.equal(2, release.version)
    assert.equal("why", release.notes)
    local same = assert(plane.workloads:deploy(web.id, lab.release { V = "1" }))
    assert.is_true(same.unchanged)
    assert.equal(first.id, same.id)
    assert.equal(2, #assert(plane.workloads:list_releases(web.id)).items)
    assert.equal(2, #assert(plane.workloads:list_deployments(web.id)).items)
  end)

  it("names what it does not know", function()
    local web = lab.workload(plane)
    local _, err = plane.workloads:deploy(web.id, { services = { { name = "ap", image = "x" } } })
    assert.equal("invalid", err.code)
    assert.matches("did you mean 'app'", tostring(err), 1, true)
    _, err = plane.workloads:deploy(web.id, { release_id = "rel_01kdvdna00efzvdpd5rfj57f4h" })
    assert.equal("not_found", err.code)
    assert.equal("release_id", err.field)
    _, err = plane.workloads:deploy(web.id, { release_id = web.current_release_id, services = { { name = "app" } } })
    assert.equal("invalid", err.code)
    _, err = plane.workloads:rollback(web.id)
    assert.equal("invalid_state", err.code)
    assert(plane.workloads:pause(web.id, { wait = "1m" }))
    _, err = plane.workloads:deploy(web.id, lab.good())
    assert.equal("invalid_state", err.code)
    assert.matches("workload web is paused; deploy needs it resumed", err.message)
  end)

  it("shows what runs again when it went back by itself", function()
    local web = lab.workload(plane, { replicas = 2 })
    local bad = assert(plane.workloads:deploy(web.id, lab.failing { wait = "10m" }))
    assert.equal("rolled_back", bad.state)
    local now = assert(plane.workloads:get(web.id))
    assert.equal("active", now.state)
    assert.is_nil(now.services[1].env)
    assert.equal(2, now.ready_replicas)
  end)

  it("rolls an old release again without a new one", function()
    local web = lab.workload(plane, { replicas = 2 })
    assert(plane.workloads:deploy(web.id, lab.good { wait = "5m" }))
    local back = assert(plane.workloads:deploy(web.id, { release_id = web.current_release_id, wait = "5m" }))
    assert.equal("succeeded", back.state)
    assert.equal(2, #assert(plane.workloads:list_releases(web.id)).items)
    assert.equal(web.current_release_id, assert(plane.workloads:get(web.id)).current_release_id)
    clock:advance "1s"
  end)

  it("is frozen by a pause of its workload, and goes on at resume", function()
    local web = lab.workload(plane, { replicas = 3 })
    local deployment = assert(plane.workloads:deploy(web.id, lab.release({ SIM_READY_DELAY = "20s" }, {})))
    clock:advance "5s"
    assert(plane.workloads:pause(web.id, { wait = "1m" }))
    clock:advance "1h"
    assert.is_nil((assert(plane.deployments:get(deployment.id)).finished_at))
    local now = assert(plane.workloads:resume(web.id))
    assert.equal("deploying", now.state)
    clock:advance "10m"
    assert.equal("succeeded", assert(plane.deployments:get(deployment.id)).state)
    assert.equal(3, assert(plane.workloads:get(web.id)).ready_replicas)
  end)
end)
