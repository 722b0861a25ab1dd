--- Specs of workloads from files: what is written is what arrives, or it is refused with its place.
local core = require "ctrlplane.core"
local house = require "spec.support.house"
local specfile = require "ctrlplane.specfile"

local function yaml(text)
  return specfile.parse(text, "yaml", "web.yaml")
end

local function refused(value, err, field, message, hint)
  assert.is_nil(value, "it was let through")
  assert.equal("invalid", err.code, tostring(err))
  assert.equal(field, err.field)
  assert.matches(message, err.message)
  if hint then assert.matches(hint, err.hint or "(no hint)") end
end

describe("YAML", function()
  it("keeps every value as it was written (D3)", function()
    local spec = assert(yaml [[
name: web
labels: { on: x, 8080: y }
services:
  - name: app
    image: ./app
    env: { COUNTRY: NO, MODE: 0755, T: 22:22, VER: 1.10, EXP: 1e3, HEX: 0x1F, U: 1_000, BIG: 12345678901234567890,
      DAY: 2024-01-01, EMPTY: , TILDE: ~, YES: yes, NULL: null, Q: "quoted", S: 'single' }
    config_files: [{ name: a, path: a, mode: 0644, content: "x" }]
]])
    assert.same({ COUNTRY = "NO", MODE = "0755", T = "22:22", VER = "1.10", EXP = "1e3", HEX = "0x1F", U = "1_000",
      BIG = "12345678901234567890", DAY = "2024-01-01", EMPTY = "", TILDE = "~", YES = "yes", NULL = "null",
      Q = "quoted", S = "single" }, spec.services[1].env)
    assert.equal("0644", spec.services[1].config_files[1].mode)
    assert.same({ on = "x", ["8080"] = "y" }, spec.labels)
    assert.is_true(core.model.validate(spec.services))
  end)

  it("makes no number of what is none (D3)", function()
    for _, text in ipairs { "22:22", "0x1F", "1_000", "080", "1e3", "12345678901234567890", "+80", '"80"', "yes", "~" } do
      local spec = assert(yaml(("services: [{ name: a, image: x, ports: [{ name: p, container: %s }] }]"):format(text)))
      local ok, err = core.model.validate(spec.services)
      assert.is_nil(ok, text)
      assert.equal("services[0].ports[0].container", err.field)
    end
    local spec = assert(yaml "services: [{ name: a, image: x, ports: [{ name: p, container: 8080 }] }]")
    assert.equal(8080, spec.services[1].ports[1].container)
    assert.is_true(core.model.validate(spec.services))
  end)

  it("types by the field, not by the look", function()
    local spec = assert(yaml [[
name: 123
replicas: 3
wait: 30
surge: 25%
services:
  - name: a
    image: x
    depends_on: [ "b", 7 ]
    command: [ server, --port, 8080, yes ]
    health_check: { port: 8080, interval: 5s, retries: 2 }
    stop_timeout: 0
params: { batch: 2, ratio: 0.5, bake: 10s, on: true, off: no, zero: 010, none: ~, list: [1, x], text: "1", map: { a: 1 } }
]])
    assert.equal("123", spec.name)
    assert.equal(3, spec.replicas)
    assert.equal("25%", spec.surge)
    local service = spec.services[1]
    assert.same({ "b", "7" }, { unpack(service.depends_on) })
    assert.same({ "server", "--port", "8080", "yes" }, { unpack(service.command) })
    assert.same({ port = "8080", interval = "5s", retries = 2 }, service.health_check)
    assert.equal("0", service.stop_timeout)
    local params = spec.params
    assert.same({ 2, 0.5, "10s", true, "no", "010", core.null, "1" }, { params.batch, params.ratio, params.bake,
      params.on, params.off, params.zero, params.none, params.text })
    assert.same({ 1, "x" }, { unpack(params.list) })
    assert.same({ a = 1 }, params.map)
  end)

  it("reads true and false where they are meant", function()
    local desc = { name = "thing", fields = { { name = "a", type = "boolean" }, { name = "b", type = "boolean" },
      { name = "c", type = "boolean" }, { name = "n", type = "number" }, { name = "e", type = "enum" } } }
    local read = require("ctrlplane.yaml").parse
    assert.same({ a = true, b = false, c = "yes", n = 1.5, e = "NO" },
      read('a: true\nb: false\nc: yes\nn: 1.5\ne: NO', desc, "x"))
    assert.same({ a = "true", n = -2 }, read('a: "true"\nn: -2', desc, "x"))
  end)

  it("takes a field with nothing under it as not given", function()
    local spec = assert(yaml "name: web\nlabels:\nservices:\n  - name: a\n    image: x\n    env:\n    ports: ~\n")
    assert.is_nil(spec.labels)
    assert.is_nil(spec.services[1].env)
    assert.is_nil(spec.services[1].ports)
  end)

  it("refuses two equal keys, with key and line (D5)", function()
    local value, err = yaml [[
name: web
services:
  - name: app
    env: { A: "1" }
    image: x
    env: { B: "2" }
]]
    refused(value, err, "services[0].env", "^web.yaml:6: services%[0%].env is given twice, first in line 4")
    value, err = yaml "services:\n  - ports:\n      - { name: a, name: b }\n"
    refused(value, err, "services[0].ports[0].name", "^web.yaml:3: .*twice, first in line 3")
    refused(nil, select(2, yaml 'a: 1\n"a": 2'), "a", "twice")
    refused(nil, select(2, yaml "params: { x: { a: 1, a: 2 } }"), "params.x.a", "twice")
  end)

  it("unfolds aliases, within bounds", function()
    local spec = assert(yaml "services:\n  - &a { name: a, image: x, env: &e { K: v } }\n  - { name: b, env: *e }\nparams: { one: &n 1, two: *n }\n")
    assert.same({ K = "v" }, spec.services[2].env)
    assert.equal(1, spec.params.two)
    refused(nil, select(2, yaml "params: { a: *b }"), "params.a", "'%*b' refers to nothing")
    refused(nil, select(2, yaml "params: &a { b: *a }"), "params.b", "'%*a' refers to nothing")
    local bomb = { "params:" }
    for level = 0, 25 do
      bomb[#bomb + 1] = level == 0 and "  l0: &l0 [x, x]" or ("  l%d: &l%d [*l%d, *l%d]"):format(level, level, level - 1,
        level - 1)
    end
    refused(nil, select(2, yaml(table.concat(bomb, "\n"))), select(2, yaml(table.concat(bomb, "\n"))).field,
      "unfold to more than")
    local wide = "services:\n  - command: [&t \"" .. ("t"):rep(60000) .. "\"" .. (", *t"):rep(20) .. "]"
    refused(nil, select(2, yaml(wide)), "services[0].command[17]", "unfold")
    local many = "services: [&s {}" .. (", *s"):rep(51000) .. "]"
    refused(nil, select(2, yaml(many)), "services[49999]", "unfold")
  end)

  for what, row in pairs {
    ["a broken text"] = { "a: [1\nb: {", nil, "^web.yaml:%d+: .*expected" },
    ["a tab"] = { "a:\n\t- b", nil, "^web.yaml:2: " },
    ["nothing"] = { "", nil, "nothing in it" },
    ["a comment only"] = { "# x\n", nil, "nothing in it" },
    ["two documents"] = { "name: a\n---\nname: b\n", nil, "^web.yaml:2: a second document" },
    ["a list"] = { "- a\n", nil, "the file must be the fields of a create" },
    ["one word"] = { "web\n", nil, "the file must be the fields of a create" },
    ["a list as a key"] = { "? [a]\n: b\n", nil, "a key is no text" },
    ["a merge"] = { "a: &a {}\nb:\n  <<: *a\n", "b.<<", "merges" },
    ["a tag"] = { "name: !!int 5\n", "name", "the tag" },
    ["a map for a list"] = { "services: { name: a }\n", "services", "names and values; it must be a list" },
    ["a list for a map"] = { "labels: [a]\n", "labels", "a list; it must be names and values" },
    ["a value for a list"] = { "services: x\n", "services", "one value; it must be a list" },
    ["a list for a value"] = { "name: [a]\n", "name", "a list; it must be one value" },
    ["a list inside env"] = { "services: [{ env: { A: [x] } }]\n", "services[0].env.A", "a list; it must be text" },
    ["a word for a service"] = { "services: [app]\n", "services[0]", "the fields of a service" },
    ["33 levels"] = { "params: " .. ("["):rep(40) .. ("]"):rep(40), "params" .. ("[0]"):rep(31), "32 deep" },
  } do
    it("refuses " .. what, function()
      local value, err = yaml(row[1])
      refused(value, err, row[2], row[3])
    end)
  end

  it("leaves unknown fields to the engine, which knows the nearest", function()
    local spec = assert(yaml "services:\n  - { name: a, imagee: x }\n")
    local _, err = core.model.validate(spec.services)
    assert.same({ "services[0].imagee", "did you mean 'image'?" }, { err.field, err.hint })
  end)
end)

