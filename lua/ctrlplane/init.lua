--- The module: `open` a plane in this program, or `connect` to one that is served. See types/ for everything it offers.
--- Refuses other Lua than LuaJIT before the C half is loaded: two VMs in one program would corrupt each other.
if type(rawget(_G, "jit")) ~= "table" then
  error(("ctrlplane needs LuaJIT, and this is %s; run it with `luajit` or `ctrlplane run FILE`"):format(_VERSION), 0)
end

local core = require "ctrlplane.core"

local M = {
  --- Opens a store and runs its engine in this program.
  open = core.plane.open,
  --- Talks to an engine that is served: the same methods, over HTTP.
  connect = core.plane.connect,
  --- The pure decisions: `decide_workload`, `decide_instance`, `validate` ...
  model = core.model,
  --- JSON's null, which an absent field is not.
  null = core.null,
  --- In an override: takes the value away.
  remove = core.remove,
  version = core.version,
}

--- Runs a function as a script: a task whose own coroutines may wait as well. Ends when it and every task that it
--- started have ended. For `ctrlplane run`; a host program's coroutine library is left alone by never calling it.
---@param script fun(...): any
---@return any ... what the script returned; nil and the error when it failed
function M.run_script(script, ...)
  require("ctrlplane.coroutines").pass_suspensions()
  return core.plane.run_task(script, ...)
end

return setmetatable(M, {
  __index = function(_, name)
    local names = {}
    for known in pairs(M) do
      names[#names + 1] = known
    end
    local nearest = type(name) == "string" and core.nearest(name, names)
    local hint = nearest and ("; did you mean '%s'?"):format(nearest) or ""
    error(("ctrlplane has no '%s'%s"):format(tostring(name), hint), 2)
  end,
})
