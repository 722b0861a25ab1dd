--- What the command line needs of the operating system: terminals, the first Ctrl-C, sleeping, processes, paths.
--- Through LuaJIT's ffi, so that the command needs no other Lua package. Must not know planes or commands.
local ffi = require "ffi"
local bit = require "bit"

ffi.cdef [[
int isatty(int fd);
unsigned int geteuid(void);
int getpid(void);
int kill(int pid, int signal);
int poll(struct pollfd *fds, unsigned long count, int timeout);
struct pollfd { int fd; short events; short revents; };
int ioctl(int fd, unsigned long request, ...);
long readlink(const char *path, char *buffer, size_t size);
int access(const char *path, int mode);
char *realpath(const char *path, char *resolved);
void free(void *pointer);
int sigprocmask(int how, const void *set, void *old);
int sigemptyset(void *set);
int sigaddset(void *set, int signal);
int sigpending(void *set);
int sigismember(const void *set, int signal);
int clock_gettime(int clock, void *ts);
char *strerror(int number);
]]

local M = { INT = 2, KILL = 9, TERM = 15 }
local C = ffi.C

--- True when the descriptor (0, 1, 2) is a terminal.
function M.is_terminal(fd) return C.isatty(fd) == 1 end

--- Columns and rows of the terminal on stdout; nil where it is none.
function M.columns()
  local size = ffi.new "unsigned short[4]" -- struct winsize: rows, columns, and pixels twice
  if C.ioctl(1, 0x5413, size) == 0 and size[1] > 0 then return tonumber(size[1]), tonumber(size[0]) end
  return nil
end

--- Monotonic seconds.
function M.now()
  local ts = ffi.new "int64_t[2]"
  C.clock_gettime(1, ts)
  return tonumber(ts[0]) + tonumber(ts[1]) / 1e9
end

function M.sleep(seconds) C.poll(nil, 0, math.max(0, math.floor(seconds * 1000))) end

--- True when something can be read from stdin within `seconds`.
function M.input_waits(seconds)
  local fds = ffi.new "struct pollfd[1]"
  fds[0].fd, fds[0].events = 0, 1
  return C.poll(fds, 1, math.floor(seconds * 1000)) == 1 and bit.band(fds[0].revents, 1) ~= 0
end

function M.is_root() return C.geteuid() == 0 end
function M.pid() return C.getpid() end
function M.exists(path) return C.access(path, 0) == 0 end
function M.writable(path) return C.access(path, 2) == 0 end

--- nil when the process is gone; a signal of 0 only asks.
function M.kill(pid, signal)
  if C.kill(pid, signal) == 0 then return true end
  return nil, ffi.string(C.strerror(ffi.errno()))
end

--- True while the process runs; what has ended and waits to be looked at by its parent does not.
function M.runs(pid)
  local file = io.open(("/proc/%d/stat"):format(pid))
  local stat = file and file:read "*a"
  if file then file:close() end
  return stat ~= nil and stat:match "^%d+ %(.*%) (%a)" ~= "Z"
end

--- True when the process was started as `... serve ...`.
function M.serves(pid)
  local line = M.read(("/proc/%d/cmdline"):format(pid))
  return line ~= nil and line:find("\0serve\0", 1, true) ~= nil
end

--- The path of this very program.
function M.program()
  local buffer = ffi.new("char[?]", 4096)
  local n = C.readlink("/proc/self/exe", buffer, 4095)
  return n > 0 and ffi.string(buffer, n) or nil
end

--- The absolute path without links; nil when it does not exist.
function M.realpath(path)
  local found = C.realpath(path, nil)
  if found == nil then return nil end
  local text = ffi.string(found)
  C.free(found)
  return text
end

--- A path as a word of a shell command.
function M.quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

function M.read(path)
  local file, err = io.open(path, "rb")
  if not file then return nil, err end
  local text = file:read "*a"
  file:close()
  if not text then return nil, path .. ": cannot be read (is it a folder?)" end
  return text
end

local function interrupt_set()
  local set = ffi.new "uint64_t[16]" -- sigset_t
  C.sigemptyset(set)
  C.sigaddset(set, M.INT)
  return set
end

--- From here on Ctrl-C does not end the program: M.interrupted() tells of it. Returns a function that undoes it.
function M.hold_interrupt()
  local set = interrupt_set()
  C.sigprocmask(0, set, nil)
  return function() C.sigprocmask(1, set, nil) end
end

--- True once Ctrl-C was pressed while held. Stays true until released (which then ends the program as usual).
function M.interrupted()
  local set = ffi.new "uint64_t[16]"
  C.sigpending(set)
  return C.sigismember(set, M.INT) == 1
end

return M
