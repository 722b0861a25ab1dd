--- Lua text in another process that has the same modules: `store` and `failpoint` of core.testing, die(), hang().
local house = require "spec.support.house"
local M = {}

--- Starts Lua text, with arguments, in another process that has the same modules.
function M.start(folder, text, ...)
  local script = house.write(folder .. "/other.lua", [[local core = require "ctrlplane.core"
    local store, failpoint = core.testing.store, core.testing.failpoint
    local function hang() require("posix.time").nanosleep { tv_sec = 60, tv_nsec = 0 } end
    local function die() require("posix.signal").kill(require("posix.unistd").getpid(), 9) end
    ]] .. text)
  return house.spawn({ "/usr/bin/env", "luajit", script, ... })
end

--- The same to its end: what it wrote, how it ended.
function M.run(...)
  local process = M.start(...)
  local ended = process:wait(20)
  local text = process:stdout() .. process:stderr()
  process:kill()
  return text, ended
end

return M
