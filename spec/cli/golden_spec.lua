-- What people read, word for word: spec/cli/golden/*.txt hold commands ("$ ...") and what they print, as they follow one
-- another on one store. What differs from run to run is written as ID, TIME, PORT ...; progress lines are left out.
-- CP_GOLDEN=write writes the files anew, to be looked at in the diff.
local command = require "spec.support.command"
local house = require "spec.support.house"

local FILES = { "workload", "rollout", "errors" }

local function parse(text)
  local steps = {}
  for line in text:gmatch "([^\n]*)\n" do
    local typed = line:match "^%$ (.*)$"
    if typed then
      steps[#steps + 1] = { typed = typed, expected = {} }
    elseif #steps > 0 then
      table.insert(steps[#steps].expected, line)
    end
  end
  return steps
end

describe("what people read", function()
  local home
  before_each(function()
    home = command.open()
    home:file("web.json", command.web())
  end)
  after_each(function() home:close() end)

  for _, name in ipairs(FILES) do
    it("is as spec/cli/golden/" .. name .. ".txt shows", function()
      local path = "spec/cli/golden/" .. name .. ".txt"
      local lines = { (assert(house.read(path)):match "^(.-)\n%$ ") }
      for _, step in ipairs(parse(assert(house.read(path)))) do
        local environment = home:environment()
        local code, out, err = house.run({ "/bin/sh", "-c", step.typed }, environment, { cwd = home.folder })
        local got = home:steady(err .. out)
        if code ~= 0 then got = got .. ("(exit code %d)\n"):format(code) end
        lines[#lines + 1] = "$ " .. step.typed .. "\n" .. got:gsub("\n$", "")
        if os.getenv "CP_GOLDEN" ~= "write" then
          local expected = table.concat(step.expected, "\n")
          assert.equal(expected:gsub("\n*$", ""), (got:gsub("\n*$", "")), "$ " .. step.typed)
        end
      end
      if os.getenv "CP_GOLDEN" == "write" then house.write(path, table.concat(lines, "\n") .. "\n") end
    end)
  end
end)
