--- The loop: the order of a turn, effects, deferred tasks, timers, the virtual clock, stalls.
local base = require("ctrlplane.core").testing.base
local house = require "spec.support.house"
local poll = require "posix.poll"
local unistd = require "posix.unistd"

describe("the loop", function()
  local loop, log
  local function say(text)
    return function() log[#log + 1] = text end
  end
  local function said()
    local text = table.concat(log, " ")
    log = {}
    return text
  end
  local function open(virtual)
    loop, log = assert(base.loop(virtual)), {}
  end
  before_each(function() open(true) end)
  after_each(function() loop:close() end)

  it("dispatches, decides, commits, acts", function()
    loop:hooks { decide = say "decide", commit = say "commit" }
    loop:timer(1, say "timer")
    loop:start(1, 0)
    loop:defer(say "deferred")
    loop:effect(say "effect")
    assert.equal(3, loop:turn())
    assert.equal("deferred timer decide commit effect", said())
    assert.equal(0, loop:turn())
    assert.equal("decide commit", said())
  end)

  it("drops the effects of a turn whose commit failed, newest first, then calls the reload hook", function()
    local held = false
    loop:hooks { commit = function() return held end, failed = say "failed" }
    loop:effect(say "never", say "dropped 1")
    loop:effect(say "never", say "dropped 2")
    loop:effect(say "never")
    loop:turn()
    assert.equal("dropped 2 dropped 1 failed", said())
    held = true
    loop:turn()
    assert.equal("", said())
  end)

  it("keeps deferred tasks through a failed commit", function()
    local held = false
    loop:hooks {
      commit = function() return held end,
      failed = function() loop:defer(say "deferred") end,
    }
    loop:turn()
    held = true
    loop:turn()
    assert.equal("deferred", said())
  end)

  it("runs what effects and tasks queue in the next turn, behind its commit", function()
    loop:hooks { commit = say "commit" }
    loop:effect(function()
      say "outer"()
      loop:effect(say "inner")
      loop:defer(say "deferred")
    end)
    loop:turn()
    assert.equal("commit outer", said())
    loop:turn()
    assert.equal("deferred commit inner", said())
  end)

  it("takes back the effects since a mark", function()
    loop:effect(say "kept")
    local mark = loop:mark()
    loop:effect(say "never", say "dropped")
    loop:rewind(mark)
    loop:effect(say "later")
    loop:turn()
    assert.equal("dropped kept later", said())
  end)

  it("forgets what an owner queued, also from within the phase that would run it", function()
    local victim, victim_effect = loop:defer(say "never"), loop:effect(say "never", say "never dropped")
    loop:forget(victim)
    loop:forget(victim_effect)
    local second
    loop:defer(function() loop:forget(second) end)
    second = loop:defer(say "never")
    loop:turn()
    assert.equal("", said())
  end)

  it("runs timers by time, then by arming", function()
    for slot, name in ipairs { "a", "b", "c", "d" } do loop:timer(slot, say(name)) end
    loop:start(1, 20)
    loop:start(4, 10)
    loop:start(2, 10)
    loop:start(3, 10)
    loop:start(4, 10) -- armed anew: behind b and c
    assert.equal(10, loop:time().next_timer)
    loop:advance(30)
    assert.equal("b c d a", said())
    assert.equal(-1, loop:time().next_timer)
  end)

  it("holds a thousand timers in order, with stops and new arms between", function()
    math.randomseed(3)
    for slot = 1, 16 do loop:timer(slot, function() log[#log + 1] = slot end) end
    local expected, at, order = {}, {}, {}
    for step = 1, 1000 do
      local slot = math.random(16)
      if math.random(4) == 1 then
        loop:disarm(slot)
        at[slot] = nil
      else
        local ms = math.random(0, 50)
        loop:start(slot, ms)
        at[slot], order[slot] = loop:time().mono + ms, step
      end
      assert.equal(at[slot] ~= nil, loop:armed(slot))
    end
    for slot in pairs(at) do expected[#expected + 1] = slot end
    table.sort(expected, function(a, b) return at[a] < at[b] or (at[a] == at[b] and order[a] < order[b]) end)
    loop:advance(100)
    assert.same(expected, log)
  end)

  it("lets a task free its own timer and others that are due", function()
    loop:timer(1, function()
      say "first"()
      loop:free(1)
      loop:free(2)
    end)
    loop:timer(2, say "never")
    loop:start(1, 5)
    loop:start(2, 5)
    loop:advance(10)
    assert.equal("first", said())
  end)

  it("runs a timer that is armed for now in a later turn", function()
    local rounds = 0
    loop:hooks { commit = say "commit" }
    loop:timer(1, function()
      rounds = rounds + 1
      say "timer"()
      if rounds < 3 then loop:start(1, 0) end
    end)
    loop:start(1, 0)
    loop:turn()
    assert.equal("timer commit", said())
    loop:advance(0)
    assert.equal("timer commit timer commit commit", said())
  end)

  describe("on a virtual clock", function()
    it("stands still until it is moved, and starts in 2026", function()
      assert.same({ wall = 1767225600000, mono = 0, watched = 0, stall_max = 0, next_timer = -1 }, loop:time())
      house.sleep(0.02)
      loop:turn()
      assert.equal(0, loop:time().mono)
      loop:advance(1500)
      assert.equal(1767225601500, loop:time().wall)
      assert.equal(1500, loop:time().watched)
    end)

    it("stands at each timer's time while it runs", function()
      loop:timer(1, function()
        log[#log + 1] = loop:time().mono
        if #log < 3 then loop:start(1, 10) end
      end)
      loop:start(1, 10)
      loop:advance(35)
      assert.same({ 10, 20, 30 }, log)
      assert.equal(35, loop:time().mono)
    end)

    it("jumps to the next timer when there is nothing to do, and no further than the time-out", function()
      local day = 86400000
      loop:timer(1, say "day")
      loop:start(1, day)
      assert.is_false(loop:run(function() return #log > 0 end, day - 1))
      assert.equal(day - 1, loop:time().mono)
      assert.is_true(loop:run(function() return #log > 0 end, 5))
      assert.equal(day, loop:time().mono)
    end)

    it("ends a run in which nothing can ever happen", function()
      assert.is_false(loop:run(function() return false end))
      assert.equal(0, loop:time().mono)
    end)

    it("does not jump while a turn must follow", function()
      local turns = 0
      loop:hooks {
        decide = function() turns = turns + 1 end,
        pending = function() return turns < 5 end,
      }
      loop:timer(1, function() log[#log + 1] = turns end)
      loop:start(1, 1000)
      loop:advance(1000)
      assert.is_true(log[1] >= 5)
    end)

    it("gives the same random numbers from the same seed", function()
      local a, b = loop:random(42), loop:random()
      assert.equal(a, loop:random(42))
      assert.equal(b, loop:random())
      assert.not_equal(a, b)
    end)
  end)

  it("stops a run from a task", function()
    loop:timer(1, function()
      say "stop"()
      loop:stop()
    end)
    loop:start(1, 10)
    assert.is_false(loop:run(nil))
    assert.equal("stop", said())
  end)

  describe("on the real clock", function()
    before_each(function()
      loop:close()
      open(false)
    end)
    local function readable(ms) return poll.rpoll(loop:fd(), ms) == 1 end

    it("waits for a timer, not shorter and not much longer", function()
      loop:timer(1, say "timer")
      local start = loop:time().mono
      loop:start(1, 50)
      assert.is_true(loop:run(function() return #log == 1 end, 5000))
      local took = loop:time().mono - start
      assert.is_true(took >= 50 and took < 1000, tostring(took))
    end)

    it("waits for the time-out of a turn in which nothing happens", function()
      local start = house.now()
      assert.equal(0, loop:turn(1200)) -- longer than its own heartbeat
      local took = house.now() - start
      assert.is_true(took >= 1.19 and took < 2, tostring(took))
    end)

    it("has a descriptor that is readable exactly when there is something to do", function()
      assert.is_false(readable(0))
      loop:timer(1, say "timer")
      loop:start(1, 30)
      assert.is_false(readable(0))
      assert.is_true(readable(2000))
      loop:turn()
      assert.equal("timer", said())
      assert.is_false(readable(0))
      loop:defer(say "deferred")
      assert.is_true(readable(0))
      loop:turn()
      assert.is_false(readable(0))
      loop:effect(function() loop:effect(say "second") end)
      assert.is_true(readable(0))
      loop:turn()
      assert.is_true(readable(0)) -- the second is still to come
      loop:turn()
      assert.is_false(readable(0))
      loop:start(1, 20)
      loop:disarm(1)
      loop:turn()
      assert.is_false(readable(50))
    end)

    it("counts a stall, leaves it out of the watched time, and holds it against no timer", function()
      loop:timer(1, say "timer")
      loop:start(1, 1500)
      local before = loop:time()
      loop:defer(function() house.sleep(2.2) end) -- a task that hangs
      loop:turn()
      local after = loop:time()
      assert.is_true(after.mono - before.mono >= 2200)
      assert.is_true(after.watched - before.watched <= 1100, tostring(after.watched - before.watched))
      assert.is_true(after.stall_max >= 2100, tostring(after.stall_max))
      assert.equal("", said())
      assert.is_true(loop:run(function() return #log == 1 end, 3000))
      assert.is_true(loop:time().watched - before.watched >= 1500)
    end)

    it("does not call it a stall when a foreign loop waits for a timer", function()
      loop:timer(1, say "timer")
      loop:start(1, 1500)
      local before = loop:time()
      loop:turn()
      assert.is_true(readable(5000)) -- as a foreign loop does
      loop:turn()
      assert.equal("timer", said())
      local after = loop:time()
      assert.is_true(after.watched - before.watched >= 1500)
      assert.is_true(after.stall_max < 500, tostring(after.stall_max))
    end)

    it("never steps back", function()
      local last = loop:time()
      for _ = 1, 200 do
        loop:turn()
        local now = loop:time()
        assert.is_true(now.mono >= last.mono and now.watched >= last.watched)
        last = now
      end
    end)
  end)

  it("leaves no descriptor behind", function()
    local function count()
      local n = 0
      for fd = 0, 255 do
        if unistd.access("/proc/self/fd/" .. fd, "f") == 0 then n = n + 1 end
      end
      return n
    end
    loop:close()
    local before = count()
    for _ = 1, 5 do assert(base.loop(false)):close() end
    assert.equal(before, count())
    open(true)
  end)
end)