describe("JSON", function()
  local function json(text)
    return specfile.parse(text, "json", "web.json")
  end

  it("arrives as it is", function()
    local spec = assert(json '{"name":"web","replicas":3,"services":[{"name":"a","image":"x","env":{"A":"1"},"args":[]}]}')
    assert.equal(3, spec.replicas)
    assert.is_true(core.model.validate(spec.services))
  end)

  it("has no key twice (D5)", function()
    local value, err = json '{"name":"a","replicas":1,\n"replicas":50}'
    assert.is_nil(value)
    assert.equal("invalid", err.code)
    assert.matches("^web.json: .*replicas", err.message)
    assert.matches("line 2", err.message)
  end)

  it("has texts in quotes", function()
    local function env(value)
      return json('{"services":[{"name":"a","image":"x","env":{"A":' .. value .. '}}]}')
    end
    for _, value in ipairs { "8080", "1.10", "1e3" } do
      local spec, err = env(value)
      refused(spec, err, "services[0].env.A", "must be text", "quotes")
    end
    local big, too_big = env "12345678901234567890"
    assert.is_nil(big)
    assert.equal("invalid", too_big.code)
    local spec, err = json '{"services":[{"args":["x",1]}]}'
    refused(spec, err, "services[0].args[1]", "must be text")
    spec, err = json '{"name":1.5}'
    refused(spec, err, "name", "1.5")
    assert.is_nil(select(2, json '{"services":[{"health_check":{"port":8080,"command":["x"]}}]}'))
    spec, err = json '{"services":[{"health_check":{"command":[1]}}]}'
    refused(spec, err, "services[0].health_check.command[0]", "must be text")
  end)

  it("is a table", function()
    for _, text in ipairs { "", "{", "{} x", "5", "null", '"x"', "true" } do
      local value, err = json(text)
      assert.is_nil(value)
      assert.equal("invalid", err.code, text)
    end
  end)
end)

