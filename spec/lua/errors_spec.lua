local core = require "ctrlplane.core"
local errors = require "ctrlplane.errors"
local check = require "ctrlplane.check"

describe("an error", function()
  it("prints as one line: place, what is wrong, what would be right, the code", function()
    local err = errors.new {
      code = "invalid", message = "image is \"\"", field = "services[2].image", hint = "give an image", where = "up.lua:3",
    }
    assert.equal('up.lua:3: services[2].image: image is ""; give an image (invalid)', tostring(err))
    assert.equal("a b (internal)", tostring(errors.new { code = "internal", message = "a\nb" }))
  end)

  it("does not say twice what the message says", function()
    local err = errors.invalid("name", "name is blank; give a name", "give a name")
    assert.equal("name is blank; give a name (invalid)", tostring(err))
  end)

  it("makes assert print well", function()
    local ok, raised = pcall(assert, nil, errors.invalid("name", "name is blank"))
    assert.is_false(ok)
    assert.equal("name is blank (invalid)", tostring(raised))
  end)

  it("is told from other tables", function()
    assert.is_true(errors.is(errors.invalid(nil, "x")))
    for _, other in ipairs { { code = "invalid", message = "x" }, "x", 1, core.null, print } do
      assert.is_false(errors.is(other))
    end
  end)

  it("has a code of the list, and a message", function()
    assert.has_error(function() errors.new { code = "inval", message = "x" } end)
    assert.has_error(function() errors.new { code = "invalid" } end)
    assert.has_error(function() errors.new { message = "x" } end)
  end)
end)

describe("misuse", function()
  local function render(options) check.options(options, "render", { "values", "template" }) end
  local function double(value) check.argument(1, value, "number", "string") return value * 2 end

  it("raises at the caller's line, with the nearest option", function()
    local _, err = pcall(function()
      render { valuse = 1 }
    end)
    assert.matches("^spec/lua/errors_spec.lua:%d+: unknown option 'valuse' of render; did you mean 'values'%?$", err)
  end)

  it("names the options when none is near", function()
    local _, err = pcall(function() render { zzz = 1 } end)
    assert.matches("unknown option 'zzz' of render; it takes values, template$", err)
  end)

  it("says which type was wanted", function()
    local _, err = pcall(function() local _ = double(print) end)
    assert.matches("errors_spec.lua:%d+: argument 1 of double must be a number or string; got a function$", err)
  end)
end)

describe("small functions of the core", function()
  it("read durations as people write them", function()
    assert.equal(5400, core.duration "1h30m")
    assert.equal(0.25, core.duration "250ms")
    assert.equal(7, core.duration(7))
    local value, err = core.duration "soon"
    assert.is_nil(value)
    assert.equal("invalid", err.code)
  end)

  it("find the word that was meant", function()
    assert.equal("strategy", core.nearest("strategi", { "services", "strategy" }))
    assert.is_nil(core.nearest("zebra", { "services", "strategy" }))
  end)

  it("check ids", function()
    assert.is_true(core.id.check "wkl_01jdf5vxmze0rt9ygyq1c5m8ka")
    local _, err = core.id.check("wkl_01jdf5vxmze0rt9ygyq1c5m8kA", "wkl")
    assert.equal("invalid", err.code)
  end)
end)
