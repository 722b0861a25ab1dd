--- Reads the spec of a workload from a file: Lua (a chunk that returns a table), JSON or YAML. What comes back is the
--- request of `plane.workloads:create`. Values keep the form in which they were written until the field's descriptor
--- says what they are. Must not know planes; must not change anything but what it returns.
local core = require "ctrlplane.core"
local errors = require "ctrlplane.errors"
local yaml = require "ctrlplane.yaml"

local M = {}

local MOST = 1024 * 1024 -- bytes, as for a request body
local EXTENSIONS = { lua = "lua", json = "json", yaml = "yaml", yml = "yaml" }

local function child(path, key)
  return path == "" and tostring(key) or path .. "." .. tostring(key)
end

-- What a Lua spec may use. Everything is pure; it describes, it does not act.
local function environment()
  local env = {
    assert = assert, error = error, ipairs = ipairs, next = next, pairs = pairs, select = select,
    tonumber = tonumber, tostring = tostring, type = type, unpack = unpack,
    math = {}, string = {}, table = {},
  }
  for _, name in ipairs { "math", "string", "table" } do
    for key, value in pairs(_G[name]) do env[name][key] = value end
  end
  env.string.dump, env.math.random, env.math.randomseed = nil, nil, nil
  return setmetatable(env, {
    __index = function(_, name) error(("'%s' is not known in a spec"):format(tostring(name)), 2) end,
  })
end

local function from_lua(text, name)
  local chunk, why = loadstring(text, "@" .. name, "t")
  if not chunk then return nil, errors.new { code = "script_error", message = why } end
  setfenv(chunk, environment())
  local ok, value = pcall(chunk)
  if not ok then return nil, errors.new { code = "script_error", message = tostring(value) } end
  return value
end

local function from_json(text, name)
  local value, err = core.json.decode(text)
  if err then return nil, errors.new { code = err.code, field = err.field, hint = err.hint,
    message = ("%s: %s"):format(name, err.message) } end
  return value
end

-- A number where text is meant is a trap: 1.10 is 1.1 by now, and 12345678901234567890 has lost its end.
local function lossy(value, exact)
  return type(value) == "number" and not (exact and value == math.floor(value) and math.abs(value) < 1e14)
end

local function check_text(value, path, exact)
  if not lossy(value, exact) then return nil end
  return errors.invalid(path, ("%s is the number %.15g; it must be text"):format(path, value), "put it in quotes")
end

local check_object

local function check_value(field, value, path, exact)
  local kind = field.type
  if kind == "string" then return check_text(value, path, true) end
  if type(value) ~= "table" then return nil end -- the engine says it best
  if kind == "map" then
    for key, item in pairs(value) do
      local err = check_text(item, child(path, key), exact)
      if err then return err end
    end
  elseif kind == "strings" or kind == "list" then
    for i, item in ipairs(value) do
      local where = ("%s[%d]"):format(path, i - 1)
      local err
      if kind == "strings" then
        err = check_text(item, where, exact)
      else
        err = check_object(field.desc, item, where, exact)
      end
      if err then return err end
    end
  elseif kind == "object" then
    return check_object(field.desc, value, path, exact)
  end
end

function check_object(desc, value, path, exact)
  if type(value) ~= "table" then return nil end
  for _, field in ipairs(desc.fields) do
    if value[field.name] ~= nil then
      local err = check_value(field, value[field.name], child(path, field.name), exact)
      if err then return err end
    end
  end
end

-- What a file may say: what a workload is made of, and how to roll it out.
local function top_fields()
  local known, names = {}, {}
  for _, desc in ipairs { core.descriptors.create, core.descriptors.deploy } do
    for _, field in ipairs(desc.fields) do
      if not known[field.name] and field.name ~= "release_id" then
        known[field.name], names[#names + 1] = field, field.name
      end
    end
  end
  return known, names
end

local TABLES = { list = "a list", map = "names and values" }

-- Names and kinds of the top level, which are used here before the engine sees them; what is deeper it says itself.
local function check_top(value)
  local known, names = top_fields()
  for key, item in pairs(value) do
    local field = known[key]
    if not field then
      local near = type(key) == "string" and core.nearest(key, names)
      return errors.invalid(tostring(key), ("unknown field '%s' of a workload"):format(tostring(key)),
        near and ("did you mean '%s'?"):format(near) or "it takes " .. table.concat(names, ", "))
    end
    if item == core.null then
      value[key] = nil -- not given
    elseif TABLES[field.type] and type(item) ~= "table" then
      return errors.invalid(key, ("%s is one value; it must be %s"):format(key, TABLES[field.type]))
    elseif not TABLES[field.type] and type(item) == "table" and field.type ~= "json" then
      return errors.invalid(key, ("%s is a table; it must be one value"):format(key))
    elseif field.type == "integer" and (type(item) ~= "number" or item ~= math.floor(item)) then
      return errors.invalid(key, ("%s is '%s'; it must be a whole number"):format(key, tostring(item)))
    end
  end
end

--- Reads a spec from a text.
---@param text string
---@param format "lua"|"json"|"yaml"
---@param name string what it is called in messages: a file's path
---@return table? request
---@return ctrlplane.Error? err `invalid` with the path of the field, or `script_error`
function M.parse(text, format, name)
  if #text > MOST then
    return nil, errors.new { code = "too_large", message = ("%s has %d bytes; at most %d"):format(name, #text, MOST) }
  end
  local desc = core.descriptors.create
  local value, err
  if format == "yaml" then
    value, err = yaml.parse(text, desc, name)
  elseif format == "json" then
    value, err = from_json(text, name)
  else
    value, err = from_lua(text, name)
  end
  if err then return nil, err end
  if type(value) ~= "table" then
    return nil, errors.invalid(nil, ("%s gives a %s; a spec is a table"):format(name, type(value)))
  end
  err = check_top(value) or format ~= "yaml" and check_object(desc, value, "", format == "lua") or nil
  if err then return nil, err end
  return value
end

-- What a text without a telling name is.
local function guess(text)
  return text:match "^%s*{" and "json" or "yaml"
end

--- Reads a spec from a file, whose name tells the form: .lua, .json, .yaml, .yml. "-" is standard input, JSON or YAML.
---@param path string
---@param stdin? file* what "-" reads
---@return table? request
---@return ctrlplane.Error? err
function M.read(path, stdin)
  local file, why = stdin or io.stdin
  local format = EXTENSIONS[path:match "%.(%w+)$"]
  if path ~= "-" then
    if not format then
      return nil, errors.invalid(nil, ("%s: what is it? name a spec .lua, .json or .yaml"):format(path))
    end
    file, why = io.open(path, "rb")
    if not file then return nil, errors.new { code = "not_found", message = why } end
  end
  local text, broken = file:read(MOST + 1)
  if path ~= "-" then file:close() end
  if broken then return nil, errors.new { code = "not_found", message = ("%s: %s"):format(path, broken) } end
  text = text or ""
  return M.parse(text, format or guess(text), path == "-" and "standard input" or path)
end

return M
