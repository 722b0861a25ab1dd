--- What a deploy makes of services, in which order they start, and when two specs are the same.
local core = require "ctrlplane.core"
local model = core.model

local BASE = {
  { name = "app", image = "v1", env = { A = "1" }, command = { "run" }, args = { "x" }, health_check = { type = "tcp",
    port = 80 } },
  { name = "log", image = "l1", role = "sidecar" },
}

local function apply(change)
  return assert(model.apply(BASE, { change }))
end

describe("a deploy", function()
  it("keeps what it does not name", function()
    local services = apply { name = "app", image = "v2" }
    assert.equal("v2", services[1].image)
    assert.same({ A = "1" }, services[1].env)
    assert.same({ "run" }, services[1].command)
    assert.equal("tcp", services[1].health_check.type)
    assert.equal("l1", services[2].image)
    assert.same(model.hash(BASE), model.hash(apply { name = "app" }), "naming a service changes nothing")
  end)

  it("replaces env, command and args whole", function()
    local app = apply({ name = "app", env = { B = "2" }, command = { "a", "b" }, args = {} })[1]
    assert.same({ B = "2" }, app.env)
    assert.same({ "a", "b" }, app.command)
    assert.is_nil(app.args)
    assert.is_nil(apply({ name = "app", env = {} })[1].env)
  end)

  it("replaces a health check, removes it by null, and gives one", function()
    assert.equal("/x", apply({ name = "app", health_check = { path = "/x" } })[1].health_check.path)
    assert.is_nil(apply({ name = "app", health_check = core.null })[1].health_check)
    assert.equal("http", apply({ name = "log", health_check = { port = 1 } })[2].health_check.type)
    assert.is_nil(apply({ name = "log", health_check = core.null })[2].health_check)
  end)

  it("names services that there are, once", function()
    local services, err = model.apply(BASE, { { name = "log" }, { name = "ap" } })
    assert.is_nil(services)
    assert.same({ "invalid", "services[1].name", "did you mean 'app'?" }, { err.code, err.field, err.hint })
    local _, far = model.apply(BASE, { { name = "database" } })
    assert.is_nil(far.hint)
    local _, twice = model.apply(BASE, { { name = "app" }, { name = "app" } })
    assert.same({ "invalid", "services[1].name" }, { twice.code, twice.field })
    local _, later = model.apply(BASE, { { name = "log" }, { name = "app" }, { name = "app" } })
    assert.same({ "invalid", "services[2].name" }, { later.code, later.field })
    local _, unknown = model.apply(BASE, { { name = "app", ports = {} } })
    assert.equal("invalid", unknown.code)
  end)
end)

describe("the hash of a spec", function()
  it("is that of what it means, however it is written", function()
    local short = { { name = "a", image = "x" } }
    local long = { { image = "x", name = "a", role = "main", restart = "always", stop_signal = "TERM", stop_timeout = "10s",
      env = {}, ports = {} } }
    assert.equal(model.hash(short), model.hash(long))
    assert.matches("^" .. ("%x"):rep(64) .. "$", model.hash(short))
  end)

  it("tells what differs", function()
    local seen = {}
    for _, change in ipairs { {}, { image = "y" }, { env = { A = "1" } }, { env = { A = "2" } }, { args = { "a", "b" } },
      { args = { "b", "a" } }, { stop_timeout = 0 }, { health_check = {}, ports = { { name = "p" } } } } do
      change.name, change.image = "a", change.image or "x"
      local hash = assert(model.hash { change })
      assert.is_nil(seen[hash])
      seen[hash] = true
    end
  end)

  it("is refused for what is no spec", function()
    local hash, err = model.hash { { image = "a" } }
    assert.is_nil(hash)
    assert.equal("services[0].name", err.field)
  end)
end)

describe("the order of starting", function()
  local function order(...)
    local services = {}
    for i, text in ipairs { ... } do
      local name, role, needs = text:match "^(%w+):(%w+) ?(.*)$"
      services[i] = { name = name, image = "x", role = role, depends_on = {} }
      for need in needs:gmatch "%w+" do
        table.insert(services[i].depends_on, need)
      end
    end
    local names, main = model.order(services)
    return table.concat(names, " "), main
  end

  it("has every init first, in order of dependency", function()
    local names, main = order("app:main log", "b:init a", "log:sidecar", "a:init")
    assert.equal("a b log app", names)
    assert.equal("app", main)
  end)

  it("is that of the spec where nothing depends", function()
    assert.equal("c b a", (order("c:main", "b:sidecar", "a:sidecar")))
    assert.equal("a b c", (order("c:main a b", "a:init", "b:init")))
  end)

  it("ends even for what validation refuses", function()
    assert.equal("a b", (order("a:main b", "b:sidecar a")))
    assert.equal("c a b", (order("c:main", "a:sidecar b", "b:sidecar a")))
    assert.equal("a", (order("a:main a")))
    local names, main = order("a:sidecar zzz")
    assert.equal("a", names)
    assert.is_nil(main)
    local _, err = model.order { {} }
    assert.equal("invalid", err.code)
  end)
end)
