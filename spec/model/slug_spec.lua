--- From a name to a slug.
local model = require("ctrlplane.core").model

local function is_label(text)
  return #text >= 1 and #text <= 63 and not text:find "[^a-z0-9-]" and not text:find "^-" and not text:find "-$"
end

describe("a slug", function()
  local ROWS = {
    { "web", "web" },
    { "az09-AZ", "az09-az" },
    { "Hello World", "hello-world" },
    { "  a -- b  ", "a-b" },
    { "v1.2_rc", "v1-2-rc" },
    { "Zürich", "z-rich" },
    { "e\204\129", "e" }, -- é decomposed
    { "123", "123" },
    { ("a"):rep(60), ("a"):rep(48) },
    { ("a"):rep(47) .. " b", ("a"):rep(47) },
    { ("a"):rep(46) .. " b", ("a"):rep(46) .. "-b" },
    { ("a"):rep(48) .. "-b", ("a"):rep(48) },
  }
  for _, row in ipairs(ROWS) do
    it(("of '%s' is '%s'"):format(row[1], row[2]), function()
      assert.equal(row[2], model.slug(row[1]))
    end)
  end

  it("of a name without Latin letters or digits is a label of its own (D5)", function()
    local seen = {}
    for _, name in ipairs { "数据", "🚀", "---", "é", "…", "_", "`{/:@[" } do
      local slug = assert(model.slug(name))
      assert.is_true(is_label(slug), slug)
      assert.matches("^w%-%x%x%x%x%x%x%x%x$", slug)
      assert.is_nil(seen[slug])
      seen[slug] = name
    end
    assert.equal(model.slug "🚀", model.slug "🚀")
  end)

  it("is a DNS label with room for an index, whatever the name", function()
    math.randomseed(7)
    for _ = 1, 2000 do
      local bytes = {}
      for i = 1, math.random(63) do
        bytes[i] = string.char(math.random(33, 126))
      end
      local slug = assert(model.slug(table.concat(bytes)))
      assert.is_true(is_label(slug) and #slug <= 48, slug)
    end
  end)

  for what, row in pairs {
    ["an empty name"] = { "", "empty" },
    ["two spaces"] = { "  ", "blank" },
    ["a NUL"] = { "a\0", "NUL" },
    ["a newline"] = { "a\nb", "0x0a" },
    ["a DEL"] = { "a\127", "0x7f" },
    ["300 bytes of ß"] = { ("ß"):rep(150), "300 bytes" },
    ["64 bytes"] = { ("a"):rep(64), "64 bytes" },
    ["bytes that are not UTF-8"] = { "a\255", "UTF%-8" },
  } do
    it("is refused for " .. what, function()
      local slug, err = model.slug(row[1])
      assert.is_nil(slug)
      assert.same({ "invalid", "name" }, { err.code, err.field })
      assert.matches(row[2], err.message)
    end)
  end
end)
