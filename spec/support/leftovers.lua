--- Ends what a spec that failed half way left running under a folder: engines, shims, and the services of its instances.
local house = require "spec.support.house"
local posix = { dirent = require "posix.dirent", signal = require "posix.signal" }
local M = {}

local function names(folder)
  local ok, iterator = pcall(posix.dirent.files, folder)
  local list = {}
  if ok then
    for name in iterator do list[#list + 1] = name end
  end
  return list
end

--- data: folders of the process provider below it. Returns how many processes were ended.
function M.sweep(folder, data)
  local ended = 0
  local function kill(pid)
    if posix.signal.kill(pid, posix.signal.SIGKILL) then ended = ended + 1 end
  end
  for _, name in ipairs(names "/proc") do
    local pid = tonumber(name)
    local line = pid and house.read("/proc/" .. name .. "/cmdline") or ""
    if line:find(folder .. "/", 1, true) and line:find("ctrlplane", 1, true) then kill(pid) end
  end
  for _, id in ipairs(names(data .. "/instances")) do
    if id:match "^inst_" then
      for _, process in ipairs(house.with_environment("CTRLPLANE_INSTANCE", id)) do kill(process.pid) end
    end
  end
  return ended
end

return M
