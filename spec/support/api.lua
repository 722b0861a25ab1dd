--- The HTTP API of an engine that is judged from outside: requests over its unix socket, answers as tables.
--- Must not use ctrlplane's own client, so that it can judge it.
local dkjson = require "dkjson"
local house = require "spec.support.house"

local M = {}
local Api = {}
Api.__index = Api

function M.new(socket) return setmetatable({ socket = socket }, Api) end

--- One call: value, nil, status; or nil, what went wrong, status. No answer at all has no status.
function Api:call(method, path, body, timeout)
  local status, text = house.request(self.socket, "/v1" .. path, {
    method = method,
    body = body and dkjson.encode(body) or nil,
    headers = body and { "Content-Type: application/json" } or nil,
    timeout = timeout or 10,
  })
  if not status then return nil, text, nil end
  local value = dkjson.decode(text)
  if status >= 300 then
    return nil, value and value.error and value.error.message or text, status, value and value.error
  end
  return value, nil, status
end

function Api:get(path, timeout) return self:call("GET", path, nil, timeout) end
function Api:post(path, body, timeout)
  return self:call("POST", path, body or setmetatable({}, { __jsontype = "object" }), timeout) -- dkjson would write []
end
function Api:patch(path, body, timeout) return self:call("PATCH", path, body, timeout) end
function Api:delete(path, timeout) return self:call("DELETE", path, nil, timeout) end

--- True when the engine says that it is ready.
function Api:ready() return house.request(self.socket, "/readyz", { timeout = 1 }) == 200 end

--- Every item of a list, over all pages.
function Api:all(path)
  local items, cursor = {}, nil
  repeat
    local separator = path:find("?", 1, true) and "&" or "?"
    local page = assert(self:get(path .. separator .. "limit=500" .. (cursor and "&cursor=" .. cursor or "")))
    for _, item in ipairs(page.items or page) do items[#items + 1] = item end
    cursor = page.next_cursor
  until not cursor
  return items
end

return M
