--- What a contained script can reach: a whitelist, built on counted primitives. Everything here is the same in every
--- run: `pairs` is sorted, `random` seeded, no address, time or file is reachable.
--- Must not know rollouts; the host gives it the primitives and nothing else.
local raw = ...

local getmetatable, setmetatable, rawget, rawset, rawequal = getmetatable, setmetatable, rawget, rawset, rawequal
local type, select, tonumber, ipairs, unpack, error, assert = type, select, tonumber, ipairs, unpack, error, assert
local plain_pcall, plain_tostring = pcall, tostring
local create, running, status = coroutine.create, coroutine.running, coroutine.status
local format, byte, char, sub, len = string.format, string.byte, string.char, string.sub, string.len
local floor = math.floor

local lib = {}
raw.lib = lib
raw.base = { type = type, error = error, ipairs = ipairs, setmetatable = setmetatable, rawget = rawget }

--- Tables and functions print as their type: an address would differ from run to run.
function lib.tostring(...)
  local value = ...
  if select("#", ...) == 0 then error("tostring takes a value", 2) end
  local meta = getmetatable(value)
  if type(meta) == "table" and type(value) ~= "string" then
    local convert = rawget(meta, "__tostring")
    if convert then return convert(value) end
  end
  local kind = type(value)
  if kind == "table" or kind == "function" or kind == "thread" or kind == "userdata" then return kind end
  return plain_tostring(value)
end
local tostring = lib.tostring

function lib.pairs(t)
  if type(t) ~= "table" then error("pairs takes a table; got a " .. type(t), 2) end
  local keys, i = raw.keys(t), 0
  return function()
    while true do
      i = i + 1
      local key = keys[i]
      if key == nil then return nil end
      local value = rawget(t, key)
      if value ~= nil then return key, value end
    end
  end, t, nil
end

local function paid(ok, ...)
  if not ok then raw.caught() end
  return ok, ...
end

--- Unwinding takes as long as many instructions, wherever the error came from: it is paid for when it is caught.
function lib.pcall(...) return paid(plain_pcall(...)) end
local pcall = lib.pcall

--- The handler runs after the unwinding: one that ran in it would not be counted while the script is being ended.
local function handled(handler, ok, ...)
  if ok then return true, ... end
  return false, handler(...)
end

function lib.xpcall(fn, handler, ...)
  return handled(handler, pcall(fn, ...))
end

--- Weak tables and finalizers would show when memory is collected.
function lib.setmetatable(t, meta)
  if type(meta) == "table" and (rawget(meta, "__mode") ~= nil or rawget(meta, "__gc") ~= nil) then
    error("a metatable with __mode or __gc is refused: what it does depends on when memory is collected", 2)
  end
  return setmetatable(t, meta)
end

--- Strings.
local function text(value, position, name)
  local kind = type(value)
  if kind == "number" then return plain_tostring(value) end
  if kind ~= "string" then
    local got = value == nil and "no value" or kind
    error(format("bad argument #%d to '%s' (string expected, got %s)", position, name, got), 3)
  end
  return value
end

local function gmatch(subject, pattern)
  subject, pattern = text(subject, 1, "gmatch"), text(pattern, 2, "gmatch")
  local position = 1
  local function step(first, last, ...)
    if not first then
      position = len(subject) + 2
      return nil
    end
    position = last < first and first + 1 or last + 1
    return ...
  end
  return function() return step(raw.search(subject, pattern, position, false)) end
end

