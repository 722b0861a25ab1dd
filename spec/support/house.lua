--- Real things for specs: programs that are started, watched and ended; sockets; temporary folders; waiting for a
--- condition with a deadline. On lua-posix; must not know ctrlplane's own modules, so that it can judge them.
local posix = {
  dirent = require "posix.dirent",
  errno = require "posix.errno",
  fcntl = require "posix.fcntl",
  poll = require "posix.poll",
  signal = require "posix.signal",
  socket = require "posix.sys.socket",
  stdlib = require "posix.stdlib",
  time = require "posix.time",
  unistd = require "posix.unistd",
  wait = require "posix.sys.wait",
}

-- Whoever holds one end of a socket must not die when the other end is closed.
posix.signal.signal(posix.signal.SIGPIPE, posix.signal.SIG_IGN)

local M = {}

--- Monotonic seconds.
function M.now()
  local t = posix.time.clock_gettime(posix.time.CLOCK_MONOTONIC)
  return t.tv_sec + t.tv_nsec / 1e9
end

function M.sleep(seconds)
  local whole = math.floor(seconds)
  posix.time.nanosleep { tv_sec = whole, tv_nsec = math.floor((seconds - whole) * 1e9) }
end

--- Calls fn until it returns something true, and returns that. Raises after `timeout` seconds (20) with what was
--- waited for, and with what `fn` returned second.
function M.wait_for(what, fn, timeout)
  local deadline = M.now() + (timeout or 20)
  while true do
    local value, detail = fn()
    if value then return value, detail end
    if M.now() > deadline then
      error(("waited %g s in vain: %s%s"):format(timeout or 20, what, detail and (" (" .. tostring(detail) .. ")") or ""), 2)
    end
    M.sleep(0.02)
  end
end

--- The folder of the build under test.
function M.build()
  return assert(os.getenv "CTRLPLANE_BUILD", "CTRLPLANE_BUILD is not set; run specs by dev/test")
end

--- The path of a built program.
function M.program(name) return M.build() .. "/" .. name end

--- True in the build with AddressSanitizer: slower, and fatter.
function M.asan() return os.getenv "CTRLPLANE_PRELOAD" ~= nil end

function M.read(path)
  local file, err = io.open(path, "rb")
  if not file then return nil, err end
  local text = file:read "*a"
  file:close()
  return text
end

function M.write(path, text)
  local file = assert(io.open(path, "wb"))
  assert(file:write(text))
  assert(file:close())
  return path
end

function M.exists(path) return posix.unistd.access(path, "f") == 0 end

--- A new temporary folder; M.remove(it) when done. Short: unix socket paths are bounded.
function M.folder() return assert(posix.stdlib.mkdtemp "/tmp/cp-spec-XXXXXX") end

--- The same in memory where there is such a place: for stores of which a spec makes hundreds.
function M.memory_folder()
  return M.exists "/dev/shm" and posix.stdlib.mkdtemp "/dev/shm/cp-spec-XXXXXX" or M.folder()
end

--- Calls fn with such a folder, and removes it whatever became of fn. Returns what fn returned.
function M.with_memory_folder(fn)
  local folder = M.memory_folder()
  local function done(ok, ...)
    M.remove(folder)
    if not ok then error(..., 0) end
    return ...
  end
  return done(xpcall(fn, debug.traceback, folder))
end

function M.remove(folder)
  assert(folder:match "^/tmp/cp%-spec%-" or folder:match "^/dev/shm/cp%-spec%-", folder)
  os.execute("rm -rf '" .. folder .. "'")
end

local function take_away(base)
  for _, suffix in ipairs { "", ".out", ".err" } do os.remove(base .. suffix) end
end

local Process = {}
Process.__index = Process

