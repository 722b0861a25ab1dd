--- An engine under `ctrlplane serve` with real services, judged from outside: who runs, under which shim, who answers.
--- For specs of what befalls engine, shims and services; must not use ctrlplane's own modules.
local api = require "spec.support.api"
local house = require "spec.support.house"
local posix = { dirent = require "posix.dirent", signal = require "posix.signal" }

local M = {}
local Served = {}
Served.__index = Served

--- A folder with nothing running. options: data (the provider's folder).
function M.open(options)
  local folder = house.folder()
  local self = setmetatable({ folder = folder, store = folder .. "/plane.db" }, Served)
  self.data = options and options.data or self.store .. ".d"
  self.log = folder .. "/serve.log"
  self.client = api.new(self.store .. ".sock")
  return self
end

--- Starts the engine and waits until it is ready. options: before (words in front of the command, the first a path),
--- environment, under (another program than the engine is what we start: its one child is the engine), doomed (it may
--- die or hang at a failpoint on the way: nil then).
function Served:start(options)
  options = options or {}
  local argv = { house.program "ctrlplane", "serve", "--store", self.store, "--data", self.data }
  if options.before then
    local words = { unpack(options.before) }
    for _, word in ipairs(argv) do words[#words + 1] = word end
    argv = words
  end
  local began = house.now()
  self.process = house.spawn(argv, options.environment, { stdout = "/dev/null", stderr = self.log })
  self.pid = self.process.pid
  local function gone() return options.doomed and (self.process:poll() or self:hangs()) end
  house.wait_for("the engine is ready", function()
    if gone() then return true end
    if self.process:poll() then error("serve ended by itself: " .. (house.read(self.log) or ""), 0) end
    return self.client:ready()
  end, 30)
  if gone() then return nil end
  self.ready_after = house.now() - began
  if options.under then self.pid = M.children(self.process.pid)[1] end
  return self
end

--- Does it hang at a failpoint?
function Served:hangs() return (house.read(self.log) or ""):match "hangs at the failpoint" ~= nil end

--- kill -9 of the engine.
function Served:kill()
  posix.signal.kill(self.pid, posix.signal.SIGKILL)
  self.process:wait()
  self.process:kill()
  self.process = nil
end

function M.children(pid)
  local list = {}
  for child in (house.read(("/proc/%d/task/%d/children"):format(pid, pid)) or ""):gmatch "%d+" do list[#list + 1] = tonumber(child) end
  return list
end

function M.parent(pid) return tonumber((house.read(("/proc/%d/status"):format(pid)) or ""):match "PPid:%s*(%d+)") end

--- A workload of the example server. service: fields of its service.
function M.hello(name, replicas, service)
  local app = {
    name = "app", image = house.program "hello", ports = { { name = "http" } }, stop_timeout = "2s",
    health_check = { path = "/healthz", interval = "1s" },
  }
  for key, value in pairs(service or {}) do app[key] = value end
  return { name = name, replicas = replicas, services = { app } }
end

function Served:settle(name, replicas, timeout)
  return house.wait_for(name .. " is active", function()
    local w, err = self.client:get("/workloads/" .. name)
    return w and w.state == "active" and w.ready_replicas == replicas and w, w and w.state .. " " .. tostring(w.message) or err
  end, timeout or 60)
end

function Served:instances(name) return assert(self.client:get(("/workloads/%s/instances"):format(name))).items end

--- Every replica answers over HTTP: index -> { id, pid } of who answered. nil and why when one does not.
function Served:answers(name)
  local found = {}
  for _, instance in ipairs(self:instances(name)) do
    local endpoint = (instance.endpoints or {})[1]
    if not endpoint then return nil, instance.name .. " has no endpoint" end
    local status, body = house.get(endpoint.port, "/", { timeout = 2 })
    if status ~= 200 then return nil, instance.name .. " does not answer: " .. tostring(body) end
    found[instance.replica_index] = { id = instance.id, pid = tonumber(body:match "pid (%d+)"), port = endpoint.port }
  end
  return found
end

--- What runs of our instances, by instance id: list of { pid, command }. Read from the folder: also without an engine.
function Served:services()
  local found = {}
  local ok, names = pcall(posix.dirent.dir, self.data .. "/instances")
  local mine = {}
  for _, id in ipairs(ok and names or {}) do mine[id] = id:match "^inst_" and true or nil end
  for _, process in ipairs(house.with_environment "CTRLPLANE_INSTANCE") do
    if mine[process.value] and house.alive(process.pid) then
      found[process.value] = found[process.value] or {}
      table.insert(found[process.value], process)
    end
  end
  return found
end

--- The pids of the running processes of an instance whose command matches, and of their shims.
function Served:running(id, pattern)
  local pids, shims = {}, {}
  for _, process in ipairs(self:services()[id] or {}) do
    if process.command:match(pattern) then
      pids[#pids + 1] = process.pid
      shims[#shims + 1] = M.parent(process.pid)
    end
  end
  return pids, shims
end

--- The state file of a service as a table.
function Served:state(id, service)
  local fields = {}
  local text = house.read(("%s/instances/%s/%s.state"):format(self.data, id, service or "app")) or ""
  for key, value in text:gmatch "([%w_]+) ([^\n]*)\n" do fields[key] = tonumber(value) or value end
  return fields
end

--- How many events there are of each type; their seq has no gap.
function Served:events()
  local counts = {}
  local events = self.client:all "/events"
  table.sort(events, function(a, b) return a.seq < b.seq end)
  for i, event in ipairs(events) do
    if event.seq ~= i then error(("event %d has seq %d"):format(i, event.seq), 2) end
    counts[event.type] = (counts[event.type] or 0) + 1
  end
  return counts, events
end

--- Takes everything down, also after a failure; raises when something was left, which is ended then.
function Served:close()
  if not self.process or self.process:poll() then pcall(self.start, self) end
  for _, w in ipairs((self.client:get "/workloads" or {}).items or {}) do self.client:delete("/workloads/" .. w.id, 10) end
  pcall(house.wait_for, "everything is gone", function()
    local list = self.client:get "/workloads"
    return list and #list.items == 0
  end, 30)
  local left = {}
  for _, list in pairs(self:services()) do
    for _, process in ipairs(list) do
      left[#left + 1] = process.command
      for _, pid in ipairs { M.parent(process.pid) or 0, process.pid } do
        if pid > 1 and (pid == process.pid or (house.read("/proc/" .. pid .. "/cmdline") or ""):match "ctrlplane%-shim") then
          posix.signal.kill(pid, posix.signal.SIGKILL)
        end
      end
    end
  end
  if self.process then self:kill() end
  house.remove(self.folder)
  if #left > 0 then error("left running: " .. table.concat(left, "; "), 2) end
end

return M
