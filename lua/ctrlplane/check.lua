--- Checks of what a program passes to a function: misuse raises, at the line of the caller's caller.
--- Must not be used on what a user wrote: that is answered with an error, not raised.
local core = require "ctrlplane.core"

local M = {}

--- Raises unless `value` is of one of the types: `check.argument(1, value, "string", "number")`.
---@param n integer number of the argument
---@param value any
---@param ... string types as `type` names them
function M.argument(n, value, ...)
  local got = type(value)
  for i = 1, select("#", ...) do
    if got == select(i, ...) then
      return
    end
  end
  local name = (debug.getinfo(2, "n") or {}).name or "the function"
  local wanted = table.concat({ ... }, " or ")
  error(("argument %d of %s must be a %s; got a %s"):format(n, name, wanted, got), 3)
end

--- Raises for keys of an options table that are not known, with the nearest that is.
---@param options? table nil is fine
---@param what string whose options: "render"
---@param known string[]
function M.options(options, what, known)
  if options == nil then
    return
  end
  if type(options) ~= "table" then
    error(("%s takes a table of options; got a %s"):format(what, type(options)), 3)
  end
  local set = {}
  for _, name in ipairs(known) do
    set[name] = true
  end
  for key in pairs(options) do
    if not set[key] then
      local nearest = type(key) == "string" and core.nearest(key, known)
      local hint = nearest and ("did you mean '%s'?"):format(nearest) or "it takes " .. table.concat(known, ", ")
      error(("unknown option '%s' of %s; %s"):format(tostring(key), what, hint), 3)
    end
  end
end

return M
