--- The `ctrlplane` command in a temporary home: run it, read what it says, take everything down again.
local dkjson = require "dkjson"
local house = require "spec.support.house"

local M = {}
local Home = {}
Home.__index = Home

--- A home with a store of its own. Nothing is started.
function M.open()
  local folder = house.folder()
  return setmetatable({ folder = folder, store = folder .. "/plane.db", socket = folder .. "/plane.db.sock" }, Home)
end

function Home:environment()
  return {
    CTRLPLANE_STORE = self.store,
    HOME = self.folder,
    LANG = "C.UTF-8",
    TERM = "dumb",
    PATH = house.build() .. ":" .. os.getenv "PATH",
    CTRLPLANE_URL = false,
    NO_COLOR = false,
    FORCE_COLOR = false,
  }
end

--- Runs the command: code, stdout, stderr. options: environment (added), stdin, timeout.
function Home:run(arguments, options)
  options = options or {}
  local argv = { house.program "ctrlplane" }
  if type(arguments) == "string" then
    for word in arguments:gmatch "%S+" do argv[#argv + 1] = word end
  else
    for _, word in ipairs(arguments) do argv[#argv + 1] = word end
  end
  local environment = self:environment()
  for name, value in pairs(options.environment or {}) do environment[name] = value end
  return house.run(argv, environment, { cwd = self.folder, stdin = options.stdin, timeout = options.timeout or 60 })
end

--- Runs it, expects code 0, gives stdout and stderr.
function Home:ok(arguments, options)
  local code, out, err = self:run(arguments, options)
  if code ~= 0 then
    error(("ctrlplane %s: code %d\n%s%s"):format(type(arguments) == "string" and arguments or table.concat(arguments, " "),
      code, out, err), 2)
  end
  return out, err
end

--- Runs it with -o json: the document, code, stderr. Fails when stdout is not exactly one document.
function Home:json(arguments, options)
  local words = {}
  if type(arguments) == "string" then
    for word in arguments:gmatch "%S+" do words[#words + 1] = word end
  else
    words = { unpack(arguments) }
  end
  words[#words + 1] = "-o"
  words[#words + 1] = "json"
  local code, out, err = self:run(words, options)
  local value, stop, problem = dkjson.decode(out)
  if value == nil then error(("no JSON document: %s\nstdout: %s\nstderr: %s"):format(tostring(problem), out, err), 2) end
  if out:sub(stop):match "%S" then error("more than one document: " .. out, 2) end
  return value, code, err
end

--- On a terminal (a pseudo one), with what is typed: code, everything that was shown.
function Home:typed(arguments, input)
  local line = ("%s %s"):format(house.program "ctrlplane", arguments)
  local environment = self:environment()
  environment.TERM = "xterm"
  environment.NO_COLOR = "1"
  local code, out = house.run({ "/usr/bin/script", "-qefc", line, "/dev/null" }, environment,
    { cwd = self.folder, stdin = input, timeout = 60 })
  return code, (out:gsub("\r", ""))
end

--- A spec file in the home; gives its name. spec: a table (written as JSON) or a text.
function Home:file(name, spec)
  house.write(self.folder .. "/" .. name, type(spec) == "table" and dkjson.encode(spec) or spec)
  return name
end

--- A workload of the example server.
function M.web(fields)
  local web = {
    name = "web",
    replicas = 2,
    services = { {
      name = "app",
      image = house.program "hello",
      env = { VERSION = "v1" },
      ports = { { name = "http" } },
      health_check = { path = "/healthz", interval = "1s" },
    } },
  }
  for key, value in pairs(fields or {}) do web[key] = value end
  return web
end

--- The pid of the engine that a command said it had started.
function M.started_pid(stderr) return tonumber(stderr:match "pid (%d+)") end

--- Removes every workload, stops the engine, checks that nothing is left, takes the folder away.
function Home:close()
  if house.exists(self.store) then
    local ok, list = pcall(self.json, self, "ls") -- starts an engine where a spec has ended it
    for _, w in ipairs(ok and list.items or {}) do self:run { "rm", w.slug, "--yes", "--volumes", "--wait", "20s" } end
    self:run "stop"
  end
  local left
  pcall(house.wait_for, "nothing is left", function()
    left = {}
    for _, process in ipairs(house.with_environment "CTRLPLANE_INSTANCE") do
      if process.exe:find(self.folder, 1, true) == 1 then left[#left + 1] = process.command end
    end
    return #left == 0
  end, 10)
  house.remove(self.folder)
  if left and #left > 0 then error("still running: " .. table.concat(left, "; "), 2) end
end

--- A text without what differs from run to run: ids, times, pids, ports, the folder, the width of columns.
function Home:steady(text)
  text = text:gsub("%f[%w]%d%d:%d%d:%d%dZ[^\n]*\n", "") -- progress lines
  text = text:gsub("\27%[[%d;]*m", "")
  text = text:gsub(self.folder:gsub("%p", "%%%0"), "HOME"):gsub(house.build():gsub("%p", "%%%0"), "BUILD")
  text = text:gsub("%f[%w](%l+_)([0-9a-z]+)%f[%W]", function(prefix, id) return #id == 26 and prefix .. "ID" or nil end)
  text = text:gsub("(%l%-%d+%-)[0-9a-z][0-9a-z][0-9a-z][0-9a-z][0-9a-z]%f[%W]", "%1XXXXX")
  text = text:gsub("%d%d%d%d%-%d%d%-%d%dT[%d:.]+Z", "TIME")
  text = text:gsub("127%.0%.0%.1:%d+", "127.0.0.1:PORT")
  text = text:gsub("pid %d+", "pid PID")
  text = text:gsub("%f[%w]port %d+", "port PORT")
  text = text:gsub("  %d+[smh]%f[%W]", "  AGE"):gsub("  %d+m%d+s%f[%W]", "  AGE")
  text = text:gsub("(%S)   +", "%1  ")
  return (text:gsub(" +\n", "\n"))
end

return M