--- Starts a program; argv[1] is its path. environment: added to ours (false removes a name). options: cwd, stdin (a
--- text; default nothing), stdout and stderr (paths; default files that :stdout() and :stderr() read), session (a
--- session of its own).
function M.spawn(argv, environment, options)
  options = options or {}
  local base = os.tmpname()
  local self = setmetatable({
    argv = argv,
    base = base,
    stdout_path = options.stdout or base .. ".out",
    stderr_path = options.stderr or base .. ".err",
  }, Process)
  self.files = newproxy(true) -- they go with the last that knows of them, also where nobody calls kill
  getmetatable(self.files).__gc = function() take_away(base) end
  if options.stdin then M.write(base, options.stdin) end
  local pid = assert(posix.unistd.fork())
  if pid == 0 then
    local function redirect(path, flags, fd)
      local opened = posix.fcntl.open(path, flags, 420)
      if not opened then posix.unistd._exit(126) end
      posix.unistd.dup2(opened, fd)
      if opened ~= fd then posix.unistd.close(opened) end
    end
    local out = posix.fcntl.O_WRONLY + posix.fcntl.O_CREAT + posix.fcntl.O_TRUNC
    redirect(options.stdin and base or "/dev/null", posix.fcntl.O_RDONLY, 0)
    redirect(self.stdout_path, out, 1)
    redirect(self.stderr_path, out, 2)
    if options.cwd then posix.unistd.chdir(options.cwd) end
    if options.session then posix.unistd.setpid("s") end
    -- A plain luajit that loads our module needs the sanitizer's runtime first.
    local preload = os.getenv "CTRLPLANE_PRELOAD"
    if preload and (argv[1] .. "\n" .. (argv[2] or "")):match "luajit%f[\n%z]" then
      posix.stdlib.setenv("LD_PRELOAD", preload)
    end
    for name, value in pairs(environment or {}) do posix.stdlib.setenv(name, value or nil) end
    posix.unistd.exec(argv[1], { [0] = argv[1], unpack(argv, 2) })
    posix.unistd._exit(127)
  end
  self.pid = pid
  return self
end

--- Ends it by SIGKILL when it still runs, and takes its files away. Safe to call twice.
function Process:kill()
  if not self.ended then
    posix.signal.kill(self.pid, posix.signal.SIGKILL)
    self:wait()
  end
  take_away(self.base)
end

function Process:signal(name) return posix.signal.kill(self.pid, posix.signal["SIG" .. name]) end

--- nil while it runs; then { code = } or { signal = }.
function Process:poll()
  if not self.ended then
    local pid, reason, value = posix.wait.wait(self.pid, posix.wait.WNOHANG)
    if pid == self.pid and reason ~= "running" then
      self.ended = reason == "exited" and { code = value } or { signal = value }
    end
  end
  return self.ended
end

--- Waits for its end: { code = } or { signal = }.
function Process:wait(timeout)
  return M.wait_for("the end of " .. table.concat(self.argv, " "), function() return self:poll() end, timeout)
end

function Process:stdout() return M.read(self.stdout_path) or "" end
function Process:stderr() return M.read(self.stderr_path) or "" end

--- Runs a program to its end: code, stdout, stderr. A signal gives 128 + its number.
function M.run(argv, environment, options)
  local process = M.spawn(argv, environment, options)
  local ended = process:wait(options and options.timeout or 60)
  local out, err = process:stdout(), process:stderr()
  process:kill()
  return ended.code or 128 + ended.signal, out, err
end

--- True when a process with this id is there and not a zombie.
function M.alive(pid)
  local stat = M.read(("/proc/%d/stat"):format(pid))
  return stat ~= nil and stat:match "^%d+ %(.*%) (%a)" ~= "Z"
end

