--- Errors as values: tables with `code`, `message`, `field`, `hint`, `where`, `details` that print as one line.
--- The codes are those of the manual; must not know who fails.
local core = require "ctrlplane.core"

local M = {}

--- Makes an error of `{ code =, message =, field =?, hint =?, where =?, details =? }`.
---@type fun(fields: table): ctrlplane.Error
M.new = core.errors.new

--- Is this value one of our errors?
---@type fun(value: any): boolean
M.is = core.errors.is

--- What a user gave is wrong.
---@param field? string path, such as "services[1].image"
---@param message string what is wrong, with which value
---@param hint? string what would be right
---@return ctrlplane.Error
function M.invalid(field, message, hint)
  return core.errors.new { code = "invalid", message = message, field = field, hint = hint }
end

return M
