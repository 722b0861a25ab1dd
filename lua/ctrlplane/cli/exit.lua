--- How a command ends early: exit codes, and failures that are raised through the command to main.
--- Knows error codes; must not know commands.
local M = {
  DONE = 0,
  FAILED = 1,
  USAGE = 2,
  NOT_FOUND = 3,
  DENIED = 4,
  TIMED_OUT = 5,
  UNFINISHED = 6, -- nothing is wrong, but it waits for a person
  INTERRUPTED = 130,
}

local BY_CODE = {
  not_found = M.NOT_FOUND,
  provider_not_found = M.NOT_FOUND,
  unauthorized = M.DENIED,
  forbidden = M.DENIED,
  denied = M.DENIED,
  timeout = M.TIMED_OUT,
}

local Exit = {}
Exit.__index = Exit

--- True for what this module raises.
function M.is(value) return getmetatable(value) == Exit end

--- Ends the command with a code; what there was to say has been said.
function M.with(code) error(setmetatable({ code = code }, Exit), 0) end

--- Ends the command with an error of the API: { code, message, field, hint }.
function M.fail(err)
  if type(err) ~= "table" then err = { code = "internal", message = tostring(err) } end
  error(setmetatable({ code = BY_CODE[err.code] or M.FAILED, err = err }, Exit), 0)
end

--- Ends the command because it was called wrongly.
function M.usage(format, ...)
  local message = select("#", ...) > 0 and format:format(...) or format
  error(setmetatable({ code = M.USAGE, err = { code = "invalid", message = message } }, Exit), 0)
end

--- Passes results through; nil, err ends the command.
function M.try(value, err, ...)
  if value == nil and err ~= nil then M.fail(err) end
  return value, err, ...
end

--- An error on one line: "where: field: message; hint", each part only where the message does not name it itself.
function M.line(err)
  local text, details = err.message or err.code or "failed", type(err.details) == "table" and err.details or {}
  local own = err.code == "script_error" or err.code == "invalid" -- a mistake in the script: its line helps
  local where = err.where or own and details.where
  if err.field and not text:find(err.field, 1, true) then text = err.field .. ": " .. text end
  if err.hint and not text:find(err.hint, 1, true) then text = text .. "; " .. err.hint end
  if where and not text:find(where, 1, true) then text = where .. ": " .. text end
  return text
end

--- The code of a deployment that has ended, or stands still.
function M.of_deployment(deployment)
  local state = deployment.state
  if state == "succeeded" then return M.DONE end
  if state == "paused" or deployment.awaiting then return M.UNFINISHED end
  if state == "pending" or state == "running" then return M.TIMED_OUT end
  return M.FAILED
end

return M
