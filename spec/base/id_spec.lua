--- TypeIDs: the valid and invalid cases of the specification (0.3), mutations, and the order of new ones.
local core = require "ctrlplane.core"
local base = core.testing.base
local ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"

describe("an id", function()
  it("is taken with any valid suffix", function()
    for _, suffix in ipairs {
      "00000000000000000000000000", "00000000000000000000000001", "0000000000000000000000000a", "0000000000000000000000000g",
      "00000000000000000000000010", "7zzzzzzzzzzzzzzzzzzzzzzzzz", "0123456789abcdefghjkmnpqrs", "01h455vb4pex5vsknk084sn02q",
    } do
      assert.is_true(core.id.check("wkl_" .. suffix, "wkl"), suffix)
      assert.is_true(core.id.check("plane_" .. suffix), suffix)
    end
  end)

  it("is refused with the reason", function()
    for id, reason in pairs {
      [""] = "has no prefix",
      ["01h455vb4pex5vsknk084sn02q"] = "has no prefix",
      ["_01h455vb4pex5vsknk084sn02q"] = "has no prefix",
      ["WKL_01h455vb4pex5vsknk084sn02q"] = "prefix",
      ["wkl-01h455vb4pex5vsknk084sn02q"] = "has no prefix",
      ["wkl_"] = "has 0 characters behind its prefix; it must have 26",
      ["wkl_01h455vb4pex5vsknk084sn02"] = "has 25 characters",
      ["wkl_01h455vb4pex5vsknk084sn02qq"] = "has 27 characters",
      ["wkl_01H455vb4pex5vsknk084sn02q"] = "has the capital 'H'; ids are lower case",
      ["wkl_81h455vb4pex5vsknk084sn02q"] = "overflows 128 bits",
      ["wkl_zzzzzzzzzzzzzzzzzzzzzzzzzz"] = "overflows 128 bits",
      ["wkl_01i455vb4pex5vsknk084sn02q"] = "byte 0x69 outside the alphabet",
      ["wkl_01l455vb4pex5vsknk084sn02q"] = "byte 0x6c",
      ["wkl_01o455vb4pex5vsknk084sn02q"] = "byte 0x6f",
      ["wkl_01u455vb4pex5vsknk084sn02q"] = "byte 0x75",
      ["wkl_01h455vb4pex5vsknk084sn0-q"] = "byte 0x2d",
      ["wkl_01h455vb4pex5vsknk084sn02 "] = "byte 0x20",
      ["wkl_ 01h455vb4pex5vsknk084sn02"] = "byte 0x20",
      ["wkl_01h455vb4pex5vsknk084sn\195\169"] = "has 25 characters",
      ["inst_01h455vb4pex5vsknk084sn02q"] = "has the prefix 'inst'; it must be 'wkl'",
      ["wk_l_01h455vb4pex5vsknk084sn02q"] = "prefix",
    } do
      local ok, err = core.id.check(id, "wkl")
      assert.is_nil(ok, id)
      assert.equal("invalid", err.code)
      assert.matches(reason, err.message, nil, true, id)
    end
    local _, err = core.id.check "user_01h455vb4pex5vsknk084sn02q"
    assert.matches("unknown prefix 'user'", err.message, nil, true)
  end)

  it("is taken or refused by the grammar alone, for 10,000 mutations", function()
    math.randomseed(20)
    local taken = 0
    for _ = 1, 10000 do
      local id = base.id("wkl", math.random(0, 2 ^ 42))
      for _ = 1, math.random(1, 3) do
        local at, kind = math.random(#id), math.random(4)
        local byte = string.char(math.random(1, 255))
        if kind == 1 then
          id = id:sub(1, at - 1) .. byte .. id:sub(at + 1)
        elseif kind == 2 then
          id = id:sub(1, at - 1) .. id:sub(at + 1)
        elseif kind == 3 then
          id = id:sub(1, at) .. byte .. id:sub(at + 1)
        else
          local n = math.random(#ALPHABET)
          id = id:sub(1, at - 1) .. ALPHABET:sub(n, n) .. id:sub(at + 1)
        end
      end
      local suffix = id:match "^wkl_(.*)$"
      local valid = suffix ~= nil and #suffix == 26 and suffix:match("^[0-7][" .. ALPHABET .. "]*$") ~= nil
      taken = taken + (valid and 1 or 0)
      local ok, err = core.id.check(id, "wkl")
      assert.equal(valid, ok == true, id)
      assert.truthy(ok or err.message:find "id '")
    end
    assert.is_true(taken > 500 and taken < 5000, tostring(taken)) -- both kinds were tried
  end)

  it("is new each time, in order, within a millisecond and when the clock goes back", function()
    local last = ""
    for i = 1, 20000 do
      local now = 1767225600000 + (i % 100 == 0 and -5000 or math.floor(i / 50))
      local id = base.id("evt", now)
      assert.is_true(core.id.check(id, "evt"))
      assert.is_true(id > last, id .. " after " .. last)
      last = id
    end
  end)

  it("is the same again from the same seed", function()
    local function series()
      base.seed(7)
      local ids = {}
      for i = 1, 5 do ids[i] = base.id("wkl", 1767225600000 + i) end
      return ids
    end
    local first = series()
    assert.same(first, series())
    base.seed(8)
    assert.not_equal(first[1], base.id("wkl", 1767225600001))
    base.seed(0)
  end)
end)
