-- ctest: timeout=180
--- fdatasync that fails with EIO in the shipped program (testing plan, row 8): by strace, at the k-th call, once or from
--- then on; then kill -9, then a plain start. No answer is contradicted by what that start finds.
local api = require "spec.support.api"
local house = require "spec.support.house"
local leftovers = require "spec.support.leftovers"
local store = require("ctrlplane.core").testing.store

-- The calls that fail: a few, or CP_CALLS of them from the first (the long size is 60).
local MOST = tonumber(os.getenv "CP_CALLS")
local function calls(few)
  if not MOST then return few end
  local all = {}
  for k = 1, MOST do all[k] = k end
  return all
end

local function can_trace()
  local ok, code = pcall(house.run, { "/usr/bin/strace", "-qq", "-o", "/dev/null", "true" })
  return ok and code == 0
end

describe("fdatasync failing in the running engine (row 8)", function()
  local folder, path, engine, client
  before_each(function()
    folder = house.folder()
    path = folder .. "/plane.db"
    client = api.new(path .. ".sock")
  end)
  after_each(function()
    if engine then engine:kill() end
    engine = nil
    leftovers.sweep(folder, path .. ".d")
    house.remove(folder)
  end)

  --- when: strace's, such as "9" or "9+"; nil: no fault. nil when the engine ended by itself.
  local function start(when)
    local argv = { house.program "ctrlplane", "serve", "--store", path }
    if when then -- -D: the engine is our child, strace is not
      argv = { "/usr/bin/strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e",
        "inject=fdatasync:error=EIO:when=" .. when, unpack(argv) }
    end
    engine = house.spawn(argv, {}, { stdout = "/dev/null", stderr = folder .. "/serve.log" })
    return house.wait_for("the engine is ready or gone", function()
      if engine:poll() then return "gone" end
      local status = house.request(path .. ".sock", "/readyz", { timeout = 1 })
      return status and (status == 200 or when) and "ready" -- a fault may strike before it is
    end, 30) == "ready"
  end

  --- Sets the label n to i: "done", "not_done" or "unknown".
  local function set(i)
    local value, _, status, err = client:call("PATCH", "/workloads/w", { labels = { n = tostring(i) } }, 10)
    if value then return "done" end
    if not status then return "unknown" end -- no answer at all
    assert.equal("storage_failed", err.code)
    assert.equal(503, status)
    return err.details and err.details.outcome or "not_done"
  end

  local function label()
    local workload = assert(client:get "/workloads/w")
    return tonumber(workload.labels and workload.labels.n or 0)
  end

  local function kill()
    engine:signal "KILL"
    engine:wait()
    engine:kill()
    engine = nil
  end

  --- A store with one workload that is paused: nothing runs that a spec would leave behind.
  local function prepare()
    assert(start())
    assert(client:post("/workloads", { name = "w", services = { { name = "main", command = { "sleep", "1000" } } } }))
    assert(client:post "/workloads/w/pause")
    house.wait_for("w has no instance", function() return #assert(client:get "/workloads/w/instances").items == 0 end)
    assert.equal("done", set(1))
    kill()
  end

  local function try(when)
    prepare()
    local acked, possible, refused, failures = 1, { [1] = true }, {}, 0
    if start(when) then
      for i = 2, 25 do
        local outcome = set(i)
        if outcome == "done" then
          acked, possible = i, { [i] = true }
        else
          failures = failures + 1
          if outcome == "unknown" then possible[i] = true else refused[i] = true end
          assert.truthy(client:get "/workloads/w") -- reads go on
          if when:find "%+" then break end
        end
      end
    end
    kill()
    assert(start())
    local found = label()
    local context = ("when=%s: acknowledged %d, found %d"):format(when, acked, found)
    assert.is_true(possible[found] == true, context)
    assert.is_nil(refused[found], context .. ", which had been refused for good")
    assert.equal("done", set(100)) -- and it works again
    kill()
    local db = assert(store.open(path))
    assert(db:check())
    for i, event in ipairs(db:each("event", nil, nil, "seq")) do assert.equal(i, event.seq, context) end
    db:close()
    return failures
  end

  it("once: what was refused is not there, what was acknowledged is", function()
    if not can_trace() then return pending "strace cannot trace here" end
    local failures = 0
    for _, k in ipairs(calls { 1, 2, 4, 7, 12 }) do
      failures = failures + try(tostring(k))
      house.remove(folder)
      folder = house.folder()
      path = folder .. "/plane.db"
      client = api.new(path .. ".sock")
    end
    assert.is_true(failures >= 3, failures .. " requests met the fault")
  end)

  it("for ever: callers are told that nobody knows, and readiness says so, until a start finds out", function()
    if not can_trace() then return pending "strace cannot trace here" end
    local failures = 0
    for _, k in ipairs(calls { 2, 3, 5, 9, 14 }) do
      failures = failures + try(k .. "+")
      house.remove(folder)
      folder = house.folder()
      path = folder .. "/plane.db"
      client = api.new(path .. ".sock")
    end
    assert.is_true(failures >= 3, failures .. " requests met the fault")
  end)

  it("while it lasts /readyz is 503 and mutations are refused", function()
    if not can_trace() then return pending "strace cannot trace here" end
    prepare()
    assert(start "4+")
    local outcome
    for i = 2, 20 do
      outcome = set(i)
      if outcome ~= "done" then break end
    end
    assert.equal("unknown", outcome)
    assert.equal(503, (house.request(path .. ".sock", "/readyz", { timeout = 2 })))
    local value, message, status, err = client:call("PATCH", "/workloads/w", { labels = { n = "99" } }, 10)
    assert.is_nil(value)
    assert.equal(503, status)
    assert.equal("storage_failed", err.code, message)
    assert.truthy(client:get "/workloads/w")
  end)
end)
