--- Durations, shares, times and UTF-8 as people and programs write them.
local base = require("ctrlplane.core").testing.base

describe("a duration", function()
  it("is read in ms, s, m and h, from large to small, or as seconds", function()
    for text, ms in pairs {
      ["250ms"] = 250, ["30s"] = 30000, ["5m"] = 300000, ["1h"] = 3600000, ["1h30m"] = 5400000, ["1m30s500ms"] = 90500,
      ["1.5h"] = 5400000, ["0.5"] = 500, ["30"] = 30000, ["0"] = 0, ["0s"] = 0, ["0.25s"] = 250, ["87600h"] = 315360000000,
      ["007s"] = 7000,
    } do
      assert.equal(ms, base.duration(text), text)
    end
  end)

  it("is refused otherwise, saying how to write it", function()
    for _, text in ipairs {
      "", " ", "s", "-1s", "+1s", "1 s", "1x", "1d", "1S", "1m1h", "1s1s", "1h30", "30 ", " 30", "1e3", "0x10", "inf", "nan",
      "1.s", ".5s", "1..5s", "1,5s", "٣s",
    } do
      local value, err = base.duration(text)
      assert.is_nil(value, text)
      assert.equal("invalid", err.code)
      assert.equal("write it like 250ms, 30s or 1h30m", err.hint)
    end
    local _, err = base.duration "87601h"
    assert.equal("'87601h' is too long a duration; at most ten years", err.message)
    _, err = base.duration(("9"):rep(400) .. "s")
    assert.equal("invalid", err.code)
  end)
end)

describe("a share", function()
  it("is a count or a percentage of the total, rounded as asked", function()
    assert.equal(3, base.share("3", 10, false))
    assert.equal(0, base.share("0", 10, true))
    assert.equal(2, base.share("25%", 10, false))
    assert.equal(3, base.share("25%", 10, true))
    assert.equal(10, base.share("100%", 10, false))
    assert.equal(0, base.share("1%", 10, false))
    assert.equal(1, base.share("1%", 10, true))
    assert.equal(0, base.share("50%", 0, true))
    assert.equal(1, base.share("0.01%", 10000, true))
  end)

  it("is exact where the percentage is", function()
    for percent = 0, 100 do
      for _, total in ipairs { 100, 1000, 10000 } do
        local exact = percent * total / 100
        assert.equal(exact, base.share(percent .. "%", total, true))
        assert.equal(exact, base.share(percent .. "%", total, false))
      end
    end
    assert.equal(333, base.share("33.3%", 1000, true))
    assert.equal(333, base.share("33.3%", 1000, false))
  end)

  it("is refused otherwise", function()
    for text, message in pairs {
      [""] = "not a share", ["%"] = "not a share", ["-1"] = "not a share", ["25 %"] = "not a share", ["101%"] = "more than 100%%",
      ["2.5"] = "not a whole number of replicas", ["10001"] = "more than 10000 replicas", ["1e2"] = "not a share", ["nan"] = "not a share",
      ["5%%"] = "not a share", ["all"] = "not a share",
    } do
      local value, err = base.share(text, 10, false)
      assert.is_nil(value, text)
      assert.matches(message, err.message)
    end
  end)
end)

describe("a time", function()
  it("is RFC 3339, written in UTC with ms", function()
    for text, utc in pairs {
      ["2026-01-31T12:00:00Z"] = "2026-01-31T12:00:00.000Z",
      ["2026-01-31T12:00:00.1Z"] = "2026-01-31T12:00:00.100Z",
      ["2026-01-31T12:00:00.123456789Z"] = "2026-01-31T12:00:00.123Z",
      ["2026-01-31t12:00:00z"] = "2026-01-31T12:00:00.000Z",
      ["2026-01-31T12:00:00+02:00"] = "2026-01-31T10:00:00.000Z",
      ["2026-01-31T23:30:00-01:30"] = "2026-02-01T01:00:00.000Z",
      ["2024-02-29T00:00:00Z"] = "2024-02-29T00:00:00.000Z",
      ["1970-01-01T00:00:00Z"] = "1970-01-01T00:00:00.000Z",
      ["9999-12-31T23:59:59.999Z"] = "9999-12-31T23:59:59.999Z",
    } do
      local _, written = base.time(text)
      assert.equal(utc, written, text)
    end
    assert.equal(1769860800123, (base.time "2026-01-31T12:00:00.123Z"))
  end)

  it("is refused otherwise", function()
    for _, text in ipairs {
      "", "now", "2026-01-31", "2026-01-31T12:00", "2026-01-31T12:00:00", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z",
      "2025-02-29T00:00:00Z", "2026-01-31T24:00:00Z", "2026-01-31T12:60:00Z", "2026-01-31T12:00:61Z", "2026-1-31T12:00:00Z",
      "2026-01-31T12:00:00.Z", "2026-01-31T12:00:00Z ", "2026-01-31T12:00:00+2:00", "2026-01-31T12:00:00+24:00",
      "1969-12-31T23:59:59Z", "99999-01-01T00:00:00Z",
    } do
      local value, err = base.time(text)
      assert.is_nil(value, text)
      assert.matches("is not a time", err.message)
    end
  end)
end)

describe("UTF-8", function()
  it("is told from what is not", function()
    for _, text in ipairs { "", "plain", "é", "\194\128", "\223\191", "\224\160\128", "\239\191\191", "\240\144\128\128", "\244\143\191\191", "a\0b" } do
      assert.is_true(base.utf8(text), text)
    end
    for name, text in pairs {
      ["a stray tail"] = "\128", ["cut off"] = "\195", ["cut off in three"] = "\226\130", ["cut off in four"] = "\240\159\152",
      ["overlong two"] = "\192\175", ["overlong three"] = "\224\159\191", ["overlong four"] = "\240\143\191\191",
      ["a surrogate"] = "\237\160\128", ["beyond the end"] = "\244\144\128\128", ["five bytes"] = "\248\136\128\128\128",
      ["latin-1"] = "caf\233", ["a wrong tail"] = "\195a",
    } do
      assert.is_false(base.utf8(text), name)
    end
  end)
end)
