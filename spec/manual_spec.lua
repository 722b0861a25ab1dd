-- ctest: timeout=300
-- Every page of the manual is what a reader would see: its files are written, its commands run, in a shell, in the
-- page's order, and what they print is compared. How fences are read:
--   ```console   "$ command" lines, each followed by what it prints (nothing: not compared). "..." is any text.
--                The commands of one fence share a shell; each must end with 0.
--   ```sh        commands, a line each, that must end with 0
--   ```lua, ```yaml, ```json, ```c with a first line such as "-- web.lua" or "# web.yaml": a file
--   ```text and anything else: not run
-- What differs from run to run (ids, ports, times, pids) is made equal on both sides.
local command = require "spec.support.command"
local house = require "spec.support.house"

local PAGES = { "guide", "spec", "process", "strategies", "lua", "reference", "operations", "architecture" }

local function page(name) return assert(house.read(("docs/%s.md"):format(name))) end

-- list of { language, text, line }
local function blocks(text)
  local list, current, number = {}, nil, 0
  for line in (text .. "\n"):gmatch "(.-)\n" do
    number = number + 1
    local fence = line:match "^```(.*)$"
    if current and fence then
      current.text = table.concat(current, "\n")
      list[#list + 1], current = current, nil
    elseif fence then
      current = { language = fence, line = number + 1 }
    elseif current then
      current[#current + 1] = line
    end
  end
  assert(not current, "a fence is not closed")
  return list
end

local FILE = { "^%-%- (%S+%.lua)\n", "^# (%S+%.ya?ml)\n", "^/%* (%S+%.c)", "^%-%- (%S+%.lua):" }

local function file_name(block)
  for _, pattern in ipairs(FILE) do
    local name = block.text:match(pattern)
    if name then return name end
  end
end

-- "$ command" and what it prints.
local function commands(block)
  local list = {}
  for line in (block.text .. "\n"):gmatch "(.-)\n" do
    local typed = line:match "^%$ (.*)$"
    local more = line:match "^> (.*)$"
    local last = list[#list]
    if typed or block.language == "sh" and line ~= "" then
      list[#list + 1] = { typed = typed or line, prints = {} }
    elseif more and last and #last.prints == 0 then
      last.typed = last.typed .. "\n" .. more
    elseif last then
      table.insert(last.prints, line)
    else
      error(("line %d: output before any command: %s"):format(block.line, line))
    end
  end
  return list
end

-- Ids, ports, times and pids differ from run to run; so do the lines of progress, which carry the time.
local function alike(text, folder)
  text = ("\n" .. text):gsub("\n%d%d:%d%d:%d%dZ  [^\n]*", "")
  if folder then text = text:gsub(folder:gsub("%p", "%%%0"), "/home/me") end
  text = text:gsub("(%l+_)" .. ("[%l%d]"):rep(26), "%1ID"):gsub("(%-%d+%-)" .. ("[%l%d]"):rep(5) .. "%f[%W]", "%1ID")
  text = text:gsub("127%.0%.0%.1:%d+", "127.0.0.1:PORT"):gsub("port %d+", "port PORT"):gsub("pid %d+", "pid PID")
  text = text:gsub("process %d+", "process PID")
  text = text:gsub("%d%d%d%d%-%d%d%-%d%dT[%d:.]+Z", "TIME"):gsub("%f[%w]%d[%dhm]*%.?%d*s%f[%W]", "AGE")
  text = text:gsub("%f[%w]%d+%.?%d* m?s%f[%W]", "AGE"):gsub("%f[%w]%x" .. ("%x"):rep(63), "HASH")
  text = text:gsub(" %(for AGE%)", ""):gsub("%-%d+%-ID failed", "-N-ID failed")
  return (text:gsub("%s+", " "):gsub("^ ", ""):gsub(" $", ""))
end

local function matches(expected, printed)
  local pattern = expected:gsub("%.%.%.", "\0"):gsub("[%p]", "%%%0"):gsub("%z", ".-")
  return printed:match("^" .. pattern .. "$") ~= nil
end

-- The reader stands in a folder that holds what the source has; the source itself is not written to.
local function open_home()
  local home = command.open()
  home.store = home.folder .. "/.local/share/ctrlplane/plane.db"
  home.socket = home.store .. ".sock"
  local source = io.popen("pwd"):read "*l"
  assert(os.execute(("cd %s && ln -s %s/lua . && ln -s %s build && cp -r %s/examples ."):format(home.folder, source,
    house.build(), source)) == 0)
  return home
end

local MARK = "\1ended "

-- Runs the commands of a block in one shell, and judges each.
local function run(home, block)
  local list, script = commands(block), {}
  for _, item in ipairs(list) do
    script[#script + 1] = ("{ %s\n}\nprintf '%s%%d\\n' $?"):format(item.typed, MARK)
  end
  local environment = home:environment()
  -- Programs that are built without the sanitizer need its runtime first; others must not get it.
  local foreign = block.text:match "luajit" or block.text:match "LD_LIBRARY_PATH"
  environment.LD_PRELOAD = foreign and os.getenv "CTRLPLANE_PRELOAD" or false
  environment.LUA_PATH, environment.LUA_CPATH = false, false
  local out = home.folder .. "/.printed"
  house.run({ "/bin/bash", "-c", ("exec >%s 2>&1\n%s"):format(out, table.concat(script, "\n")) }, environment,
    { cwd = home.folder, timeout = 120 })
  local text, from = house.read(out), 1
  for _, item in ipairs(list) do
    local first, last, code = text:find(MARK .. "(%d+)\n", from)
    local printed = text:sub(from, (first or #text + 1) - 1)
    local where = ("line %d: $ %s\n%s"):format(block.line, item.typed, printed)
    assert.equal("0", code, where)
    local expected = alike(table.concat(item.prints, "\n"))
    if expected ~= "" then
      local actual = alike(printed, home.folder)
      assert.is_true(matches(expected, actual), ("%s\nexpected: %s\nprinted:  %s"):format(where, expected, actual))
    end
    from = last + 1
  end
  return #list
end

describe("the manual", function()
  for _, name in ipairs(PAGES) do
    local list = blocks(page(name))
    local runs = false
    for _, block in ipairs(list) do runs = runs or block.language == "console" or block.language == "sh" end
    if runs then
      it("shows what happens: " .. name, function()
        local home = open_home()
        local ok, bad = pcall(function()
          for _, block in ipairs(list) do
            local file = block.language ~= "console" and block.language ~= "sh" and file_name(block)
            if file then
              house.write(home.folder .. "/" .. file, block.text .. "\n")
            elseif block.language == "console" or block.language == "sh" then
              run(home, block)
            else
              assert.equal("text", block.language, ("line %d: a fence that nobody runs says text"):format(block.line))
            end
          end
        end)
        home:close()
        if not ok then error(bad, 0) end
      end)
    end
  end

  it("has a reference that says what the program says; else run dev/stubs", function()
    local reference = require "dev.reference"
    assert.equal(reference.text(), reference.current())
  end)

  it("runs every command that it shows", function()
    for _, name in ipairs(PAGES) do
      assert.is_nil(("\n" .. page(name)):match "\n    %$ [^\n]*", name .. ": a command outside of a fence")
    end
  end)

  it("has links that lead somewhere, from each page to the next", function()
    for i, name in ipairs(PAGES) do
      local text = page(name)
      for link in text:gmatch "%]%(([^)]+)%)" do
        local path, anchor = link:match "^([^#]*)#?(.*)$"
        if not link:match "^http" then
          local target = path == "" and "docs/" .. name .. ".md" or "docs/" .. path
          local there = assert(house.read(target), ("%s: %s"):format(name, link))
          local found = anchor == ""
          for heading in ("\n" .. there):gmatch "\n#+ ([^\n]+)" do
            found = found or heading:lower():gsub("[^%w%s_-]", ""):gsub(" ", "-") == anchor
          end
          assert.is_true(found, ("%s: there is no heading for %s"):format(name, link))
        end
      end
      local next_page = PAGES[i + 1]
      if next_page then assert.truthy(text:find(("](%s.md)"):format(next_page), 1, true), name .. " leads nowhere") end
    end
  end)
end)