describe("Lua", function()
  local function lua(text)
    return specfile.parse(text, "lua", "web.lua")
  end

  it("is a chunk that returns a table", function()
    local spec = assert(lua [[
      local services = {}
      for i, name in ipairs { "a", "b" } do
        services[i] = { name = name, image = ("./%s"):format(name), role = i == 1 and "main" or "sidecar",
          env = { PORT = 8000 + i } }
      end
      return { name = "web", replicas = math.max(2, 3), services = services }
    ]])
    assert.equal(3, spec.replicas)
    assert.is_true(core.model.validate(spec.services))
  end)

  it("describes and does not act", function()
    for _, name in ipairs { "os", "io", "require", "load", "loadstring", "dofile", "debug", "ffi", "setfenv", "getfenv",
      "_G", "jit", "print", "collectgarbage", "getmetatable", "setmetatable", "rawset" } do
      local value, err = lua("return { name = tostring(" .. name .. ") }")
      assert.is_nil(value, name)
      assert.equal("script_error", err.code)
      assert.matches("web.lua:1: '" .. name .. "' is not known in a spec", err.message)
    end
    assert.is_nil((lua "return { name = math.random() }"))
    assert.is_nil((lua "x = nil; return { name = x }"))
  end)

  it("changes nothing outside itself", function()
    assert(lua "string.format = 1; table.insert = 2; name = 'x'; return {}")
    assert.equal("function", type(string.format))
    assert.equal("function", type(table.insert))
    assert.is_nil(rawget(_G, "name"))
  end)

  it("is text, not bytecode", function()
    local value, err = lua(string.dump(function() return {} end))
    assert.is_nil(value)
    assert.equal("script_error", err.code)
  end)

  it("says where it is wrong", function()
    local value, err = lua "return {\n  name = \n}"
    assert.is_nil(value)
    assert.matches("^web.lua:3:", err.message)
    value, err = lua "error 'no'"
    assert.is_nil(value)
    assert.matches("^web.lua:1: no", err.message)
    value, err = lua "return 5"
    refused(value, err, nil, "gives a number")
    value, err = lua "local x = 1"
    refused(value, err, nil, "gives a nil")
  end)

  it("loses no digits on the way to text", function()
    local value, err = lua "return { services = { { name = 'a', env = { VER = 1.10 } } } }"
    refused(value, err, "services[0].env.VER", "1.1; it must be text", "quotes")
    value, err = lua "return { services = { { name = 'a', env = { BIG = 12345678901234567890 } } } }"
    refused(value, err, "services[0].env.BIG", "must be text")
    assert.is_nil(select(2, lua "return { services = { 'app', { env = 5, ports = { { name = 'a' } } } } }"))
  end)
end)

