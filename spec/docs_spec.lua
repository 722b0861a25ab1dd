-- ctest: timeout=240
-- Every command and snippet of the README is run, in a copy of what it names, as a reader would.
local command = require "spec.support.command"
local house = require "spec.support.house"

local function blocks(path)
  local list = {}
  for language, text in ("\n" .. assert(house.read(path))):gmatch "\n```(%w*)\n(.-)\n```" do
    list[#list + 1] = { language = language, text = text }
  end
  return list
end

describe("the README", function()
  local home
  setup(function() home = command.open() end)
  teardown(function() home:close() end)

  it("has commands and snippets that work, in its order", function()
    local source = io.popen("pwd"):read "*l"
    -- The reader stands in the source folder, and writes there; this one must not.
    os.execute(("cd %s && ln -s %s/lua %s/dev . && ln -s %s build && cp -r %s/examples ."):format(home.folder, source, source,
      house.build(), source))
    local ran = 0
    for _, block in ipairs(blocks "README.md") do
      if block.language == "lua" then
        local name = assert(block.text:match "^%-%- (%S+%.lua)\n", "a Lua block begins with its file's name")
        house.write(home.folder .. "/" .. name, block.text .. "\n")
      elseif block.language == "sh" then
        for line in block.text:gmatch "[^\n]+" do
          if not line:match "^export PATH" then
            local environment = home:environment()
            environment.LD_PRELOAD = line:match "luajit" and os.getenv "CTRLPLANE_PRELOAD" or false
            local code, out, err = house.run({ "/bin/bash", "-c", "set -e; " .. line }, environment,
              { cwd = home.folder, timeout = 90 })
            assert.equal(0, code, ("%s\n%s%s"):format(line, err, out))
            ran = ran + 1
          end
        end
      end
    end
    assert.is_true(ran >= 15)
  end)

  it("names files that exist", function()
    for _, path in ipairs { "README.md", "CONTRIBUTING.md", "docs/architecture.md" } do
      local text = assert(house.read(path))
      for link in text:gmatch "%]%(([^)]+)%)" do
        if not link:match "^http" then assert.is_true(house.exists(link), path .. ": " .. link) end
      end
      for name in text:gmatch "%f[%w](dev/%l+)" do assert.is_true(house.exists(name), path .. ": " .. name) end
    end
  end)

  it("promises only folders that exist, in docs/architecture.md", function()
    local block = assert(house.read("docs/architecture.md"):match "\n```\n(.-)\n```")
    for folder in block:gmatch "[^\n]+" do
      local name = folder:match "^(%S+)"
      assert.is_true(house.exists(name), name)
    end
  end)

  it("is followed by a tour of twenty lines at most", function()
    local tour = assert(house.read("README.md"):match "## A tour\n\n```sh\n(.-)\n```")
    local _, lines = tour:gsub("\n", "")
    assert.is_true(lines + 1 <= 20)
  end)
end)
