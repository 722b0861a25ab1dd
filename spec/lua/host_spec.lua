local host = require("ctrlplane.core").testing.rollout

--- Runs the body of a strategy; every command is done at once with `answers[name]`, unless `answer` says otherwise.
local function run(body, options)
  options = options or {}
  local commands = {}
  local source = options.whole and body or "return { name = 'test', run = function(rollout, p)\n" .. body .. "\nend }"
  local function answer(number, name, args, line)
    commands[#commands + 1] = { number = number, name = name, args = args, line = line }
    if options.answer then
      return options.answer(name, args)
    end
    return "done", nil
  end
  local result, err = host.run(source, answer, { params = options.params, seed = options.seed })
  return result, err, commands
end

--- The texts that the body logs.
local function logged(body, options)
  local result, err, commands = run(body, options)
  assert(result, tostring(err))
  assert.is_nil(result.error, tostring(result.error))
  local texts = {}
  for _, command in ipairs(commands) do
    if command.name == "log" then
      texts[#texts + 1] = command.args.text
    end
  end
  return texts
end

local function fails(body, options)
  local result, err = run(body, options)
  return assert(result and result.error or err, "it ended well")
end

describe("the script host", function()
  describe("runs a strategy", function()
    it("gives each command its number, arguments and line, and a last finish", function()
      local result, _, commands = run 'rollout:launch "50%"\nrollout:sleep("3s", { timeout = "1m" })'
      assert.is_nil(result.error)
      assert.same({
        { number = 1, name = "launch", args = { share = "50%" }, line = "test.lua:2" },
        { number = 2, name = "sleep", args = { duration = "3s", timeout = "1m" }, line = "test.lua:3" },
        { number = 3, name = "finish", args = {}, line = "" },
      }, commands)
    end)

    it("suspends for a command and goes on with its answer", function()
      local texts = logged('local at = rollout:replace(2)\nrollout:log("new " .. at.new)', {
        answer = function(name)
          return name == "log" and "done" or "pending", name == "replace" and { new = 2 } or nil
        end,
      })
      assert.same({ "new 2" }, texts)
    end)

    it("raises a command's error as an object that pcall can catch", function()
      local body = [[
        local ok, err = pcall(rollout.launch, rollout, 5)
        rollout:log(tostring(ok) .. " " .. err.code .. " " .. err.where .. " " .. tostring(err))]]
      local texts = logged(body, {
        answer = function(name)
          if name == "launch" then
            return "error", { code = "denied", message = "too many" }
          end
        end,
      })
      assert.same({ "false denied test.lua:2 test.lua:2: too many (denied)" }, texts)
    end)

    it("ends with a command's error that nobody catches, with its place", function()
      local err = fails("rollout:launch(5)", {
        answer = function() return "error", { code = "denied", message = "too many" } end,
      })
      assert.equal("denied", err.code)
      assert.equal("test.lua:2", err.where)
    end)

    it("ends at finish and at the plane's stop, whatever catches there", function()
      local _, _, commands = run "while true do pcall(rollout.finish, rollout) end"
      assert.equal(1, #commands)
      local result = run("while true do pcall(rollout.launch, rollout, 1) end", { answer = function() return "stop" end })
      assert.equal("cancelled", result.error.code)
    end)

    it("asks the function of wait_until when told to, and nothing else", function()
      local body = "local s = rollout:wait_until(function(s) return s.ready > 2 end)\nrollout:log(s.ready)"
      local function answers(ready)
        return function(name)
          if name == "wait_until" then
            return "test", { ready = ready }
          end
        end
      end
      assert.same({ "3" }, logged(body, { answer = answers(3) }))
      assert.equal("timeout", fails(body, { answer = answers(1) }).code)
      local err = fails("rollout:wait_until(function() rollout:sleep(1) end)", { answer = answers(1) })
      assert.matches("sleep inside the function of wait_until", err.message, 1, true)
    end)

    it("lets a suspension pass through coroutines of its own", function()
      local body = [[
        local function batches()
          return coroutine.wrap(function()
            for i = 1, 3 do
              rollout:replace(i)
              coroutine.yield(i)
              for _ = 1, 200000 do end
            end
          end)
        end
        for i in batches() do
          local inner = coroutine.wrap(function() return coroutine.wrap(function() rollout:sleep(i) return i end)() end)
          rollout:log(inner())
        end]]
      assert.same({ "1", "2", "3" }, logged(body, {
        answer = function(name) return name == "log" and "done" or "pending" end,
      }))
    end)

    it("passes errors out of coroutines", function()
      assert.same({ "false x" }, logged [[
        local co = coroutine.create(function() coroutine.yield(1) error("x", 0) end)
        coroutine.resume(co)
        local ok, err = coroutine.resume(co)
        rollout:log(tostring(ok) .. " " .. err)]])
    end)
  end)

  describe("is the same in every run:", function()
    it("pairs and next go in order: numbers, texts, booleans", function()
      assert.same({ "1 2 10 b ba c false true", "1" }, logged [[
        local t, out = { c = 1, b = 1, ba = 1, [10] = 1, [2] = 1, [1] = 1, [true] = 1, [false] = 1 }, {}
        for k in pairs(t) do out[#out + 1] = tostring(k) end
        rollout:log(table.concat(out, " "))
        rollout:log((next(t)))]])
    end)

    it("pairs stands changes of what it walks over", function()
      assert.same({ "a c" }, logged [[
        local t, out = { a = 1, b = 1, c = 1 }, {}
        for k in pairs(t) do out[#out + 1] = k t.b = nil end
        rollout:log(table.concat(out, " "))]])
    end)

    it("random is a function of the seed", function()
      local body = "for _ = 1, 5 do rollout:log(rollout:random(1, 1000000) .. ' ' .. math.random()) end"
      assert.same(logged(body, { seed = "a" }), logged(body, { seed = "a" }))
      assert.are_not.same(logged(body, { seed = "a" }), logged(body, { seed = "b" }))
    end)

    it("now stands still between two commands", function()
      local texts = logged [[
        local a = rollout:now()
        for _ = 1, 100000 do end
        rollout:log(rollout:now() - a)
        rollout:log(rollout:now() - a)]]
      assert.same({ "0", "1" }, texts)
    end)

    it("no address shows", function()
      assert.same({ "table function thread table" }, logged [[
        rollout:log(tostring({}) .. " " .. tostring(pairs) .. " " .. tostring(coroutine.create(pairs)) .. (" %s"):format({}))]])
    end)
  end)

  describe("says where a script is wrong:", function()
    local cases = {
      { "local x = nil\nlocal y = x.y", "test.lua:3", "local y = x.y", "attempt to index local 'x'" },
      { "count = 1", "test.lua:2", "count = 1", "assigning the global 'count'; write local count" },
      { "local n = cuont", "test.lua:2", "local n = cuont", "'cuont' is not defined" },
      { "tabel.insert({}, 1)", "test.lua:2", "tabel.insert({}, 1)", "did you mean 'table'?" },
      { "error('no good')", "test.lua:2", "error('no good')", "no good" },
      { "rollout:lanch(1)", "test.lua:2", "rollout:lanch(1)", "rollout has no 'lanch'", "did you mean 'launch'?" },
      { "rollout.launch(1)", "test.lua:2", "rollout.launch(1)", "with a colon" },
      { "rollout:launch(1, 'x')", "test.lua:2", "rollout:launch(1, 'x')", "options of launch are a table" },
      { "rollout:shift(5)", "test.lua:2", "rollout:shift(5)", "needs a traffic router" },
      { "rollout:bake('1s', { judge = 1 })", "test.lua:2", nil, "option 'judge' of bake needs metrics" },
      { "rollout.params = 1", "test.lua:2", "rollout.params = 1", "cannot be set" },
      { "local function f() error 'deep' end\nlocal function g() f() end\ng()", "test.lua:2", nil, "deep" },
    }
    for _, case in ipairs(cases) do
      it(case[1]:gsub("\n", " "), function()
        local err = fails(case[1])
        assert.equal(case[2], err.where)
        if case[3] then
          assert.equal(case[3], err.details.source_line)
        end
        assert.matches(case[4], tostring(err), 1, true)
        if case[5] then
          assert.equal(case[5], err.hint)
        end
        assert.is_string(err.details.traceback)
      end)
    end

    it("a traceback names the functions of the script only", function()
      local err = fails "local function f() error 'deep' end\nlocal function g() f() f() end\ng() g()"
      assert.matches("test.lua:2: in .-'f'\ntest.lua:3: in .-'g'\ntest.lua:4: in", err.details.traceback)
      assert.is_nil(err.details.traceback:find("library.lua", 1, true))
    end)

    it("a file that does not compile, or returns no strategy", function()
      local files = {
        { "retrun 1", "test.lua:1: " },
        { "return {\n  run = function() foo( end }", "test.lua:2: " },
        { "return 5", "it returned a number" },
        { "return {}", "has no run" },
        { "return { rum = 1 }", "did you mean 'run'?" },
        { "return { run = function() end, params = { a = { type = 'duraton' } } }", "unknown type 'duraton'" },
        { "return { run = function() end, params = { a = { type = 'int', default = 'x' } } }", "params.a" },
        { "while true do end", "cannot be interrupted" },
        { "error 'at load'", "at load" },
        { "\27LJ\2", "compiled code" },
        { "return { run = function() end }\0", "NUL" },
        { "return { run = function() end, name = '\255' }", "not UTF-8" },
        { "rollout:launch(1)", "'rollout' is not defined" },
        { "return require 'nothing'", "there is no module" },
      }
      for _, file in ipairs(files) do
        local result, err = run(file[1], { whole = true })
        assert.is_nil(result, file[1])
        assert.matches(file[2], tostring(err), 1, true)
      end
    end)
  end)

  describe("ends a script that does not end,", function()
    local function killed(name, body, message, options)
      it(name, function()
        local err = fails(body, options)
        assert.equal("script_error", err.code)
        assert.matches(message, err.message, 1, true)
        if not (options and options.no_place) then
          assert.matches("^test.lua:%d+$", err.where or "none")
        end
      end)
    end
    local LONG, MEMORY, UNBROKEN = "50000000 instructions", "16 MiB", "cannot be interrupted"
    killed("an empty loop", "while true do end", LONG)
    killed("a loop that catches its kill", "while true do pcall(function() while true do end end) end", LONG)
    killed("a loop in xpcall whose handler loops", "xpcall(function() while true do end end, function() while true do end end)", LONG)
    killed("a handler that loops", "xpcall(error, function() while true do end end)", LONG)
    it("errors that are caught for ever, in a time that is of an order with a loop's", function()
      for _, body in ipairs { "pcall(error)", "xpcall(error, type)", "pcall(function() return nil .. 1 end)",
        "coroutine.resume(coroutine.create(error))", "pcall(coroutine.wrap(error))" } do
        local began = os.clock()
        local err = fails(("while true do %s end"):format(body))
        assert.matches(LONG, err.message, 1, true)
        assert.is_true(os.clock() - began < 5, body .. " took " .. os.clock() - began .. " s")
      end
    end)
    killed("a coroutine that loops", "coroutine.wrap(function() while true do end end)()", LONG)
    killed("coroutines that are caught", "while true do pcall(coroutine.wrap(function() while true do end end)) end", LONG)
    killed("coroutines resumed for ever", "while true do coroutine.resume(coroutine.create(function() end)) end", LONG)
    killed("a metamethod that loops", "local t = setmetatable({}, { __index = function() while true do end end }) return t.x .. 1", LONG)
    killed("a comparison that loops", "table.sort({ 3, 2, 1 }, function() while true do end end)", LONG)
    killed("a replacement that loops", "local s = ('x'):gsub('x', function() while true do end end) return s .. 1", LONG)
    killed("an iterator that loops", "for _ in function() while true do end end do end", LONG)
    killed("a __tostring that loops", "local s = ('%s'):format(setmetatable({}, { __tostring = function() while true do end end })) return s .. 1", LONG)
    killed("a pattern that backtracks", "local s = ('a'):rep(2000):find(('.-'):rep(8) .. 'b') return s .. 1", UNBROKEN)
    killed("many dear patterns", "while true do local _ = ('a'):rep(60):match '.-.-.-b' end", LONG)
    killed("the same in pcall", "while true do pcall(string.find, ('a'):rep(2000), ('.-'):rep(8) .. 'b') end", UNBROKEN)
    killed("gmatch over nothing for ever", "while true do for _ in ('aaa'):gmatch '' do end end", LONG)
    killed("a full table", "local t = {} while true do t[#t + 1] = { 1, 2, 3 } end", MEMORY)
    killed("a full table, caught", "local t = {} while true do pcall(function() while true do t[#t + 1] = { 1 } end end) end", MEMORY)
    killed("a text that doubles", "local s = 'x' while true do s = s .. s end", MEMORY)
    killed("a text that doubles, caught", "local s = 'x' while true do pcall(function() while true do s = s .. s end end) end", MEMORY)
    killed("many texts", "local t = {} for i = 1, 1e6 do t[i] = ('x'):rep(1000) .. i end", MEMORY)
    killed("many closures", "local f = function() end for i = 1, 1e7 do local g = f f = function() return g, i end end", MEMORY)
    killed("many coroutines", "local t = {} while true do t[#t + 1] = coroutine.create(function() end) end", MEMORY)
    killed("concat of a large list", "local t = {} for i = 1, 60 do t[i] = ('x'):rep(500000) end local s = table.concat(t) return s .. 1", MEMORY)
    killed("a large gsub", "local s = ('x'):rep(1000000) while true do s = s:gsub('x', 'xx') end", "instructions")

    it("endless recursion", function()
      local err = fails "local function f() return 1 + f() end f()"
      assert.matches("stack overflow", err.message, 1, true)
      assert.equal("test.lua:2", err.where)
    end)

    it("an error whose metamethods loop or raise, without running them", function()
      for _, act in ipairs { "while true do end", "error 'again'", "rollout:launch(1)" } do
        local err = fails(("local mt = {} mt.__index = function() %s end mt.__tostring = mt.__index mt.__len = mt.__index "
          .. "error(setmetatable({ code = 'denied', message = 'mine' }, mt))"):format(act))
        assert.same({ "denied", "mine" }, { err.code, err.message })
        err = fails(("error(setmetatable({}, { __index = function() %s end }))"):format(act))
        assert.equal("script_error", err.code)
      end
    end)

    it("and recursion through C: coroutines, __tostring, gsub, sort, pcall", function()
      local bodies = {
        "local function f() return coroutine.wrap(f)() end f()",
        "local t = setmetatable({}, {}) getmetatable(t).__tostring = function(x) return ('%s'):format(x) end tostring(t)",
        "local function f(s) return (s:gsub('.', f)) end f('x')",
        "local function f() table.sort({ 2, 1 }, f) end f()",
        "local function f() local ok, e = pcall(f) if not ok then error(e, 0) end end f()",
        "local function f() xpcall(f, f) end f() error 'through'",
        "local mt = {} mt.__index = function(t, k) return t[k .. 1] end local x = setmetatable({}, mt).x return x",
      }
      for _, body in ipairs(bodies) do
        assert.truthy(fails(body), body)
      end
    end)

    it("while the loop has its turn, 100,000 instructions each", function()
      local result = run "while true do end"
      assert.is_true(result.turns >= 450, "turns: " .. result.turns)
    end)

    it("but not one that gives commands in between", function()
      local result = run "for _ = 1, 30 do for _ = 1, 9e6 do end rollout:log 'on' end"
      assert.is_nil(result.error)
    end)
  end)

  describe("keeps a script inside:", function()
    -- Each returns what it got hold of; nil, false or an error is what it should get.
    local attempts = {
      "rawget(_G, 'os')", "rawget(_G, 'io')", "rawget(_G, 'debug')", "rawget(_G, 'package')", "rawget(_G, 'jit')",
      "rawget(_G, 'ffi')", "rawget(_G, 'load')", "rawget(_G, 'loadstring')", "rawget(_G, 'loadfile')", "rawget(_G, 'dofile')",
      "rawget(_G, 'collectgarbage')", "rawget(_G, 'newproxy')", "rawget(_G, 'getfenv')", "rawget(_G, 'setfenv')",
      "rawget(_G, 'module')", "rawget(_G, 'gcinfo')", "rawget(_G, 'print')", "rawget(string, 'dump')",
      "rawget(_G, 'os') or os.execute", "io.open('/etc/passwd')", "debug.getregistry()", "load('return 1')",
      "loadstring('\\27LJ')", "dofile('/etc/passwd')", "require 'os'", "require 'io'", "require 'debug'", "require 'ffi'",
      "require 'jit'", "require 'ctrlplane'", "require 'ctrlplane.core'", "require '/etc/passwd'", "require '../secret'",
      "require '..secret'", "require 'a/b'", "require(nil)", "require ''", "string.dump(function() end)", "('x'):dump()",
      "getmetatable('').__index", "getmetatable('x')", "setmetatable('x', {})", "getmetatable(_G)", "setmetatable(_G, {})",
      "getmetatable(rollout)", "setmetatable(rollout, {})", "setmetatable({}, { __mode = 'k' })",
      "setmetatable({}, { __gc = function() end })", "string.format('%p', {})", "('%10p'):format({})", "('%%%p'):format({})",
      "('x'):rep(1e9)", "('x'):rep(2 ^ 53)", "('x'):rep(1e6, 'y' .. ('z'):rep(100))", "pairs({ [{}] = 1 })",
      "next({ [function() end] = 1 })", "table.maxn", "table.foreach", "math.randomseed", "coroutine.yield()",
      "coroutine.resume(coroutine.running())", "coroutine.wrap(coroutine.yield)() and nil", "unpack({}, 1, 1e8)",
      "string.char(-1)", "select(-100)", "rollout.__index", "rollout.run", "rollout['command']", "tostring()",
      "xpcall(error, error) and nil", "('x'):find(('('):rep(40))", "('x'):find('%')", "('x'):find('[a')",
      "('x'):gsub('x', '%9')", "('x'):find(('(a'):rep(300))", "bit.nothing", "_G._G._G.os",
      "string.gsub.x", "rawequal(_G, string.format)", "pcall(rawset, rollout, 'finish', 1) and nil",
    }
    it("at least 60 attempts to get out end in nothing (" .. #attempts .. ")", function()
      assert.is_true(#attempts >= 60)
      for _, attempt in ipairs(attempts) do
        local texts = logged(([[
          local ok, got = pcall(function() return (%s) end)
          rollout:log(ok and got and "got " .. type(got) or "nothing")]]):format(attempt))
        assert.same({ attempt, "nothing" }, { attempt, texts[1] })
      end
    end)

    it("the golden list of what it can reach", function()
      local texts = logged [[
        local seen, out = {}, {}
        local function walk(prefix, t)
          for k, v in pairs(t) do
            local name = prefix .. tostring(k)
            if type(v) == "table" and v ~= _G then walk(name .. ".", v) else out[#out + 1] = name end
          end
        end
        walk("", _G)
        rollout:log(table.concat(out, " "))]]
      local reached = {}
      for name in texts[1]:gmatch "%S+" do
        reached[#reached + 1] = name
      end
      local golden = [[_G _VERSION assert bit.arshift bit.band bit.bnot bit.bor bit.bswap bit.bxor bit.lshift bit.rol bit.ror
        bit.rshift bit.tobit bit.tohex coroutine.create coroutine.resume coroutine.running coroutine.status coroutine.wrap
        coroutine.yield error getmetatable ipairs math.abs math.acos math.asin math.atan math.atan2 math.ceil math.cos
        math.cosh math.deg math.exp math.floor math.fmod math.frexp math.huge math.ldexp math.log math.log10 math.max
        math.min math.modf math.pi math.pow math.rad math.random math.sin math.sinh math.sqrt math.tan math.tanh next pairs
        pcall rawequal rawget rawset require select setmetatable string.byte string.char string.find string.format
        string.gmatch string.gsub string.len string.lower string.match string.rep string.reverse string.sub string.upper
        table.concat table.insert table.remove table.sort tonumber tostring type unpack xpcall]]
      local wanted = {}
      for name in golden:gmatch "%S+" do
        wanted[#wanted + 1] = name
      end
      assert.same(wanted, reached)
    end)

    it("a method is the counted function as well", function()
      for _, name in ipairs { "find", "match", "gmatch", "gsub", "rep", "reverse", "upper", "lower", "format" } do
        assert.same({ "true" }, logged(("rollout:log(tostring(('x').%s == string.%s))"):format(name, name)))
      end
    end)
  end)

  it("has the methods that the stubs for editors name", function()
    local names, prelude = {}, io.open("lua/ctrlplane/prelude.lua"):read "*a"
    for name in io.open("lua/ctrlplane/types/strategy.lua"):read("*a"):gmatch "function rollout:([%w_]+)" do
      names[#names + 1] = name
    end
    local defined = {}
    for name in prelude:gmatch "function commands:([%w_]+)" do
      defined[#defined + 1] = name
    end
    assert.same(defined, names)
  end)

  it("has patterns as Lua has them", function()
    local expressions = {
      "('hello world'):find('o w')", "('hello'):find('l+')", "('hello'):match('(h)(.)')", "('key = value'):match('^(%w+)%s*=%s*(%w+)$')",
      "('abc'):gsub('%w', '%0%0')", "('abc'):gsub('', '-')", "('hello world'):gsub('o', '0', 1)", "('THE (quick) fox'):find('%((%a+)%)')",
      "('f(a(b)c)d'):match('%b()')", "('THE (quick) fox'):gsub('%f[%a]%a+', string.lower)", "('abc'):find('b', 1, true)",
      "('a.b'):find('.', 1, true)", "('abc'):find('', 10)", "('abc'):find('', 4)", "('  x '):match('^%s*(.-)%s*$')", "('x'):match('()x()')",
      "('$name is $age'):gsub('%$(%w+)', { name = 'Bo', age = 7 })", "('abc'):gsub('b', { b = false })", "('a,b,,c'):gsub(',', ';')",
      "('2026-01-02'):match('(%d+)-(%d+)-(%d+)')", "('aaa'):find('a-', 2)", "('aaab'):match('a-b')", "('[x]'):find('[]]')", "('a-z'):match('[a%-z]+')",
      "('abcabc'):match('(abc)%1')", "('x'):rep(3, ',')", "('abc'):reverse():upper()", "('%d'):format(3)", "('abc'):byte(1, -1)", "('äö'):len()",
      "('abc'):find('c', -1)", "('a\\0b'):find('%z')", "('abc'):match('.-$')", "('^a'):match('^^a')", "('xay'):gsub('a', '%%')",
      "table.concat({ 1, 2, 3 }, '-', 2)", "select('#', unpack({ 1, nil, 3 }, 1, 3))", "('abc'):gsub('^a', 'x')", "('aaa'):gsub('^a', 'x')",
    }
    for _, expression in ipairs(expressions) do
      local plain = assert(loadstring("return " .. expression))
      local wanted = {}
      for i, value in ipairs { plain() } do
        wanted[i] = tostring(value)
      end
      local texts = logged(("local t = { %s } for i = 1, #t do t[i] = tostring(t[i]) end rollout:log(table.concat(t, '|'))"):format(expression))
      assert.same({ expression, table.concat(wanted, "|") }, { expression, texts[1] })
    end
    local words = {}
    for word in ("one two  three"):gmatch "%a+" do
      words[#words + 1] = word
    end
    assert.same(words, logged "for word in ('one two  three'):gmatch '%a+' do rollout:log(word) end")
    assert.same({ "a=1", "b=2" }, logged "for k, v in ('a=1, b=2'):gmatch '(%w+)=(%w+)' do rollout:log(k .. '=' .. v) end")
  end)

  it("sorts lists as they are compared, equal ones in their order", function()
    assert.same({ "1 2 3 5 8", "bb aa ccc ddd", "x" }, logged [[
      local t = { 5, 3, 8, 1, 2 }
      table.sort(t)
      rollout:log(table.concat(t, " "))
      t = { "ccc", "bb", "ddd", "aa" }
      table.sort(t, function(a, b) return #a < #b end)
      rollout:log(table.concat(t, " "))
      t = { "x" } table.sort(t) table.sort({})
      rollout:log(t[1])]])
  end)
end)

describe("parameters of strategies", function()
  local declared = {
    pause = { type = "duration", default = "30s", min = "1s", max = "1h" },
    batch = { type = "share", min = 1 },
    weight = { type = "percent" },
    count = { type = "int", min = 0, max = 10 },
    ratio = { type = "number" },
    dry = { type = "bool", default = false },
    name = { type = "string", max = 5 },
    mode = { type = "enum", values = { "fast", "slow" }, default = "slow" },
    steps = { type = "list", of = "percent" },
  }

  it("fill in defaults and turn texts into values", function()
    assert.same({ pause = 30, dry = false, mode = "slow" }, host.params(declared, {}))
    assert.same({
      pause = 90, batch = "25%", weight = 12.5, count = 3, ratio = 0.5, dry = true, name = "abc", mode = "fast",
      steps = { 10, 25, 50 },
    }, host.params(declared, {
      pause = "1m30s", batch = "25%", weight = "12.5%", count = "3", ratio = "0.5", dry = "true", name = "abc", mode = "fast",
      steps = { "10%", 25, 50 },
    }))
    assert.equal(2, host.params(declared, { batch = "2" }).batch)
  end)

  local wrong = {
    { { pauze = 1 }, "params.pauze", "unknown parameter 'pauze'", "did you mean 'pause'?" },
    { { pause = "soon" }, "params.pause", "write a duration like 250ms, 30s or 1h30m" },
    { { pause = "2h" }, "params.pause", "1..3600 seconds" },
    { { pause = true }, "params.pause", "write a duration" },
    { { batch = 0 }, "params.batch", "1..10000" },
    { { batch = "150%" }, "params.batch", "1..100" },
    { { batch = 1.5 }, "params.batch", "a count like 2" },
    { { weight = 101 }, "params.weight", "0..100" },
    { { weight = "many" }, "params.weight", "a percentage" },
    { { count = 1.5 }, "params.count", "a whole number" },
    { { count = 11 }, "params.count", "0..10" },
    { { ratio = "x" }, "params.ratio", "a number" },
    { { dry = "maybe" }, "params.dry", "true or false" },
    { { name = 5 }, "params.name", "a text" },
    { { name = "abcdef" }, "params.name", "0..5" },
    { { mode = "fats" }, "params.mode", "one of fast, slow", "did you mean 'fast'?" },
    { { steps = 5 }, "params.steps", "a list" },
    { { steps = { 10, 200 } }, "params.steps[1]", "0..100" },
  }
  for _, case in ipairs(wrong) do
    local key, value = next(case[1])
    it(("refuse %s = %s"):format(key, type(value) == "table" and "{...}" or tostring(value)), function()
      local values, err = host.params(declared, case[1])
      assert.is_nil(values)
      assert.equal("invalid", err.code)
      assert.equal(case[2], err.field)
      assert.matches(case[3], err.message, 1, true)
      assert.equal(case[4], err.hint)
    end)
  end

  it("are declared correctly or not at all", function()
    local declarations = {
      { { type = "duratoin" }, "did you mean 'duration'?" }, { { type = "list" }, "`of`" }, { { type = "enum" }, "values" },
      { { type = "int", minn = 1 }, "did you mean 'min'?" }, { { type = "int", default = "x" }, "the default" }, { 5, "must be a table" },
      { { type = "int", min = "x" }, "min of params.a is not a int" }, { { type = "duration", max = 1, default = "2s" }, "the default" },
    }
    for _, case in ipairs(declarations) do
      local _, err = host.params({ a = case[1] }, {})
      assert.matches(case[2], tostring(err), 1, true)
    end
  end)
end)
