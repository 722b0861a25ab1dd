--- The `rollout` object of strategies, on two primitives: a command, which is journaled and may wait, and a query.
--- Its version is pinned with every rollout: what a recorded journal means must not change under it.
local raw = ...
local lib = raw.lib
local pairs, tostring, format = lib.pairs, lib.tostring, lib.string.format
local base = raw.base
local type, error, ipairs, setmetatable, rawget = base.type, base.error, base.ipairs, base.setmetatable, base.rawget

local prelude = { version = 1 }

local rollout = {} -- stays empty: what it shows is looked up, so that nothing of it can be replaced
local commands, plain = {}, {}

--- What a later version brings: asking for it says so instead of "unknown".
local later = {
  shift = "a traffic router", await_promotion = "promotion", run_once = "one-off jobs", check = "gates", exec = "gates",
  http = "gates", within = "within", defer = "defer", metrics = "metrics",
}
local later_options = { bake = { judge = "metrics", max_failed_ratio = "metrics", interval = "metrics" } }

local function raise(code, message, hint)
  error(raw.errors.new { code = code, message = message, hint = hint, where = raw.where() }, 0)
end

local function finish_command(ok, value)
  if ok then return value end
  error(value, 0)
end

local function command(name, self, values, options, fn)
  if self ~= rollout then raise("invalid", format("write rollout:%s(...), with a colon", name)) end
  if options ~= nil then
    if type(options) ~= "table" then
      raise("invalid", format("the options of %s are a table such as { timeout = \"5m\" }; got a %s", name,
        type(options)))
    end
    for key, value in pairs(options) do
      if later_options[name] and later_options[name][key] then
        raise("unsupported", format("option '%s' of %s needs %s, which this engine does not have", key, name,
          later_options[name][key]))
      end
      if rawget(values, key) ~= nil then raise("invalid", format("%s is given twice to %s", tostring(key), name)) end
      values[key] = value
    end
  end
  return finish_command(raw.command(name, values, fn))
end

function commands:launch(share, options)
  return command("launch", self, { share = share }, options)
end

function commands:replace(share, options)
  return command("replace", self, { share = share }, options)
end

function commands:retire(share, options)
  if type(share) == "table" and options == nil then share, options = nil, share end
  return command("retire", self, { share = share }, options)
end

function commands:bake(duration, options)
  return command("bake", self, { duration = duration }, options)
end

function commands:sleep(duration, options)
  return command("sleep", self, { duration = duration }, options)
end

--- fn(status) is asked whenever the status changes; the journal keeps the status that satisfied it.
function commands:wait_until(fn, options)
  if type(fn) ~= "function" then
    raise("invalid", format("wait_until takes a function of the status; got a %s", type(fn)))
  end
  return command("wait_until", self, {}, options, fn)
end

function commands:log(text, fields)
  return command("log", self, { text = tostring(text), fields = fields })
end

function commands:phase(name)
  return command("phase", self, { name = name })
end

function commands:progress(percent, text)
  return command("progress", self, { percent = percent, text = text })
end

--- New = 100%, old = 0; what run returning does as well.
function commands:finish(options)
  command("finish", self, {}, options)
  raw.unwind()
end

function commands:fail(reason)
  return command("fail", self, { reason = tostring(reason == nil and "the strategy said so" or reason) })
end

local function query(name, self, values)
  if self ~= rollout then raise("invalid", format("write rollout:%s(...), with a colon", name)) end
  return finish_command(raw.query(name, values or {}))
end

function commands:replicas() return query("replicas", self) end
function commands:status() return query("status", self) end
function commands:instances(set) return query("instances", self, { set = set }) end
function commands:now() return raw.now() end
function commands:random(...) return lib.math.random(...) end

local fields = { "params", "guards", "workload", "release", "previous", "router", "id" }
local is_field, names = {}, {}
for _, name in ipairs(fields) do
  is_field[name] = true
  names[#names + 1] = name
end
for name in pairs(commands) do names[#names + 1] = name end

setmetatable(rollout, {
  __index = function(_, name)
    if commands[name] then return commands[name] end
    if is_field[name] then return plain[name] end
    if later[name] then
      return function()
        raise("unsupported", format("rollout:%s needs %s, which this engine does not have", name, later[name]))
      end
    end
    local near = type(name) == "string" and raw.nearest(name, names)
    raise("invalid", format("rollout has no '%s'", tostring(name)), near and format("did you mean '%s'?", near) or nil)
  end,
  __newindex = function(_, name)
    raise("invalid", format("rollout.%s cannot be set; keep it in a local variable", tostring(name)))
  end,
  __metatable = false,
})

local known = { "name", "summary", "params", "guards", "needs", "run", "rollback", "doc" }
local is_known = {}
for _, name in ipairs(known) do is_known[name] = true end

local function load(main)
  local chunk = raw.load(main)
  local strategy = chunk(main)
  local function wrong(text, ...) error(format("%s:1: " .. text, main, ...), 0) end
  if type(strategy) ~= "table" then
    wrong("a strategy is a file that returns a table { name =, run = function(rollout, p) ... end }; it returned a %s",
      type(strategy))
  end
  for key in pairs(strategy) do
    if not is_known[key] then
      local near = type(key) == "string" and raw.nearest(key, known)
      wrong("unknown key '%s' of the strategy%s", tostring(key), near and format("; did you mean '%s'?", near) or "")
    end
  end
  if type(strategy.run) ~= "function" then wrong("the strategy has no run = function(rollout, p) ... end") end
  if type(strategy.guards) == "function" then wrong("guards as a function is not supported; give a table") end
  if strategy.rollback ~= nil then wrong("a rollback function is not supported; the engine goes back by itself") end
  return strategy
end

--- What the file declares, without running it.
function prelude.describe(main)
  local strategy = load(main)
  local needs = strategy.needs
  if type(needs) == "string" then needs = { needs } end
  return {
    name = strategy.name, summary = strategy.summary, params = strategy.params, guards = strategy.guards, needs = needs,
  }
end

function prelude.run(main, values)
  local strategy = load(main)
  plain = values
  strategy.run(rollout, values.params)
  commands.finish(rollout)
end

return prelude
