--- A bare process provider on a real loop, for specs: real shims, real services, no plane. Waits are for a condition
--- with a deadline. What a spec starts is gone when it closes its world; what is not fails the spec.
local ffi = require "ffi"
local testing = require("ctrlplane.core").testing

ffi.cdef [[
int kill(int pid, int sig);
int setenv(const char *name, const char *value, int overwrite);
int unsetenv(const char *name);
struct cp_spec_address { unsigned short family; char path[108]; };
int socket(int, int, int);
int connect(int, const struct cp_spec_address *, unsigned);
long write(int, const void *, size_t);
long read(int, void *, size_t);
int close(int);
]]

local M = {}
local build = assert(os.getenv "CTRLPLANE_BUILD", "CTRLPLANE_BUILD names the build folder")
M.shim = build .. "/ctrlplane-shim"
M.hello = build .. "/hello"

function M.setenv(name, value)
  if value then ffi.C.setenv(name, tostring(value), 1) else ffi.C.unsetenv(name) end
end

function M.kill(pid, signal) return ffi.C.kill(assert(tonumber(pid)), signal or 9) == 0 end

function M.sh(command)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local text = pipe:read "*a"
  pipe:close()
  return text
end

function M.read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read "*a"
  file:close()
  return text
end

function M.write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

--- Sends a word to a unix socket; returns the first answer.
function M.ask(path, word)
  local fd = ffi.C.socket(1, 1, 0)
  local address = ffi.new("struct cp_spec_address", 1)
  ffi.copy(address.path, path)
  assert(ffi.C.connect(fd, address, ffi.sizeof(address)) == 0, "cannot connect to " .. path)
  ffi.C.write(fd, word, #word)
  local buffer = ffi.new "char[4096]"
  local n = ffi.C.read(fd, buffer, 4096)
  ffi.C.close(fd)
  return ffi.string(buffer, math.max(0, tonumber(n)))
end

--- Is it there, and not a zombie?
function M.alive(pid)
  local stat = M.read("/proc/" .. pid .. "/stat")
  return stat ~= nil and not stat:match "%) [ZX]"
end

--- The pids of processes whose command line matches a Lua pattern and whose environment names the instance.
function M.processes(instance_id, pattern)
  local found = {}
  for pid in M.sh("grep -lsaxz 'CTRLPLANE_INSTANCE=" .. instance_id .. "' /proc/[0-9]*/environ"):gmatch "/proc/(%d+)/environ" do
    local command = (M.read("/proc/" .. pid .. "/cmdline") or ""):gsub("%z", " ")
    if M.alive(pid) and command:match(pattern or "") and not command:match "^grep " then found[#found + 1] = tonumber(pid) end
  end
  return found
end

local World = {}
World.__index = World

--- Opens a provider in a folder of its own. options: data_dir (an earlier world's), backoff (ms), log_max (bytes).
function M.open(options)
  options = options or {}
  M.setenv("CTRLPLANE_TEST_BACKOFF_MS", options.backoff or 50)
  M.setenv("CTRLPLANE_TEST_LOG_MAX", options.log_max)
  local dir = options.data_dir
  if not dir then
    dir = M.sh("mktemp -d /tmp/ctrlplane-spec.XXXXXX"):gsub("%s+$", "")
    os.execute("chmod 755 " .. dir)
  end
  local world = setmetatable({ dir = dir, instances = {}, options = options, count = 0 }, World)
  world.provider = assert(testing.process.open { data_dir = dir .. "/data", shim = options.shim or M.shim, plane_id = "plane_spec" })
  return world
end

--- Drops the engine's memory and opens it again, as an engine that was started anew.
function World:reopen()
  self.provider:close()
  self.provider = assert(testing.process.open { data_dir = self.dir .. "/data", shim = self.options.shim or M.shim, plane_id = "plane_spec" })
end

--- A spec of an instance: services as given (images resolved), the rest made up.
function World:instance(services, fields)
  self.count = self.count + 1
  local unique = self.dir:match "%.(%w+)$":lower()
  local spec = {
    instance_id = ("inst_%s%d"):format(unique, self.count), name = "web-" .. self.count - 1, workload_id = "wkl_1",
    workload_slug = "web", workload_name = "Web", release_id = "rel_1", tenant_id = "ten_1", plane_id = "plane_spec",
    replica_index = self.count - 1, generation = 1,
  }
  for key, value in pairs(fields or {}) do spec[key] = value end
  if services[1] == nil then services = { services } end
  for i, service in ipairs(services) do
    service.name = service.name or (i == 1 and "app" or "app" .. i)
    service.stop_timeout = service.stop_timeout or 3
  end
  spec.services = assert(self.provider:resolve(services))
  self.instances[spec.instance_id] = spec
  return spec
end

--- An instance that runs `script` by sh.
function World:script(script, service, fields)
  service = service or {}
  service.command = { "sh", "-c", script }
  return self:instance({ service }, fields)
end

function World:provision(spec)
  assert(self.provider:operate("provision", spec))
  return spec
end

function World:path(spec, name) return ("%s/data/instances/%s/%s"):format(self.dir, spec.instance_id, name or "") end

function World:status(spec) return assert(self.provider:status(spec.instance_id)) end

--- The state file of a service as a table.
function World:state(spec, service)
  local fields = {}
  for key, value in (M.read(self:path(spec, (service or "app") .. ".state")) or ""):gmatch "([%w_]+) ([^\n]*)\n" do
    fields[key] = tonumber(value) or value
  end
  return fields
end

--- Turns the loop until `condition` returns something true, which is returned.
function World:wait(what, condition, ms)
  local deadline = ms or 10000
  for _ = 1, math.ceil(deadline / 20) do
    local value = condition()
    if value then return value end
    self.provider:turn(20)
  end
  error(("waited %d ms for %s"):format(deadline, what), 2)
end

function World:wait_seen(spec, seen, ms)
  local last
  local ok, problem = pcall(self.wait, self, "seen = " .. seen, function()
    last = self:status(spec)
    return last.seen == seen
  end, ms)
  if not ok then error(problem .. "; it is " .. last.seen .. ": " .. tostring(last.message), 2) end
  return last
end

--- Every line of a log, as texts; and the whole entries.
function World:log(spec, service, options)
  options = options or {}
  local reader = assert(self.provider:logs(spec.instance_id, service, options))
  local texts, entries = {}, {}
  self:wait("the end of the log", function()
    local lines, ended = self.provider:lines(reader)
    for _, line in ipairs(lines) do
      texts[#texts + 1] = line.text
      entries[#entries + 1] = line
    end
    return ended
  end, 30000)
  return texts, entries
end

--- Waits until the log of a service has a line that matches; returns the captures.
function World:wait_log(spec, pattern, service, ms)
  local got
  self:wait("a line " .. pattern, function()
    for _, text in ipairs((self:log(spec, service))) do
      got = { text:match(pattern) }
      if got[1] then return true end
    end
  end, ms)
  return unpack(got)
end

--- Ends everything and removes the folder; a process that is left fails the spec.
function World:close()
  local left = {}
  for id, spec in pairs(self.instances) do
    spec.remove_volumes = true
    local ok, problem = self.provider:operate("deprovision", spec)
    if not ok then left[#left + 1] = tostring(problem) end
    for _, pid in ipairs(M.processes(id)) do left[#left + 1] = ("process %d of %s"):format(pid, id) end
  end
  self.provider:close()
  os.execute("chmod -R u+w '" .. self.dir .. "' 2>/dev/null; rm -rf '" .. self.dir .. "'")
  M.setenv "CTRLPLANE_TEST_BACKOFF_MS"
  M.setenv "CTRLPLANE_TEST_LOG_MAX"
  if left[1] then error("left behind: " .. table.concat(left, "; ")) end
end

return M
