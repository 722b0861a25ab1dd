--- What a spec file would change of a workload, field by field. Pure: compares tables by the engine's own descriptors,
--- so that "10s" is 10 and a default is no change. Must not know planes, files or terminals.
local core = require "ctrlplane.core"

local M = {}

local function text_of(value)
  if type(value) == "table" then return assert(core.json.encode(value)) end
  if type(value) == "number" then return ("%.14g"):format(value) end
  return tostring(value)
end

local function normal(field, value)
  if value == nil or value == core.null then return nil end
  if field.type == "duration" then
    local seconds = core.duration(value)
    return seconds and ("%gs"):format(seconds) or text_of(value)
  end
  return text_of(value)
end

local flatten

-- Puts the leaves below one field's value into `into`: path -> text. What is empty or the default is left out.
local function flatten_field(field, value, path, into)
  if value == nil or value == core.null then return end
  if field.type == "object" and type(value) == "table" then
    into[path] = "" -- that it is there counts, even when every field of it is the default
    flatten(field.desc, value, path, into)
  elseif field.type == "list" and type(value) == "table" then
    for i, item in ipairs(value) do
      local name = type(item) == "table" and item.name
      local here = ("%s[%s]"):format(path, name or i - 1)
      into[here] = ""
      flatten(field.desc, item, here, into, "name")
    end
  elseif field.type == "map" and type(value) == "table" then
    for key, item in pairs(value) do into[path .. "." .. key] = text_of(item) end
  elseif field.type == "strings" and type(value) == "table" then
    if #value > 0 then into[path] = text_of(core.json.array(value)) end
  else
    local text = normal(field, value)
    local default = field.fallback and normal(field, field.fallback) or field.values and field.values[1]
    if text and text ~= "" and text ~= default and not (default == nil and (text == "0" or text == "false")) then
      into[path] = text
    end
  end
end

function flatten(desc, value, path, into, but)
  for _, field in ipairs(desc.fields) do
    if field.name ~= but then flatten_field(field, value[field.name], path .. "." .. field.name, into) end
  end
end

local function add_changes(changes, before, after)
  local paths = {}
  for path in pairs(before) do paths[path] = true end
  for path in pairs(after) do paths[path] = true end
  local sorted = {}
  for path in pairs(paths) do
    if before[path] ~= after[path] then sorted[#sorted + 1] = path end
  end
  table.sort(sorted)
  for _, path in ipairs(sorted) do
    changes[#changes + 1] = { field = path, before = before[path], after = after[path] }
  end
end

--- The changes of services: list of { field, before?, after? }, by field.
function M.services(before, after)
  local field = { name = "services", type = "list", desc = assert(core.descriptors.service) }
  local old, new, changes = {}, {}, {}
  flatten_field(field, before, "services", old)
  flatten_field(field, after, "services", new)
  add_changes(changes, old, new)
  return changes
end

--- What `request` (of a file) would change of `workload`; only what the request names is compared.
---@return table changes list of { field, before?, after? }
---@return table what { name?, labels?, services?, replicas? }: which parts change
function M.workload(workload, request)
  local changes, what = {}, {}
  local function part(name, list)
    if #list > 0 then what[name] = true end
    for _, change in ipairs(list) do changes[#changes + 1] = change end
  end
  if request.name and request.name ~= workload.name then
    part("name", { { field = "name", before = workload.name, after = request.name } })
  end
  if request.replicas then
    local count = workload.state == "paused" and workload.previous_replicas or workload.replica_count or 0
    if count ~= request.replicas then
      part("replicas", { { field = "replicas", before = tostring(count), after = tostring(request.replicas) } })
    end
  end
  if request.labels then
    local old, new, list = {}, {}, {}
    for key, value in pairs(workload.labels or {}) do old["labels." .. key] = text_of(value) end
    for key, value in pairs(request.labels) do new["labels." .. key] = text_of(value) end
    add_changes(list, old, new)
    part("labels", list)
  end
  if request.services then part("services", M.services(workload.services, request.services)) end
  for _, name in ipairs { "kind", "provider_name", "region", "datacenter_id" } do
    if request[name] and request[name] ~= workload[name] then
      part("immutable", { { field = name, before = workload[name], after = request[name] } })
      what.immutable = name
    end
  end
  return changes, what
end

local function shown(text)
  if text == nil then return "(none)" end
  if text == "" then return "(defaults)" end
  text = text:gsub("\n", "\\n"):gsub("%c", "?") -- one line, and nothing that a terminal obeys
  if #text > 60 then return text:sub(1, 57) .. "..." end
  return text
end

--- The changes as lines: "replicas 5 -> 3".
function M.lines(changes)
  local lines = {}
  for _, change in ipairs(changes) do
    if change.before == nil or change.after == nil then
      local value = change.after or change.before
      lines[#lines + 1] = (change.after and "+ " or "- ") .. change.field .. (value == "" and "" or " " .. shown(value))
    else
      lines[#lines + 1] = ("~ %s %s -> %s"):format(change.field, shown(change.before), shown(change.after))
    end
  end
  return lines
end

return M
