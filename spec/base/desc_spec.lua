--- Structs to JSON and back by descriptor, on one that has a field of every type (engine/lua/testing_base.c).
local base = require("ctrlplane.core").testing.base

--- Parses, and expects `invalid` at that field with that message (a pattern) and hint.
local function refused(text, field, message, hint)
  local value, err = base.parse(text)
  assert.is_nil(value, text)
  assert.equal("invalid", err.code, text)
  assert.equal(field, err.field, text)
  assert.matches(message, err.message, nil, nil, text)
  assert.equal(hint, err.hint, text)
end

local FULL = [[{"text":"t","port":"http","count":3,"ratio":0.5,"flag":true,"at":"2026-01-31T12:00:00.123Z","wait":"1.5s",]]
  .. [["deadline":"none","word":"canary","share":"12.5%","list":["a","b"],"map":{"b":"2","a":"1"},]]
  .. [["object":{"name":"o"},"pointer":{"name":"p","size":0},"parts":[{"name":"x"},{"name":"y","size":9}],]]
  .. [["any":{"n":[1,null,0.1]}}]]

describe("a descriptor", function()
  it("reads every type and writes it back, empty fields left out and maps sorted", function()
    local text, given = base.parse(FULL)
    assert.equal(
      [[{"text":"t","port":"http","count":3,"ratio":0.5,"flag":true,"at":"2026-01-31T12:00:00.123Z","wait":1.5,]]
        .. [["deadline":"none","word":"canary","share":"12.5%","list":["a","b"],"map":{"a":"1","b":"2"},]]
        .. [["object":{"name":"o","size":7},"pointer":{"name":"p"},"parts":[{"name":"x","size":7},{"name":"y","size":9}],]]
        .. [["any":{"n":[1,null,0.1]}}]],
      text
    )
    assert.matches('"pointer"', given)
    assert.equal([[{"count":0,"word":"blue_green","object":{"size":7}}]], (base.parse [[{"text":""}]]))
  end)

  it("says which fields the input gave, empty or not", function()
    local _, given = base.parse [[{"flag":false,"text":"t","pointer":null}]]
    assert.equal([=[["text","flag","pointer"]]=], given)
  end)

  it("brings every field back from its stored form, also internal and empty ones, whatever the defaults", function()
    for _, text in ipairs { FULL, [[{"text":""}]], [[{"text":"x","object":{"name":"o","size":0}}]] } do
      local same, form = base.stored(text)
      assert.is_true(same, form)
      assert.matches('"internal":42', form, nil, true)
      assert.matches('"secret":"kept"', form, nil, true)
    end
  end)

  it("refuses unknown, internal and engine-set names, with the nearest name", function()
    refused([[{"text":"t","cuont":1}]], "cuont", "unknown field 'cuont' of whole", "did you mean 'count'?")
    refused([[{"text":"t","zzzzzz":1}]], "zzzzzz", "unknown field 'zzzzzz' of whole", nil)
    refused([[{"text":"t","internal":1}]], "internal", "unknown field", nil)
    refused([[{"text":"t","id":"x"}]], "id", "id is set by the engine; leave it out", nil)
    refused([[{"text":"t","parts":[{"name":"a"},{"nme":"b"}]}]], "parts[1].nme", "unknown field 'nme' of part", "did you mean 'name'?")
  end)

  it("refuses what is missing or empty", function()
    refused([[{}]], "text", "text is missing; give a text", nil)
    refused([[{"text":"t","object":{"name":""}}]], "object.name", "object.name is empty; give a name", nil)
    refused([[{"text":"t","pointer":{}}]], "pointer.name", "pointer.name is missing", nil)
  end)

  it("refuses wrong types, naming value and type", function()
    refused([[{"text":5}]], "text", "text is the number 5; it must be text", "put it in quotes")
    refused([[{"text":null}]], "text", "text is null; it must be text", "put it in quotes")
    refused([[{"text":"t","count":"5"}]], "count", "count is the text '5'; it must be a whole number", nil)
    refused([[{"text":"t","count":1.5}]], "count", "count is the number 1.5; it must be a whole number", nil)
    refused([[{"text":"t","flag":1}]], "flag", "it must be true or false", nil)
    refused([[{"text":"t","ratio":true}]], "ratio", "ratio is true; it must be a number", nil)
    refused([[{"text":"t","list":"a"}]], "list", "it must be a list of texts", nil)
    refused([[{"text":"t","list":["a",2]}]], "list[1]", "list%[1%] is the number 2", "put it in quotes")
    refused([[{"text":"t","map":["a"]}]], "map", "map is an array", nil)
    refused([[{"text":"t","map":{"a":8080}}]], "map.a", "map.a is the number 8080; it must be text", "put it in quotes")
    refused([[{"text":"t","object":null}]], "object", "object is null; it must be an object %(part%)", nil)
    refused([[{"text":"t","parts":{}}]], "parts", "it must be a list of part objects", nil)
    refused([[["text"] ]], nil, "whole is an array; it must be an object", nil)
    refused([[{"text":"t","word":"canry"}]], "word", "it must be blue_green, rolling or canary", "did you mean 'canary'?")
    refused([[{"text":"t","word":"blue-green"}]], "word", "text 'blue%-green'", "did you mean 'blue_green'?")
    refused([[{"text":"t","at":"yesterday"}]], "at", "at: 'yesterday' is not a time", "write it like 2026-01-31T12:00:00.123Z")
    refused([[{"text":"t","wait":"soon"}]], "wait", "wait: 'soon' is not a duration", "write it like 250ms, 30s or 1h30m")
    refused([[{"text":"t","wait":-1}]], "wait", "wait is the number %-1", [[write it like "250ms", "30s" or a number of seconds]])
    refused([[{"text":"t","wait":"none"}]], "wait", "not a duration", "write it like 250ms, 30s or 1h30m")
    refused([[{"text":"t","share":"150%"}]], "share", "more than 100%%", nil)
    refused([[{"text":"t","share":-1}]], "share", "share is the number %-1", [[write it like 3 or "25%"]])
  end)

  it("refuses what is out of bounds, naming the bounds", function()
    refused([[{"text":"t","count":1001}]], "count", "count is 1001; it must be %-5%.%.1000", nil)
    refused([[{"text":"t","count":-6}]], "count", "count is %-6", nil)
    refused([[{"text":"t","ratio":1.01}]], "ratio", "ratio is 1.01; it must be 0%.%.1", nil)
    refused([[{"text":"t","wait":"99ms"}]], "wait", "wait is 0.099 s; it must be 0.1%.%.60 s", nil)
    refused([[{"text":"t","wait":61}]], "wait", "wait is 61 s", nil)
    refused([[{"text":"t","object":{"name":"123456789"}}]], "object.name", "object.name has 9 bytes; it must have 0%.%.8", nil)
    refused([[{"text":"t","list":["a","b","c","d"]}]], "list", "list has 4 items; it must have 0%.%.3", nil)
    refused([[{"text":"t","map":{"a":"","b":"","c":"","d":""}}]], "map", "map has 4 entries", nil)
    refused([[{"text":"t","parts":[{"name":"a"},{"name":"a"},{"name":"a"}]}]], "parts", "parts has 3 items; it must have 0%.%.2", nil)
  end)

  it("takes whole numbers however they are written, and numbers where a field says so", function()
    assert.matches('"count":3', base.parse [[{"text":"t","count":3.0}]], nil, true)
    assert.matches('"port":"8080"', base.parse [[{"text":"t","port":8080}]], nil, true)
    assert.matches('"share":3', base.parse [[{"text":"t","share":3}]], nil, true)
    assert.matches('"wait":0.25', base.parse [[{"text":"t","wait":0.25}]], nil, true)
  end)

  it("applies the rules across fields last", function()
    refused([[{"text":"t","count":13}]], "count", "count 13 is refused", nil)
  end)

  it("keeps whole numbers to 2^63 - 1 exact in any value", function()
    assert.matches('"any":9007199254740993', base.parse [[{"text":"t","any":9007199254740993}]], nil, true)
  end)
end)