local function replacement(with, kind, whole, ...)
  if kind == "function" then return with(...) end
  if kind == "table" then return with[(...)] end
  local captures = { ... }
  local out, position = {}, 1
  while true do
    local at = raw.find(with, "%", position, true)
    if not at then break end
    out[#out + 1] = sub(with, position, at - 1)
    local digit = sub(with, at + 1, at + 1)
    if digit == "0" then
      out[#out + 1] = whole
    elseif raw.find(digit, "%d") then
      local capture = captures[tonumber(digit)]
      if capture == nil then error("invalid capture index in the replacement of gsub", 4) end
      out[#out + 1] = tostring(capture)
    else
      out[#out + 1] = digit
    end
    position = at + 2
  end
  if position == 1 then return with end
  out[#out + 1] = sub(with, position)
  return raw.concat(out)
end

local function gsub(subject, pattern, with, most)
  subject, pattern = text(subject, 1, "gsub"), text(pattern, 2, "gsub")
  local kind = type(with)
  if kind == "number" then with, kind = plain_tostring(with), "string" end
  if kind ~= "string" and kind ~= "table" and kind ~= "function" then
    error("bad argument #3 to 'gsub' (string/function/table expected, got " .. kind .. ")", 2)
  end
  local out, position, count, size = {}, 1, 0, len(subject)
  local function take(first, last, ...)
    if not first then return false end
    count = count + 1
    local whole = sub(subject, first, last)
    local value = replacement(with, kind, whole, ...)
    if value == nil or value == false then
      value = whole
    elseif type(value) ~= "string" and type(value) ~= "number" then
      error("invalid replacement value (a " .. type(value) .. ")", 3)
    end
    out[#out + 1] = sub(subject, position, first - 1)
    out[#out + 1] = value
    position = last + 1
    if last < first then -- an empty match: the next character stays
      out[#out + 1] = sub(subject, first, first)
      position = first + 1
    end
    return true
  end
  local anchored = sub(pattern, 1, 1) == "^"
  most = most or size + 1
  while count < most and position <= size + 1 do
    if not take(raw.search(subject, pattern, position, true)) or anchored then break end
  end
  out[#out + 1] = sub(subject, position)
  return raw.concat(out), count
end

local function printable(...)
  local values = { ... }
  for i = 1, select("#", ...) do
    local kind = type(values[i])
    if kind ~= "string" and kind ~= "number" then values[i] = tostring(values[i]) end
    raw.charge(values[i])
  end
  return unpack(values, 1, select("#", ...))
end

lib.string = {
  byte = byte, char = char, sub = sub, len = len,
  find = raw.find, match = raw.match, gmatch = gmatch, gsub = gsub,
  rep = raw.rep, reverse = raw.reverse, upper = raw.upper, lower = raw.lower,
  format = function(pattern, ...)
    pattern = text(pattern, 1, "format")
    raw.charge(pattern)
    if raw.find(pattern, "%%[%-+ #0]*%d*%.?%d*p") and raw.find(gsub(pattern, "%%%%", ""), "%%[%-+ #0]*%d*%.?%d*p") then
      error("format has no %p here: an address differs from run to run", 2)
    end
    return format(pattern, printable(...))
  end,
}
local of_strings = getmetatable("")
of_strings.__index = lib.string
of_strings.__metatable = false

--- Lists. A merge sort in Lua, so that a comparison can be interrupted; equal items keep their order.
local function sort(list, less)
  if type(list) ~= "table" then error("bad argument #1 to 'sort' (table expected, got " .. type(list) .. ")", 2) end
  less = less or function(a, b) return a < b end
  local from, to, count = list, {}, #list
  local width = 1
  while width < count do
    for low = 1, count, 2 * width do
      local middle, high = low + width, low + 2 * width
      if middle > count + 1 then middle = count + 1 end
      if high > count + 1 then high = count + 1 end
      local left, right = low, middle
      for i = low, high - 1 do
        if left < middle and (right >= high or not less(from[right], from[left])) then
          to[i], left = from[left], left + 1
        else
          to[i], right = from[right], right + 1
        end
      end
    end
    from, to, width = to, from == list and {} or from, width * 2
  end
  if from ~= list then
    for i = 1, count do list[i] = from[i] end
  end
end

lib.table = { concat = raw.concat, insert = raw.insert, remove = raw.remove, sort = sort }

lib.math = {}
for name in gmatch("abs acos asin atan atan2 ceil cos cosh deg exp floor fmod frexp huge ldexp log log10 max min modf "
  .. "pi pow rad sin sinh sqrt tan tanh", "%w+") do
  lib.math[name] = math[name]
end

function lib.math.random(low, high)
  local value = raw.random()
  if low == nil then return value end
  if high == nil then low, high = 1, low end
  if type(low) ~= "number" or type(high) ~= "number" or low > high then
    error("random takes nothing, a highest number, or a lowest and a highest", 2)
  end
  return floor(low) + floor(value * (floor(high) - floor(low) + 1))
end

lib.bit = {}
for name in gmatch("arshift band bnot bor bswap bxor lshift rol ror rshift tobit tohex", "%w+") do
  lib.bit[name] = bit[name]
end

--- Coroutines: a suspension of the engine's inside one passes through all that are around it.
local function hand_on(co, outcome, ...)
  if outcome == "ours" then return hand_on(co, raw.resume(co, raw.suspend())) end
  return outcome, ...
end

local function resumed(outcome, ...)
  return outcome ~= "error", ...
end

local function unwrapped(outcome, ...)
  if outcome == "error" then error((...), 0) end
  return ...
end

local inside = 0 -- how many coroutines of the script's are around what runs
local function entered(...)
  inside = inside - 1
  return ...
end

lib.coroutine = {
  create = create, status = status, running = running,
  resume = function(co, ...)
    inside = inside + 1
    return resumed(entered(hand_on(co, raw.resume(co, ...))))
  end,
  wrap = function(fn)
    local co = create(fn)
    return function(...)
      inside = inside + 1
      return unwrapped(entered(hand_on(co, raw.resume(co, ...))))
    end
  end,
  yield = function(...)
    if inside == 0 then
      error("yield outside of a coroutine: a strategy waits with rollout:sleep or rollout:wait_until", 2)
    end
    return raw.yield(...)
  end,
}

--- Modules: files next to the script and ctrlplane's helpers, pinned when the deploy was asked for.
local loaded, loading = {}, {}
function lib.require(name)
  if type(name) ~= "string" or not raw.find(name, "^[%w_][%w_%-.]*$") then
    error("require takes the name of a file next to the script, such as \"steps\" or \"lib.steps\"", 2)
  end
  if loaded[name] ~= nil then return loaded[name] end
  if loading[name] then error("require \"" .. name .. "\" inside of itself", 2) end
  local chunk = raw.load((gsub(name, "%.", "/")) .. ".lua")
  if not chunk then
    error("there is no module \"" .. name .. "\": require finds files next to the script, named by a literal text"
      .. " (sent as a text, a script brings them in `files`)", 2)
  end
  loading[name] = true
  local value = chunk(name)
  loading[name] = nil
  if value == nil then value = true end
  loaded[name] = value
  return value
end

local environment = {
  assert = assert, error = error, getmetatable = getmetatable, ipairs = ipairs, next = raw.next, pairs = lib.pairs,
  pcall = lib.pcall, rawequal = rawequal, rawget = rawget, rawset = rawset, require = lib.require, select = select,
  setmetatable = lib.setmetatable, tonumber = tonumber, tostring = lib.tostring, type = type, unpack = unpack,
  xpcall = lib.xpcall, _VERSION = _VERSION,
  bit = lib.bit, coroutine = lib.coroutine, math = lib.math, string = lib.string, table = lib.table,
}
environment._G = environment

local known = raw.keys(environment)
setmetatable(environment, {
  __index = function(_, name)
    local near = type(name) == "string" and raw.nearest(name, known)
    error("'" .. tostring(name) .. "' is not defined" .. (near and "; did you mean '" .. near .. "'?" or ""), 2)
  end,
  __newindex = function(_, name)
    error("assigning the global '" .. tostring(name) .. "'; write local " .. tostring(name), 2)
  end,
  __metatable = false,
})
raw.environment(environment)

-- Nothing of the ordinary library stays behind.
local globals = _G
for _, name in ipairs(raw.keys(globals)) do
  rawset(globals, name, nil)
end
