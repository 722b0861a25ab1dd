--- ${port.http} and the like; everything else with a dollar sign comes through (D7).
local model = require("ctrlplane.core").model

local VALUES = {
  ["port.http"] = "8080",
  ["instance.id"] = "inst_1",
  ["workload.slug"] = "web",
  ["workload.name"] = "${port.http} $${x}",
}

describe("expansion", function()
  local ROWS = {
    { "--port=${port.http}", "--port=8080" },
    { "${port.http}${instance.id}", "8080inst_1" },
    { "", "" },
    { "plain", "plain" },
    { "$2b$12$abcdefghijklmnopqrstuv", "$2b$12$abcdefghijklmnopqrstuv" },
    { "100%$", "100%$" },
    { "$${port.http}", "${port.http}" },
    { "$$", "$$" },
    { "$$$", "$$$" },
    { "$$${port.http}", "$${port.http}" },
    { "$$ $x $(y) $1", "$$ $x $(y) $1" },
    { "${1:-x} $uri $${HOME}", "${1:-x} $uri ${HOME}" },
    { "${HOME} ${server.port} ${port} ${}", "${HOME} ${server.port} ${port} ${}" },
    { "${port.http", "${port.http" },
    { "${port.http\n}", "${port.http\n}" },
    { "${", "${" },
    { "${workload.name}", "${port.http} $${x}" }, -- what is put in is never looked at again
  }
  for _, row in ipairs(ROWS) do
    it(("of '%s' is '%s'"):format(row[1]:gsub("\n", "\\n"), row[2]:gsub("\n", "\\n")), function()
      assert.equal(row[2], (assert(model.expand(row[1], VALUES))))
    end)
  end

  for _, text in ipairs { "${port.htpp}", "a ${instance.} b", "${workload.http:-80}", "${port.http}${port.x}" } do
    it(("of '%s' is refused"):format(text), function()
      local out, err = model.expand(text, VALUES)
      assert.is_nil(out)
      assert.equal("invalid", err.code)
      assert.matches("is not known; write %$%${ for a literal", err.message)
    end)
  end

  it("refuses values that are no texts", function()
    local out, err = model.expand("x", { ["port.http"] = true })
    assert.is_nil(out)
    assert.equal("values.port.http", err.field)
  end)
end)