describe("JSON text", function()
  it("comes back as it was, keys in their order; sorted for hashing", function()
    local text, sorted = base.json [[ {"b": [1, 0.1, 1e300, "\u00e9\n"], "a": {}} ]]
    assert.equal([[{"b":[1,0.1,1e300,"é\n"],"a":{}}]], text)
    assert.equal([[{"a":{},"b":[1,0.1,1e300,"é\n"]}]], sorted)
  end)

  it("keeps every bit of a number", function()
    for _, number in ipairs { "0.1", "0.30000000000000004", "1.7976931348623157e308", "5e-324", "123456.789" } do
      local text = base.json("[" .. number .. "]")
      assert.equal(tonumber(number), tonumber(text:match "^%[(.*)%]$"), text)
    end
  end)

  it("is refused with line and column when it is not JSON", function()
    for text, message in pairs {
      [""] = "line 1, column 0",
      ["{"] = "line 1, column 1",
      ['{"a":1} x'] = "line 1, column 9",
      ['{"a":1,\n"a":2}'] = "duplicate object key.*line 2",
      ["[1,]"] = "line 1, column 4",
      ['"\255"'] = "not JSON",
      ['"\237\160\128"'] = "not JSON", -- a surrogate in UTF-8
      ['"a\0b"'] = "not JSON",
      ['"\\u0000"'] = "NUL",
      ["[1e999]"] = "not JSON",
      ["[99999999999999999999]"] = "not JSON",
      ["NaN"] = "not JSON",
      [("["):rep(33) .. ("]"):rep(33)] = "more than 32 deep %(line 1, column 33%)",
      [("["):rep(10000)] = "more than 32 deep",
      ['{"a":' .. ("["):rep(32) .. ("]"):rep(32) .. "}"] = "more than 32 deep",
    } do
      local value, err = base.json(text)
      assert.is_nil(value, text)
      assert.equal("invalid", err.code)
      assert.matches(message, err.message)
    end
    assert.truthy(base.json(("["):rep(32) .. ("]"):rep(32)))
    assert.truthy(base.json('["' .. ("["):rep(100) .. '\\"' .. ("{"):rep(100) .. '"]')) -- brackets in text are text
  end)

  it("over its bound is too_large", function()
    local _, err = base.json("[1,2,3]", 6)
    assert.equal("too_large", err.code)
    assert.equal("JSON text has 7 bytes; at most 6 are accepted", err.message)
  end)
end)
