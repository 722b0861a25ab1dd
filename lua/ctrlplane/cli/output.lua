--- How the command speaks: data on stdout, talk on stderr; aligned tables, colour, one JSON document.
--- Knows text and terminals; must not know planes or what the columns mean.
local core = require "ctrlplane.core"
local system = require "ctrlplane.cli.system"

local M = {}
M.__index = M

local COLOURS = { red = 31, green = 32, yellow = 33, blue = 34, cyan = 36, grey = 90, bold = 1 }

-- A word for each state's colour, and a sign: the state is never told by colour alone.
local STATES = {
  active = { "green", "●" }, running = { "green", "●" }, succeeded = { "green", "✔" }, ready = { "green", "●" },
  provisioning = { "yellow", "◌" }, starting = { "yellow", "◌" }, scaling = { "yellow", "◌" },
  deploying = { "yellow", "◌" }, pending = { "yellow", "◌" }, stopping = { "yellow", "◌" },
  destroying = { "yellow", "◌" }, paused = { "blue", "‖" }, stopped = { "blue", "‖" }, failed = { "red", "✘" },
  rolled_back = { "red", "↶" }, cancelled = { "grey", "–" }, destroyed = { "grey", "–" },
}

--- options: format ("table", "wide", "json", "jsonl", "name"), no_color.
function M.new(options)
  local env = os.getenv
  local colour = system.is_terminal(1) and env "TERM" ~= "dumb" and (env "NO_COLOR" or "") == ""
  if (env "FORCE_COLOR" or "") ~= "" and env "FORCE_COLOR" ~= "0" then colour = true end
  if options.no_color then colour = false end
  local utf8 = ((env "LC_ALL" or "") ~= "" and env "LC_ALL" or env "LC_CTYPE" or env "LANG" or ""):lower()
  return setmetatable({
    format = options.format or "table",
    colour = colour,
    terminal = system.is_terminal(1) and env "TERM" ~= "dumb",
    signs = colour and utf8:find "utf%-?8" ~= nil,
  }, M)
end

function M:is_json() return self.format == "json" or self.format == "jsonl" end

function M:paint(text, colour)
  if not self.colour or not COLOURS[colour] then return text end
  return ("\27[%dm%s\27[0m"):format(COLOURS[colour], text)
end

--- A state with its sign and colour.
function M:state(state)
  local look = STATES[state]
  if not look then return state or "-" end
  return self:paint((self.signs and look[2] .. " " or "") .. state, look[1])
end

local function width(text)
  text = text:gsub("\27%[[%d;]*m", "")
  local _, continued = text:gsub("[\128-\191]", "")
  return #text - continued
end
M.width = width

local function pad(text, to) return text .. (" "):rep(to - width(text)) end

--- The lines of an aligned table. columns: list of { title, function(row) -> text | nil, wide = true? }.
function M:lines(columns, rows)
  local shown = {}
  for _, column in ipairs(columns) do
    if not column.wide or self.format == "wide" then shown[#shown + 1] = column end
  end
  local widths, cells = {}, { {} }
  for c, column in ipairs(shown) do
    cells[1][c] = self:paint(column[1], "bold")
    widths[c] = width(column[1])
  end
  for r, row in ipairs(rows) do
    cells[r + 1] = {}
    for c, column in ipairs(shown) do
      local value = column[2](row)
      local text = (value == nil or value == "") and "-" or tostring(value):gsub("%c", " ")
      if value ~= nil and tostring(value):find "\27" then text = tostring(value) end
      cells[r + 1][c] = text
      widths[c] = math.max(widths[c], width(text))
    end
  end
  local lines = {}
  for i, line in ipairs(cells) do
    local parts = {}
    for c, cell in ipairs(line) do parts[c] = c == #line and cell or pad(cell, widths[c]) end
    lines[i] = table.concat(parts, "  ")
  end
  return lines
end

function M:print(text)
  io.stdout:write(text, "\n")
end

--- One JSON document; with jsonl on one line.
function M:json(value)
  if self.format == "jsonl" then return self:jsonl(value) end
  io.stdout:write(assert(core.json.encode(value, { indent = 2 })), "\n")
end

--- One line of JSON, of a stream.
function M:jsonl(value)
  io.stdout:write(assert(core.json.encode(value)), "\n")
  io.stdout:flush()
end

--- A list: as a document, as names, or as a table. list: what the API answered ({ items = ... } or a list).
function M:list(list, columns, name_of)
  local rows = list.items or list
  if self.format == "json" then
    return self:json(list)
  elseif self.format == "jsonl" then
    for _, row in ipairs(rows) do self:jsonl(row) end
  elseif self.format == "name" then
    for _, row in ipairs(rows) do self:print(name_of(row)) end
  else
    for _, line in ipairs(self:lines(columns, rows)) do self:print(line) end
  end
end

--- One thing: as a document, as its name, or by the function that prints it.
function M:item(value, name, show)
  if self:is_json() then
    self:json(value)
  elseif self.format == "name" then
    self:print(name)
  else
    show()
  end
end

--- Talk: to stderr.
function M:say(format, ...)
  io.stderr:write(select("#", ...) > 0 and format:format(...) or format, "\n")
end

--- What --dry-run would do, where a document is asked for; people have been told. Gives the exit code.
function M:plan(would)
  if self:is_json() then self:json { dry_run = true, would = core.json.array(would) } end
  return 0
end

--- Seconds since 1970 of "2026-01-31T12:00:00.123Z"; nil for what is no such time.
function M.time(text)
  local y, mo, d, h, mi, s = tostring(text):match "^(%d+)-(%d+)-(%d+)T(%d+):(%d+):([%d.]+)Z$"
  if not y then return nil end
  -- days from civil: no time zone, no locale
  y, mo, d = tonumber(y), tonumber(mo), tonumber(d)
  if mo <= 2 then y = y - 1 end
  local era = math.floor(y / 400)
  local yoe = y - era * 400
  local doy = math.floor((153 * (mo + (mo > 2 and -3 or 9)) + 2) / 5) + d - 1
  local doe = yoe * 365 + math.floor(yoe / 4) - math.floor(yoe / 100) + doy
  return (era * 146097 + doe - 719468) * 86400 + h * 3600 + mi * 60 + tonumber(s)
end

--- Seconds as people say them: "4s", "3m12s", "2h05m", "3d04h".
function M.span(seconds)
  seconds = math.max(0, math.floor(seconds + 0.5))
  if seconds < 60 then return seconds .. "s" end
  if seconds < 3600 then return ("%dm%02ds"):format(seconds / 60, seconds % 60) end
  if seconds < 86400 then return ("%dh%02dm"):format(seconds / 3600, seconds % 3600 / 60) end
  return ("%dd%02dh"):format(seconds / 86400, seconds % 86400 / 3600)
end

--- How long ago that time was.
function M.age(text)
  local at = M.time(text)
  return at and M.span(os.time() - at) or nil
end

--- [########............]
function M:bar(percent, cells)
  cells = cells or 20
  local full = math.floor(math.max(0, math.min(100, percent or 0)) / 100 * cells + 0.5)
  return "[" .. self:paint(("#"):rep(full), "green") .. ("."):rep(cells - full) .. "]"
end

return M