--- Every process whose environment holds NAME=value (value: a plain text; nil: any): list of { pid, value, exe, command }.
function M.with_environment(name, value)
  local found = {}
  for _, pid in ipairs(posix.dirent.dir "/proc") do
    local environ = pid:match "^%d+$" and M.read("/proc/" .. pid .. "/environ")
    local _, from = ("\0" .. (environ or "")):find("\0" .. name .. "=", 1, true)
    if from then
      local here = environ:match("^[^%z]*", from)
      if value == nil or here == value then
        local command = (M.read("/proc/" .. pid .. "/cmdline") or ""):gsub("%z", " ")
        local exe = posix.unistd.readlink("/proc/" .. pid .. "/exe")
        found[#found + 1] = { pid = tonumber(pid), value = here, exe = exe or "", command = command }
      end
    end
  end
  return found
end

--- A port of the loopback that was free a moment ago.
function M.free_port()
  local fd = assert(posix.socket.socket(posix.socket.AF_INET, posix.socket.SOCK_STREAM, 0))
  assert(posix.socket.bind(fd, { family = posix.socket.AF_INET, addr = "127.0.0.1", port = 0 }))
  local port = posix.socket.getsockname(fd).port
  posix.unistd.close(fd)
  return port
end

--- A connected descriptor, or nil, err. target: a loopback port, or the path of a unix socket.
function M.connect(target)
  local family = type(target) == "string" and posix.socket.AF_UNIX or posix.socket.AF_INET
  local fd = assert(posix.socket.socket(family, posix.socket.SOCK_STREAM, 0))
  local address = family == posix.socket.AF_UNIX and { family = family, path = target }
    or { family = family, addr = "127.0.0.1", port = target }
  local ok, err = posix.socket.connect(fd, address)
  if not ok then
    posix.unistd.close(fd)
    return nil, err
  end
  return fd
end

function M.close(fd) posix.unistd.close(fd) end

function M.send(fd, text)
  while #text > 0 do
    local n, err = posix.socket.send(fd, text)
    if not n then return nil, err end
    text = text:sub(n + 1)
  end
  return true
end

--- Reads until the other side closes or `timeout` seconds (5) have passed: text, or nil, err.
function M.receive(fd, timeout)
  local parts, deadline = {}, M.now() + (timeout or 5)
  while true do
    local left = math.floor((deadline - M.now()) * 1000)
    if left <= 0 then return nil, "no end within the time-out", table.concat(parts) end
    if posix.poll.rpoll(fd, left) == 1 then
      local piece, err = posix.socket.recv(fd, 65536)
      if not piece then return nil, err, table.concat(parts) end
      if piece == "" then return table.concat(parts) end
      parts[#parts + 1] = piece
    end
  end
end

--- One HTTP request over a connection of its own: status, body, headers; or nil, err. options: method, body, headers
--- (list of lines), timeout.
function M.request(target, path, options)
  options = options or {}
  local fd, err = M.connect(target)
  if not fd then return nil, err end
  local lines = { ("%s %s HTTP/1.1"):format(options.method or "GET", path), "Host: localhost", "Connection: close" }
  for _, line in ipairs(options.headers or {}) do lines[#lines + 1] = line end
  if options.body then lines[#lines + 1] = "Content-Length: " .. #options.body end
  local ok
  ok, err = M.send(fd, table.concat(lines, "\r\n") .. "\r\n\r\n" .. (options.body or ""))
  local text
  if ok then text, err = M.receive(fd, options.timeout) end
  M.close(fd)
  if not text then return nil, err end
  local status, head, body = text:match "^HTTP/1%.%d (%d+)(.-)\r\n\r\n(.*)$"
  if not status then return nil, "no HTTP answer: " .. text:sub(1, 80) end
  if head:lower():find("transfer-encoding: chunked", 1, true) then
    local pieces, rest = {}, body
    while true do
      local size, tail = rest:match "^(%x+)[^\r]*\r\n(.*)$"
      size = size and tonumber(size, 16)
      if not size or size == 0 then break end
      pieces[#pieces + 1] = tail:sub(1, size)
      rest = tail:sub(size + 3)
    end
    body = table.concat(pieces)
  end
  return tonumber(status), body, head
end

function M.get(target, path, options) return M.request(target, path, options) end

return M
