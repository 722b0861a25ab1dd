--- Writes docs/reference.md: every operation, its options and what it answers, from the tables that check the calls.
---   luajit dev/reference.lua            writes the file
---   luajit dev/reference.lua --check    says whether it is stale (exit code 1)
--- Must not know any operation by name.
local core = require "ctrlplane.core"

local M = {}
local PATH = "docs/reference.md"

local HEAD = [[
# Reference

Every operation, made from the tables that check the calls. `dev/stubs` writes this page; a stale one fails the tests.

In Lua: `plane.NAMESPACE:METHOD(id, { options })`, the id first where there is one; a workload's may be its slug. It
answers a value, or `nil, err`. Every call takes `timeout` beside its options.

Over HTTP, on the engine's socket: JSON under `/v1`; options in the body of POST and PATCH, in the query of GET and
DELETE. A failure is `{"error": {"code", "message", "field", "hint", "details"}}`. With `Accept: text/event-stream`
streams are server-sent events, and logs with `Accept: text/plain` are lines. A workload's answer has an `ETag`, which
`If-Match` of a change may name. Beside it: `/healthz`, `/readyz`.

A list answers `{ items =, total =, next_cursor = }`; `next_cursor` goes into `cursor` for the next page. Times are
RFC 3339 in UTC; durations are given as `"250ms"`, `"1h30m"` or seconds, and answered in seconds; a share is a count or
`"25%"`.]]

local FOOT = [[
Next: [running it](operations.md).]]

local TYPES = { time = "time", strings = "list of text", map = "text to text", json = "any", string = "text" }

local function link(desc, options)
  local heading = desc.name:gsub("_", " ") .. (options[desc.name] == desc and " options" or "")
  return ("[%s](#%s)"):format(desc.name:gsub("_", " "), (heading:gsub(" ", "-")))
end

local function escape(text) return (text:gsub("|", "\\|"):gsub("[<>]", { ["<"] = "&lt;", [">"] = "&gt;" })) end

local function escape_bar(text) return (text:gsub("|", "\\|")) end

local function type_of(field, options)
  if field.type == "enum" then return "`" .. table.concat(field.values, "` `") .. "`" end
  if field.type == "object" then return link(field.desc, options) end
  if field.type == "list" then return "list of " .. link(field.desc, options) end
  return TYPES[field.type] or field.type
end

