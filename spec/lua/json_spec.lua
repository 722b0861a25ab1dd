local core = require "ctrlplane.core"
local json = core.json

--- The error of json.encode(value).
local function refusal(value)
  local text, err = json.encode(value)
  assert.is_nil(text)
  return err
end

describe("JSON in Lua", function()
  it("tells objects and arrays apart, also when they are empty", function()
    for _, text in ipairs { "[]", "{}", '{"a":[],"b":{}}', '[[],{},[1]]', '{"a":{"b":[{"c":null}]}}' } do
      assert.equal(text, assert(json.encode(assert(json.decode(text)))))
    end
  end)

  it("keeps numbers: integers as integers, others as they are", function()
    assert.equal("[1,-0.5,9007199254740992,1e+300]",
      (assert(json.encode { 1, -0.5, 2 ^ 53, 1e300 }):gsub("1%.?0*1?e%+?300", "1e+300")))
    assert.equal(12345678901, assert(json.decode "12345678901"))
  end)

  it("has null as ctrlplane.null, which is not nil", function()
    local value = assert(json.decode '{"a":null}')
    assert.equal(core.null, value.a)
    assert.equal('{"a":null}', json.encode(value))
  end)

  it("writes keys in order, whatever the order of the table", function()
    assert.equal('{"a":1,"b":2,"c":3}', json.encode { c = 3, a = 1, b = 2 })
  end)

  it("marks an empty table as an array on demand", function()
    assert.equal("[]", json.encode(json.array {}))
    assert.equal("[]", json.encode(json.array()))
    assert.equal("{}", json.encode {})
  end)

  it("writes ctrlplane.remove as its JSON, and does not let it be changed", function()
    assert.equal('{"a":{"$remove":true}}', json.encode { a = core.remove })
    assert.has_error(function() core.remove.x = 1 end)
  end)

  it("refuses what JSON has no word for, with the path to it", function()
    local loop = {}
    loop.x = { loop }
    for want, value in pairs {
      ["a.b is a function; JSON has no such thing"] = { a = { b = print } },
      ["a[1] is not a finite number"] = { a = { 1, 0 / 0 } },
      ["x[0] is a cycle: it contains itself"] = loop,
      ["the value is a list with holes; indices must be 1, 2, 3 ... without a gap"] = { [1] = 1, [3] = 3 },
      ["the value mixes names and indices as keys; make it a list or a map"] = { 1, a = 2 },
      ["a has a number that is no index as a key; keys are names, or 1, 2, 3 ..."] = { a = { [1.5] = 1 } },
      ["the value has a key that is neither a name nor an index"] = { [true] = 1 },
      ["a is not UTF-8 text"] = { a = "\255" },
      ["the value has a key that is not UTF-8 text"] = { ["\255"] = 1 },
      ["a is a userdata; JSON has no such thing"] = { a = io.stdout },
      ["a is a thread; JSON has no such thing"] = { a = coroutine.create(print) },
    } do
      local err = refusal(value)
      assert.equal("invalid", err.code)
      assert.equal(want, err.message)
    end
  end)

  it("names the field of a refusal", function()
    assert.equal("services[1].image", refusal { services = { { image = "a" }, { image = print } } }.field)
  end)

  it("bounds nesting, both ways", function()
    local deep = {}
    for _ = 1, 100 do deep = { deep } end
    assert.matches("nested too deeply", refusal(deep).message)
    assert.is_nil((json.decode(("["):rep(100) .. ("]"):rep(100))))
    assert.is_nil((json.decode(("["):rep(100000))))
  end)

  it("reads strictly: one value, no duplicate key, no NUL, UTF-8 only", function()
    for _, text in ipairs { "", " ", "{", "[1,]", '{"a":1,"a":2}', "1 2", "nul", "'a'", '"\\u0000"', '"\255"', "{a:1}",
      "NaN", "01" } do
      local value, err = json.decode(text)
      assert.is_nil(value, text)
      assert.equal("invalid", err.code, text)
    end
  end)

  it("comes back from a thousand random values as they were", function()
    math.randomseed(7)
    local function random(depth)
      local kind = math.random(depth > 3 and 4 or 6)
      if kind == 1 then return math.random(-1000000, 1000000) end
      if kind == 2 then return ("x"):rep(math.random(0, 5)) .. "ä\n\"" end
      if kind == 3 then return math.random() < 0.5 end
      if kind == 4 then return core.null end
      local value = kind == 5 and json.array {} or {}
      for i = 1, math.random(0, 4) do value[kind == 5 and i or ("k" .. i)] = random(depth + 1) end
      return value
    end
    for _ = 1, 1000 do
      local value = random(0)
      local text = assert(json.encode(value))
      local again = json.decode(text)
      assert.equal(text, json.encode(again))
      assert.same(value, again)
    end
  end)
end)
