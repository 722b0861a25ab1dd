--- YAML as text, typed by descriptors: a scalar stays what was written until its field says what it is, so that NO is
--- not false, 0755 not 493 and 22:22 not 1342. Equal keys are errors, and aliases are bounded by what they unfold to.
--- Built on the events of lua-yaml (libyaml); its own typing is not used. Must not know workloads.
local core = require "ctrlplane.core"
local errors = require "ctrlplane.errors"

local M = {}

local DEEPEST = 32
local MOST_NODES = 50000 -- values, aliases unfolded
local MOST_BYTES = 1024 * 1024 -- of text, aliases unfolded

local function child(path, key)
  return path == "" and key or path .. "." .. key
end

-- Errors travel as raised tables inside this file and are returned at its edge.
local function refuse(name, line, field, message, hint)
  error(errors.invalid(field ~= "" and field or nil, ("%s:%d: %s"):format(name, line, message), hint), 0)
end

-- ---- events to nodes ----

-- A node is { kind = "scalar" | "map" | "list", line =, text =, plain =, keys =, items = }; key and value of a map
-- stand in keys (texts, in order) and items.
local Composer = {}
Composer.__index = Composer

function Composer:next()
  local ok, event = pcall(self.events)
  if ok and event then return event end
  local text = tostring(event)
  local line = tonumber(text:match "line: (%d+)") or 1
  local what = text:gsub(" at document: %d+, line: %d+, column: %d+", ""):gsub("\n.*", "")
  refuse(self.name, line, "", what)
end

function Composer:scalar(event)
  return {
    kind = "scalar",
    line = event.start_mark.line + 1,
    text = event.value,
    plain = event.style == "PLAIN",
  }
end