local function add_fields(out, desc, options, asked)
  out[#out + 1] = ""
  out[#out + 1] = asked and "| field | type | default | |" or "| field | type | |"
  out[#out + 1] = asked and "| --- | --- | --- | --- |" or "| --- | --- | --- |"
  for _, field in ipairs(desc.fields) do
    if not (asked and field.read_only) then
      local cells = { ("`%s`"):format(field.name), type_of(field, options) }
      if asked then cells[3] = field.required and "required" or field.fallback and escape(field.fallback) or "" end
      cells[#cells + 1] = escape(field.doc or "")
      out[#out + 1] = "| " .. table.concat(cells, " | ") .. " |"
    end
  end
end

--- Answers that no table describes are written by hand, in the stub: class name (as here: log_event) -> fields.
local function by_hand()
  local file = assert(io.open "lua/ctrlplane/types/ctrlplane.lua")
  local classes, current = {}, nil
  for line in file:lines() do
    local class, doc = line:match "^%-%-%-@class ctrlplane%.(%u%w+)%s*(.*)$"
    local name, optional, rest = line:match "^%-%-%-@field ([%w_]+)(%??) (.*)$"
    if class then
      local words = class:gsub("%u", function(c) return "_" .. c:lower() end):sub(2)
      current = { name = words, doc = doc ~= "" and doc or nil, fields = {} }
      classes[words] = current
    elseif name and current then
      local kind, text = rest:match "^(%S+)%s*(.*)$"
      if kind:match "^table<[^>]*$" then -- the one type with a space in it
        local more, after = text:match "^(%S+)%s*(.*)$"
        kind, text = kind .. " " .. more, after
      end
      table.insert(current.fields, { name = name, optional = optional ~= "", kind = kind, doc = text })
    end
  end
  file:close()
  return classes
end

local function returns(op, by_name, options)
  local kind, name = (op.returns or ""):match "^(%a+) of ([%w_]+)$"
  name = name or op.returns
  if not name then return "true" end
  local shown = by_name[name] and link(by_name[name], options) or name
  return kind and kind .. " of " .. shown or shown
end

local function sorted(map)
  local keys = {}
  for key in pairs(map) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

-- Which descriptors are given in requests, beside those that are options themselves.
local function mark_asked(desc, asked)
  if asked[desc] then return end
  asked[desc] = true
  for _, field in ipairs(desc.fields) do
    if field.desc then mark_asked(field.desc, asked) end
  end
end

--- The whole text.
function M.text()
  local options, namespaces, order, asked = {}, {}, {}, {}
  for _, op in ipairs(core.operations) do
    if op.args then
      options[op.args.name] = op.args
      mark_asked(op.args, asked)
    end
    if not namespaces[op.namespace] then
      namespaces[op.namespace] = {}
      order[#order + 1] = op.namespace
    end
    table.insert(namespaces[op.namespace], op)
  end
  local out, written, shown = { HEAD }, by_hand(), {}
  for _, op in ipairs(core.operations) do
    local name = (op.returns or ""):match "([%w_]+)$"
    if name and not core.descriptors[name] then shown[name] = assert(written[name], name .. " is described nowhere") end
  end
  local described = setmetatable({}, { __index = function(_, name) return core.descriptors[name] or shown[name] end })
  for _, namespace in ipairs(order) do
    out[#out + 1] = ("\n## %s\n"):format(namespace)
    out[#out + 1] = "| method | HTTP | options | answers | |\n| --- | --- | --- | --- | --- |"
    for _, op in ipairs(namespaces[namespace]) do
      local takes = op.args and #op.args.fields > 0 and link(op.args, options) or ""
      local call = ("%s(%s)"):format(op.method, op.id and "id" or "")
      out[#out + 1] = ("| `%s` | `%s %s` | %s | %s | %s |"):format(call, op.http_method, op.path, takes,
        returns(op, described, options), escape(op.doc))
    end
  end
  for _, name in ipairs(sorted(options)) do
    if #options[name].fields > 0 then
      out[#out + 1] = ("\n## %s options"):format((name:gsub("_", " ")))
      add_fields(out, options[name], options, true)
    end
  end
  for _, part in ipairs { true, false } do
    for _, name in ipairs(sorted(core.descriptors)) do
      local desc = core.descriptors[name]
      if options[name] ~= desc and (asked[desc] or false) == part then
        out[#out + 1] = ("\n## %s%s"):format(name:gsub("_", " "), desc.doc and "\n\n" .. desc.doc or "")
        add_fields(out, desc, options, part)
      end
    end
  end
  for _, name in ipairs(sorted(shown)) do
    local class = shown[name]
    out[#out + 1] = ("\n## %s%s\n"):format(name:gsub("_", " "), class.doc and "\n\n" .. class.doc or "")
    out[#out + 1] = "| field | type | |\n| --- | --- | --- |"
    for _, field in ipairs(class.fields) do
      out[#out + 1] = ("| `%s` | `%s` | %s |"):format(field.name, escape_bar(field.kind), escape(field.doc))
    end
  end
  out[#out + 1] = "\n" .. FOOT
  return table.concat(out, "\n") .. "\n"
end

--- The text in the tree, "" when there is none.
function M.current()
  local file = io.open(PATH)
  local text = file and file:read "*a" or ""
  if file then file:close() end
  return text
end

local function main(mode)
  local stale = M.current() ~= M.text()
  if mode == "--check" then
    io.stdout:write(PATH, stale and " is stale; write it again: dev/stubs\n" or " is up to date\n")
    return stale and 1 or 0
  elseif mode then
    io.stderr:write("usage: luajit dev/reference.lua [--check]\n")
    return 2
  end
  local file = assert(io.open(PATH, "w"))
  assert(file:write(M.text()))
  file:close()
  return 0
end

if (...) ~= "dev.reference" then os.exit(main(...)) end
return M