describe("a file", function()
  local folder
  before_each(function() folder = house.folder() end)
  after_each(function() house.remove(folder) end)

  local function file(extension, text) return house.write(folder .. "/web." .. extension, text) end

  it("is told by its name", function()
    assert.equal("a", assert(specfile.read(file("yaml", "name: a"))).name)
    assert.equal("b", assert(specfile.read(file("yml", "name: b"))).name)
    assert.equal("c", assert(specfile.read(file("json", '{"name":"c"}'))).name)
    assert.equal("d", assert(specfile.read(file("lua", "return { name = 'd' }"))).name)
    local value, err = specfile.read(file("toml", "x"))
    refused(value, err, nil, "name a spec .lua, .json or .yaml")
  end)

  it("is there, is a file, has something in it and is no larger than a request", function()
    local value, err = specfile.read "/nowhere/web.yaml"
    assert.is_nil(value)
    assert.same({ "not_found" }, { err.code })
    assert.matches("/nowhere/web.yaml", err.message)
    value, err = specfile.read(file("json", ""))
    assert.is_nil(value)
    assert.equal("invalid", err.code)
    value, err = specfile.read(file("yaml", "name: " .. ("x"):rep(1024 * 1024)))
    assert.is_nil(value)
    assert.equal("too_large", err.code)
    assert.equal(0, os.execute(("mkdir '%s/folder.yaml'"):format(folder)))
    value, err = specfile.read(folder .. "/folder.yaml")
    assert.is_nil(value)
    assert.equal("not_found", err.code)
  end)

  it("may be standard input, JSON or YAML", function()
    for _, text in ipairs { '  {"name":"a"}', "name: a" } do
      local input = assert(io.open(file("txt", text)))
      assert.equal("a", assert(specfile.read("-", input)).name)
      input:close()
    end
  end)
end)