function Composer:list(event, path, depth)
  local node = { kind = "list", line = event.start_mark.line + 1, items = {} }
  while true do
    local inner = self:next()
    if inner.type == "SEQUENCE_END" then return node end
    node.items[#node.items + 1] = self:node(inner, ("%s[%d]"):format(path, #node.items), depth + 1)
  end
end

function Composer:map(event, path, depth)
  local node = { kind = "map", line = event.start_mark.line + 1, keys = {}, items = {} }
  local lines = {}
  while true do
    local inner = self:next()
    if inner.type == "MAPPING_END" then return node end
    local line = inner.start_mark.line + 1
    if inner.type ~= "SCALAR" then refuse(self.name, line, path, "a key is no text; keys are names") end
    local key = inner.value
    local where = child(path, key)
    if key == "<<" and inner.style == "PLAIN" then
      refuse(self.name, line, where, "'<<' merges, which this reader does not; name the fields")
    end
    if lines[key] then
      refuse(self.name, line, where, ("%s is given twice, first in line %d"):format(where, lines[key]),
        "keep one of the two")
    end
    lines[key] = line
    node.keys[#node.keys + 1] = key
    node.items[#node.items + 1] = self:node(self:next(), where, depth + 1)
  end
end

function Composer:node(event, path, depth)
  local line = event.start_mark.line + 1
  if depth > DEEPEST then
    refuse(self.name, line, path, ("values are nested more than %d deep"):format(DEEPEST))
  end
  if event.type == "ALIAS" then
    local node = self.anchors[event.anchor]
    if not node then refuse(self.name, line, path, ("'*%s' refers to nothing above it"):format(event.anchor)) end
    return node
  end
  if event.tag and event.tag ~= "!" then
    refuse(self.name, line, path, ("the tag '%s' says nothing here; the field says what a value is"):format(event.tag),
      "put text in quotes")
  end
  local node
  if event.type == "SCALAR" then
    node = self:scalar(event)
  elseif event.type == "SEQUENCE_START" then
    node = self:list(event, path, depth)
  else
    node = self:map(event, path, depth)
  end
  if event.anchor then self.anchors[event.anchor] = node end -- only now: a node cannot contain itself
  return node
end

function Composer:document()
  self:next() -- the stream begins
  local event = self:next()
  if event.type == "STREAM_END" then return nil end
  local root = self:node(self:next(), "", 1)
  self:next() -- the document ends
  event = self:next()
  if event.type ~= "STREAM_END" then
    refuse(self.name, event.start_mark.line + 1, "", "a second document begins; a file holds one spec")
  end
  return root
end

-- ---- nodes to values ----

local Typer = {}
Typer.__index = Typer

function Typer:count(node, path)
  self.nodes = self.nodes + 1
  self.bytes = self.bytes + #(node.text or "")
  if self.nodes > MOST_NODES or self.bytes > MOST_BYTES then
    refuse(self.name, node.line, path, ("the aliases unfold to more than %d values or %d bytes"):format(MOST_NODES,
      MOST_BYTES))
  end
end

local function is_nothing(node)
  return node.kind == "scalar" and node.plain and (node.text == "" or node.text == "~" or node.text == "null")
end

-- The numbers of JSON: no leading zero, no sign but minus, no separators, no other base.
local function json_number(text)
  local digits = text:match "^%-?(%d+)$" or text:match "^%-?(%d+)%.%d+$" or text:match "^%-?(%d+)%.?%d*[eE][+-]?%d+$"
  return digits and (digits == "0" or digits:sub(1, 1) ~= "0") and #text <= 15 and tonumber(text) or nil
end

-- Where no descriptor speaks (parameters of a strategy): what JSON would read, else text.
function Typer:free(node, path)
  self:count(node, path)
  if node.kind == "scalar" then
    if not node.plain then return node.text end
    if is_nothing(node) then return core.null end
    if node.text == "true" or node.text == "false" then return node.text == "true" end
    return json_number(node.text) or node.text
  end
  local value = {}
  for i, item in ipairs(node.items) do
    local key = node.kind == "map" and node.keys[i] or i
    value[key] = self:free(item, node.kind == "map" and child(path, key) or ("%s[%d]"):format(path, i - 1))
  end
  return node.kind == "list" and core.json.array(value) or value
end

function Typer:text(node, path)
  self:count(node, path)
  if node.kind ~= "scalar" then
    refuse(self.name, node.line, path, ("%s is a %s; it must be text"):format(path, node.kind))
  end
  return node.text
end

function Typer:map(node, path)
  local value = {}
  for i, item in ipairs(node.items) do value[node.keys[i]] = self:text(item, child(path, node.keys[i])) end
  return value
end

function Typer:strings(node, path)
  local value = {}
  for i, item in ipairs(node.items) do value[i] = self:text(item, ("%s[%d]"):format(path, i - 1)) end
  return core.json.array(value)
end

function Typer:list(node, path, field)
  local value = {}
  for i, item in ipairs(node.items) do
    local where = ("%s[%d]"):format(path, i - 1)
    self:count(item, where)
    value[i] = self:object(item, where, field.desc)
  end
  return core.json.array(value)
end

local WANTED = { map = "map", object = "map", strings = "list", list = "list" }

function Typer:field(node, path, field)
  self:count(node, path)
  local kind = field.type
  if kind == "json" then return self:free(node, path) end
  local wanted = WANTED[kind] or "scalar"
  if wanted ~= "scalar" and is_nothing(node) then return nil end -- `env:` with nothing under it
  if node.kind ~= wanted then
    local words = { map = "names and values", list = "a list", scalar = "one value" }
    refuse(self.name, node.line, path, ("%s is %s; it must be %s"):format(path, words[node.kind], words[wanted]))
  end
  if kind == "map" then return self:map(node, path) end
  if kind == "object" then return self:object(node, path, field.desc) end
  if kind == "strings" then return self:strings(node, path) end
  if kind == "list" then return self:list(node, path, field) end
  if kind == "boolean" and node.plain and (node.text == "true" or node.text == "false") then
    return node.text == "true"
  end
  if kind == "integer" and not node.text:match "^%-?%d+$" then return node.text end
  if (kind == "integer" or kind == "number") and node.plain then return json_number(node.text) or node.text end
  return node.text -- also what is no such number or word: the engine says what it must be
end

function Typer:object(node, path, desc)
  if node.kind ~= "map" then
    local hint = node.kind == "scalar" and "write it as names and values" or nil
    refuse(self.name, node.line, path, ("%s must be the fields of a %s"):format(path == "" and "the file" or path,
      desc.name), hint)
  end
  local fields, value = {}, {}
  for _, field in ipairs(desc.fields) do fields[field.name] = field end
  for i, item in ipairs(node.items) do
    local key = node.keys[i]
    local where, field = child(path, key), fields[key]
    -- An unknown field is the engine's to refuse, with the nearest name.
    if field then value[key] = self:field(item, where, field) else value[key] = self:free(item, where) end
  end
  return value
end

--- Reads a text as what `desc` describes.
---@param text string
---@param desc table a descriptor: `{ name =, fields = { { name =, type =, desc =? } } }`
---@param name string what the text is called in messages: "web.yaml"
---@return table? value
---@return ctrlplane.Error? err `invalid`, with line and field
function M.parse(text, desc, name)
  local found, library = pcall(require, "yaml")
  if not found or type(library.parser) ~= "function" then
    return nil, errors.new { code = "unsupported", message = "YAML needs the module 'yaml'; install lua-yaml" }
  end
  local ok, value = pcall(function()
    local composer = setmetatable({ name = name, anchors = {}, events = library.parser(text) }, Composer)
    local root = composer:document()
    if not root then refuse(name, 1, "", "there is nothing in it") end
    return setmetatable({ name = name, nodes = 0, bytes = 0 }, Typer):object(root, "", desc)
  end)
  if ok then return value end
  if errors.is(value) then return nil, value end
  error(value, 0) -- a mistake of ours
end

return M
