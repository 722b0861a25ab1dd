--- Lets a script's own coroutines wait: `coroutine.resume` and `wrap` hand a suspension of ours on to whoever resumed
--- them, and carry the answer back. Changes the program's coroutine library, so only scripts that we run get it.
local core = require "ctrlplane.core"

local M = {}
local SUSPENDED = core.plane.suspension()
local resume, yield, create = coroutine.resume, coroutine.yield, coroutine.create

local function hand_on(co, ok, ...)
  if ok and select("#", ...) == 1 and ... == SUSPENDED then
    return hand_on(co, resume(co, yield(SUSPENDED)))
  end
  return ok, ...
end

local function returned(ok, ...)
  if ok then
    return ...
  end
  error((...), 0)
end

-- luacheck: push ignore 122 (the one place that changes it, on purpose)
--- From here on, in this program.
function M.pass_suspensions()
  core.plane.pass_suspensions()
  coroutine.resume = function(co, ...)
    return hand_on(co, resume(co, ...))
  end
  coroutine.wrap = function(fn)
    local co = create(fn)
    return function(...)
      return returned(hand_on(co, resume(co, ...)))
    end
  end
end
-- luacheck: pop

return M
