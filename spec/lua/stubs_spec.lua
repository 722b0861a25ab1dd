--- What editors are told, compared with the program.
local core = require "ctrlplane.core"
local ctrlplane = require "ctrlplane"
local stubs = require "dev.stubs"

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

describe("the stubs", function()
  it("are those of the tables (else: luajit dev/stubs.lua)", function()
    assert.is_true(stubs.current() == stubs.text(), "lua/ctrlplane/types/api.lua is stale")
  end)

  it("are Lua", function()
    assert(loadfile "lua/ctrlplane/types/api.lua")
    assert(loadfile "lua/ctrlplane/types/ctrlplane.lua")
  end)

  it("describe every class that they name", function()
    local named, there = {}, {}
    for _, name in ipairs { "api", "ctrlplane", "strategy" } do
      local text = read(("lua/ctrlplane/types/%s.lua"):format(name))
      for class in text:gmatch "%f[%w]ctrlplane%.%u%w*" do named[class] = true end
      for class in text:gmatch "%-%-%-@class (ctrlplane%.%u%w*)" do there[class] = true end
    end
    assert.same(there, named)
  end)

  it("have a line of documentation for every operation and field", function()
    assert.same({}, stubs.undocumented())
  end)

  it("would be found stale", function()
    local doc = core.operations[1].doc
    core.operations[1].doc = doc .. " More."
    local stale = stubs.current() ~= stubs.text()
    core.operations[1].doc = doc
    assert.is_true(stale)
  end)

  it("know every name of the module, of planes, tasks, streams and the clock, and no other", function()
    local text = read "lua/ctrlplane/types/ctrlplane.lua"
    local written, there = {}, {}
    for class, method in text:gmatch "\nfunction ([%w_]+)[:.]([%w_]+)%(" do
      written[class .. "." .. method] = true
    end
    for name, value in pairs(ctrlplane) do
      if type(value) == "function" then there["ctrlplane." .. name] = true end
    end
    for class, names in pairs(core.plane.methods()) do
      for _, name in ipairs(names) do there[class .. "." .. name] = true end
    end
    assert.same(there, written)
  end)
end)
