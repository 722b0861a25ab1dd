local core = require "ctrlplane.core"
local ctrlplane = require "ctrlplane"
local lab = require "spec.support.lab"

--- What creates a workload.
local function spec_of(name) return { name = name or "web", services = { { name = "app", image = "app" } } } end

describe("a task", function()
  local plane, clock
  before_each(function() plane, clock = lab.open { seed = 7 } end)
  after_each(function() lab.close(plane) end)

  it("suspends where plain code would wait, and runs side by side with others", function()
    local seen = {}
    for i = 3, 1, -1 do
      plane:spawn(function(n)
        plane:sleep(n)
        seen[#seen + 1] = n
      end, i)
    end
    plane:run()
    assert.same({ 1, 2, 3 }, seen)
  end)

  it("does not run before its spawner lets go", function()
    local ran = false
    local task = plane:spawn(function() ran = true end)
    assert.is_false(ran)
    assert.equal("ready", task:status())
    task:wait()
    assert.is_true(ran)
    assert.equal("done", task:status())
  end)

  it("hands its results to everybody who waits, also twice and also late", function()
    local task = plane:spawn(function(a, b)
      plane:sleep "1s"
      return a + b, nil, "three"
    end, 1, 2)
    local other = plane:spawn(function() return task:wait() end)
    assert.same({ 3, nil, "three" }, { task:wait() })
    assert.same({ 3, nil, "three" }, { other:wait() })
    assert.same({ 3, nil, "three" }, { task:wait() })
  end)

  it("answers nil and the error when it failed, with the place and the traceback", function()
    local task = plane:spawn(function()
      plane:sleep(1)
      error "boom"
    end)
    local result, err = task:wait()
    assert.is_nil(result)
    assert.equal("script_error", err.code)
    assert.matches("task_spec.lua:%d+: boom", err.message)
    assert.matches("stack traceback", err.details.traceback)
  end)

  it("hands on an error of the engine as it is, with the line that gave up", function()
    local task = plane:spawn(function() error(select(2, plane.workloads:get "nobody")) end)
    local _, err = task:wait()
    assert.equal("not_found", err.code)
    assert.matches("task_spec.lua:%d+$", err.where)
  end)

  it("that fails unseen is raised by plane:run", function()
    plane:spawn(function() error "lost" end)
    local ok, err = pcall(plane.run, plane)
    assert.is_false(ok)
    assert.matches("lost", err)
  end)

  it("is cancelled where it waits: the call answers `cancelled`, and it may clean up", function()
    local cleaned
    local task = plane:spawn(function()
      local ok, err = plane:sleep "1h"
      cleaned = err.code
      return ok
    end)
    plane:step()
    assert.equal("waiting", task:status())
    task:cancel()
    task:wait()
    assert.equal("cancelled", cleaned)
  end)

  it("that is cancelled before it started never starts", function()
    local ran = false
    local task = plane:spawn(function() ran = true end)
    task:cancel()
    local _, err = task:wait()
    assert.equal("cancelled", err.code)
    assert.is_false(ran)
  end)

  it("refuses the completion of a wait that it no longer waits for", function()
    local task = plane:spawn(function()
      local first = select(2, plane.workloads:list { timeout = 0 })
      local slept = plane:sleep "1s"
      return first and first.code, slept
    end)
    local code, slept = task:wait()
    assert.is_true(code == nil or code == "timeout")
    assert.is_true(slept)
  end)

  it("may wait in pcall, in an iterator and in a metamethod", function()
    local object = setmetatable({}, { __index = function(_, key) plane:sleep(1) return key end })
    local function numbers(_, i) plane:sleep(1) return i < 3 and i + 1 or nil end
    local function work()
      local sum = 0
      for i in numbers, nil, 0 do sum = sum + i end
      return select(2, pcall(function() return object.name .. sum end))
    end
    assert.equal("name6", plane:run(work))
  end)

  it("is told where it cannot wait", function()
    local function in_coroutine()
      local _, err = coroutine.resume(coroutine.create(function()
        local _ = plane:sleep(1)
      end))
      return err
    end
    assert.matches("task_spec.lua:%d+: sleep cannot wait inside a coroutine of the task's own; .*plane:spawn",
      plane:run(in_coroutine))
    local function below_sort()
      return select(2, pcall(table.sort, { 2, 1 }, function(a, b)
        plane:sleep(1)
        return a < b
      end))
    end
    assert.matches("task_spec.lua:%d+: sleep cannot wait below a C function such as table.sort", plane:run(below_sort))
  end)

  it("is what to use instead of waiting in a callback of the engine, says the error there", function()
    local said
    core.testing.failpoint(function()
      said = said or select(2, pcall(function() local _ = plane:sleep(1) end))
      said = said .. " " .. select(2, pcall(plane.close, plane))
      return false
    end)
    assert(plane.workloads:create(spec_of()))
    core.testing.failpoint(nil)
    assert.matches("sleep cannot wait inside a callback of the engine; do it in a task: plane:spawn", said)
    assert.matches("a plane cannot be closed inside a callback", said)
  end)

  it("that calls coroutine.yield by itself fails, for nobody would resume it", function()
    local _, err = plane:spawn(function() coroutine.yield(1) end):wait()
    assert.matches("nobody resumes it", err.message)
  end)

  it("cannot wait for itself, nor turn the loop that runs it", function()
    local task
    task = plane:spawn(function() task:wait() end)
    assert.matches("cannot wait for itself", select(2, task:wait()).message)
    assert.matches("plane:run turns the loop",
      plane:run(function() return select(2, pcall(plane.run, plane, print)) end))
    assert.matches("the clock cannot be moved while it is moving",
      plane:run(function() return select(2, pcall(clock.advance, clock, "1s")) end))
  end)

  it("has a limit to its patience: `timeout` everywhere", function()
    local task = plane:spawn(function() return plane:sleep "1h" end)
    local result, err = task:wait { timeout = "2s" }
    assert.is_nil(result)
    assert.equal("timeout", err.code)
    assert.equal("waiting", task:status())
    task:cancel()
    task:wait()
  end)

  it("keeps what it needs alive: closures, the plane, the task itself", function()
    local result
    do
      local box = { value = 41 }
      plane:spawn(function()
        plane:sleep "1s"
        result = box.value + 1
      end)
    end
    plane:step()
    collectgarbage()
    collectgarbage()
    clock:advance "1s"
    assert.equal(42, result)
  end)

  it("wakes at its time when the clock is moved far", function()
    local times = {}
    local start = clock:now()
    local task = plane:spawn(function()
      for i = 1, 3 do
        plane:sleep "10s"
        times[i] = clock:now() - start
      end
    end)
    clock:advance "1h"
    assert.same({ 10, 20, 30 }, times)
    task:wait()
  end)
end)

describe("two planes in one program", function()
  it("have times, tasks and stores of their own", function()
    local a, clock_a = lab.open { seed = 1 }
    local b, clock_b = lab.open { seed = 2 }
    local before = clock_b:now()
    clock_a:advance "1h"
    assert.equal(before, clock_b:now())
    local order = {}
    local task = a:spawn(function()
      b:sleep "1m"
      order[#order + 1] = "b"
      a:sleep "1s"
      order[#order + 1] = "a"
    end)
    task:wait()
    assert.same({ "b", "a" }, order)
    assert.is_true(clock_b:now() - before >= 60)
    lab.workload(a, { name = "only-a" })
    assert.equal(1, assert(a.workloads:list {}).total)
    assert.equal(0, assert(b.workloads:list {}).total)
    lab.close(a)
    lab.close(b)
  end)

  it("can be opened and closed by a task", function()
    local plane = lab.open()
    local total = plane:run(function()
      local inner = assert(ctrlplane.open { store = ":memory:", provider = "sim", clock = "virtual" })
      local list = assert(inner.workloads:list {})
      inner:close()
      return list.total
    end)
    assert.equal(0, total)
    lab.close(plane)
  end)
end)

describe("closing a plane", function()
  local function open() return assert(ctrlplane.open { store = ":memory:", provider = "sim", clock = "virtual" }) end

  it("answers `cancelled` to whatever is in flight, and lets tasks see it", function()
    local plane = open()
    local codes = {}
    plane:spawn(function() codes.sleep = select(2, plane:sleep "1h").code end)
    plane:spawn(function()
      local w = assert(plane.workloads:create(spec_of()))
      codes.call = select(2, plane.workloads:create { name = "slow", services = w.services, wait = "1h" }).code
    end)
    plane:spawn(function() codes.stream = select(2, plane.events:stream({}):next()).code end)
    for _ = 1, 3 do plane:step() end
    assert.same({ tasks = 3, calls = 3, streams = 1 }, plane:pending())
    plane:close()
    assert.same({ sleep = "cancelled", stream = "cancelled", call = "cancelled" }, codes)
    assert.has_error(function() plane:step() end, "this plane is closed")
  end)

  it("is clean with fifty calls in flight, in whatever order things are collected", function()
    for round = 1, 4 do
      local plane = open()
      for i = 1, 50 do
        plane:spawn(function()
          plane.workloads:create(spec_of("w" .. i))
          plane:sleep(i)
        end)
      end
      for _ = 1, round % 4 do plane:step() end
      if round % 2 == 0 then plane:close() end
      plane = nil
      collectgarbage()
    end
  end)

  it("twice is closing once; what comes later raises", function()
    local plane = open()
    local workloads = plane.workloads
    plane:close()
    plane:close()
    assert.matches("this plane is closed", select(2, pcall(workloads.list, workloads)))
    assert.equal("plane (closed)", tostring(plane))
  end)

  it("says what failed unseen instead of losing it", function()
    local plane = open()
    local task = plane:spawn(function() error "lost" end)
    plane:step()
    assert.equal("failed", task:status())
    assert.matches("lost", select(2, task:wait()).message)
    plane:close()
  end)
end)

describe("a spec that leaves something open", function()
  it("fails: a task", function()
    local plane = lab.open()
    plane:spawn(function() plane:sleep "1h" end)
    plane:step()
    assert.has_error(function() lab.close(plane) end)
  end)

  it("fails: a stream", function()
    local plane = lab.open()
    local stream = assert(plane.events:stream {})
    assert.has_error(function() lab.close(plane) end)
    stream:close()
  end)
end)

describe("a script", function()
  it("may wait in coroutines of its own, and runs until its tasks have ended", function()
    -- In a program of its own: it changes the coroutine library.
    local source = [[
      local ctrlplane = require "ctrlplane"
      local plane = assert(ctrlplane.open { store = ":memory:", provider = "sim", clock = "virtual" })
      print(ctrlplane.run_script(function(name)
        local function produce()
          for i = 1, 3 do
            plane:sleep(1)
            coroutine.yield(i)
          end
        end
        local sum = 0
        for i in coroutine.wrap(produce) do sum = sum + i end
        local nested = coroutine.wrap(function()
          local inner = coroutine.create(function(x) plane:sleep(1) return x, plane.workloads:list{}.total end)
          return select(2, coroutine.resume(inner, 7))
        end)
        plane:spawn(function() plane:sleep(5) print "late" end)
        print(select("#", coroutine.resume(coroutine.create(function() end))))
        print(pcall(coroutine.wrap(function() plane:sleep(1) error "inside" end)))
        return name, sum, nested()
      end, "script"))
      plane:close()
    ]]
    local path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write(source)
    file:close()
    local pipe = assert(io.popen((os.getenv "CTRLPLANE_PRELOAD" and "LD_PRELOAD='" .. os.getenv "CTRLPLANE_PRELOAD"
      .. "' " or "") .. "luajit " .. path .. " 2>&1"))
    local output = pipe:read "*a"
    pipe:close()
    os.remove(path)
    local lines = {}
    for line in output:gmatch "[^\n]+" do lines[#lines + 1] = line end
    assert.equal("1", lines[1])
    assert.matches("^false\t.*inside$", lines[2])
    assert.equal("late", lines[3])
    assert.equal("script\t6\t7", lines[4]:match "^script\t6\t7" or output)
  end)

  it("leaves the coroutine library of a host program alone", function()
    assert.equal("C", debug.getinfo(coroutine.resume).what)
    assert.equal("C", debug.getinfo(coroutine.wrap).what)
  end)
end)
