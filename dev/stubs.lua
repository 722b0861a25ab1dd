--- Writes lua/ctrlplane/types/api.lua: LuaCATS stubs of every operation, from the tables that check the calls.
---   luajit dev/stubs.lua            writes the file
---   luajit dev/stubs.lua --check    says whether it is stale (exit code 1)
--- Must not know any operation by name.
local core = require "ctrlplane.core"

local M = {}
local PATH = "lua/ctrlplane/types/api.lua"

local function camel(name)
  return (("_" .. name):gsub("_(%l)", string.upper):gsub("_", ""))
end

local function class(name)
  return "ctrlplane." .. camel(name)
end

--- As it is written in options, or as it comes in answers.
local TYPES = {
  string = "string",
  integer = "integer",
  number = "number",
  boolean = "boolean",
  time = "string",
  strings = "string[]",
  map = "table<string, string>",
  json = "any",
  share = "string|number",
}

local function type_of(field, answer)
  if field.type == "duration" then
    return answer and "number" or "string|number"
  elseif field.type == "enum" then
    local words = {}
    for i, word in ipairs(field.values) do
      words[i] = ('"%s"'):format(word)
    end
    return table.concat(words, "|")
  elseif field.type == "object" then
    return class(field.desc.name)
  elseif field.type == "list" then
    return class(field.desc.name) .. "[]"
  end
  return assert(TYPES[field.type], field.type)
end

local function doc_of(field)
  local doc = field.doc or ""
  if field.fallback then
    doc = doc .. (" (default %s)"):format(field.fallback)
  end
  return doc
end

local function add_class(out, name, desc, answer, extra)
  out[#out + 1] = ""
  if desc.doc then
    out[#out + 1] = "---" .. desc.doc
  end
  out[#out + 1] = "---@class " .. name
  for _, field in ipairs(desc.fields) do
    local optional = (answer and field.kept or field.required) and "" or "?"
    out[#out + 1] = ("---@field %s%s %s %s"):format(field.name, optional, type_of(field, answer), doc_of(field))
  end
  for _, line in ipairs(extra or {}) do
    out[#out + 1] = line
  end
end

local function return_type(returns)
  local kind, name = (returns or ""):match "^(%a+) of ([%w_]+)$"
  if kind == "list" then
    return ("{ items: %s[], total: integer, next_cursor: string? }"):format(class(name))
  elseif kind == "stream" then
    return ("ctrlplane.Stream<%s>"):format(class(name))
  end
  return returns and class(returns) or "true"
end

local TIMEOUT = "---@field timeout? string|number give up waiting after this; the work goes on"

local function add_method(out, op)
  out[#out + 1] = ""
  out[#out + 1] = "---" .. op.doc
  local arguments = {}
  if op.id then
    local what = op.id_of == "workload" and "id or slug" or "id of the " .. op.id_of
    out[#out + 1] = ("---@param id string %s"):format(what)
    arguments[1] = "id"
  end
  if op.args then
    out[#out + 1] = ("---@param options? %sOptions"):format(class(op.args.name))
    arguments[#arguments + 1] = "options"
  end
  out[#out + 1] = ("---@return %s? %s"):format(return_type(op.returns), op.stream and "events" or "result")
  out[#out + 1] = "---@return ctrlplane.Error? err"
  out[#out + 1] = ("function %s:%s(%s) end"):format(op.namespace, op.method, table.concat(arguments, ", "))
end

local function sorted_keys(map)
  local keys = {}
  for key in pairs(map) do
    keys[#keys + 1] = key
  end
  table.sort(keys)
  return keys
end

--- The whole text.
function M.text()
  local out = {
    "---@meta",
    "-- Made by dev/stubs.lua from the tables of operations and descriptors; do not edit.",
  }
  local options, namespaces, order = {}, {}, {}
  for _, op in ipairs(core.operations) do
    if op.args then
      options[op.args.name] = op.args
    end
    if not namespaces[op.namespace] then
      namespaces[op.namespace] = {}
      order[#order + 1] = op.namespace
    end
    table.insert(namespaces[op.namespace], op)
  end
  for _, name in ipairs(sorted_keys(core.descriptors)) do
    local desc = core.descriptors[name]
    if options[name] ~= desc then
      add_class(out, class(name), desc, true)
    end
  end
  for _, name in ipairs(sorted_keys(options)) do
    add_class(out, class(name) .. "Options", options[name], false, { TIMEOUT })
  end
  for _, namespace in ipairs(order) do
    out[#out + 1] = ""
    out[#out + 1] = "---@class " .. class(namespace)
    out[#out + 1] = ("local %s = {}"):format(namespace)
    for _, op in ipairs(namespaces[namespace]) do
      add_method(out, op)
    end
  end
  out[#out + 1] = ""
  out[#out + 1] = "---@class ctrlplane.Namespaces"
  for _, namespace in ipairs(order) do
    out[#out + 1] = ("---@field %s %s"):format(namespace, class(namespace))
  end
  return table.concat(out, "\n") .. "\n"
end

--- What has no line of documentation: "workloads.scale", "field replicas of scale" ...
function M.undocumented()
  local missing = {}
  for _, op in ipairs(core.operations) do
    if not op.doc or op.doc == "" then
      missing[#missing + 1] = op.name
    end
  end
  for _, name in ipairs(sorted_keys(core.descriptors)) do
    for _, field in ipairs(core.descriptors[name].fields) do
      if not field.doc or field.doc == "" then
        missing[#missing + 1] = ("field %s of %s"):format(field.name, name)
      end
    end
  end
  return missing
end

--- The text in the tree, "" when there is none.
function M.current()
  local file = io.open(PATH)
  local text = file and file:read "*a" or ""
  if file then
    file:close()
  end
  return text
end

local function main(mode)
  local stale = M.current() ~= M.text()
  if mode == "--check" then
    io.stdout:write(PATH, stale and " is stale; write it again: luajit dev/stubs.lua\n" or " is up to date\n")
    return stale and 1 or 0
  elseif mode then
    io.stderr:write("usage: luajit dev/stubs.lua [--check]\n")
    return 2
  end
  local file = assert(io.open(PATH, "w"))
  assert(file:write(M.text()))
  file:close()
  return 0
end

if (...) ~= "dev.stubs" then
  os.exit(main(...))
end
return M
