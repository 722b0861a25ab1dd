-- ctest: timeout=120 labels=process
--- Somebody else at the running engine's store (faults, E1 a and b): a shell is refused, and neither it nor 2,000
--- mutations make the engine stall or its journal grow.
local api = require "spec.support.api"
local house = require "spec.support.house"
local leftovers = require "spec.support.leftovers"
local store = require("ctrlplane.core").testing.store

local MUTATIONS = tonumber(os.getenv "CP_MUTATIONS") or 2000 -- the long size is 20,000

describe("the store of a running engine", function()
  local folder, path, engine, client
  before_each(function()
    folder = house.folder()
    path = folder .. "/plane.db"
    client = api.new(path .. ".sock")
    engine = house.spawn({ house.program "ctrlplane", "serve", "--store", path }, {}, { stdout = "/dev/null", stderr = folder .. "/serve.log" })
    house.wait_for("the engine is ready", function()
      if engine:poll() then error(house.read(folder .. "/serve.log")) end
      return client:ready()
    end)
    assert(client:post("/workloads", { name = "w", services = { { name = "main", command = { "sleep", "1000" } } } }))
    house.wait_for("w is active", function() return client:get("/workloads/w").state == "active" end)
  end)
  after_each(function()
    client:delete "/workloads/w"
    pcall(house.wait_for, "w is gone", function() return #client:all "/workloads" == 0 end, 10)
    engine:signal "TERM"
    engine:wait(10)
    engine:kill()
    leftovers.sweep(folder, path .. ".d")
    house.remove(folder)
  end)

  --- Milliseconds that an answer to a health question took: the loop was free.
  local function ping()
    local start = house.now()
    assert.equal(200, (house.request(path .. ".sock", "/healthz", { timeout = 5 })))
    return (house.now() - start) * 1000
  end

  it("refuses another program at once, also for reading, while mutations and reads go on (E1 a)", function()
    local slowest = 0
    for i = 1, 50 do
      for _, sql in ipairs { "BEGIN IMMEDIATE", "BEGIN; SELECT count(*) FROM workload", "DELETE FROM event", "PRAGMA journal_mode = DELETE" } do
        local rows, message = store.sql(path, sql)
        assert.is_nil(rows, sql)
        assert.matches("locked", message)
      end
      assert(client:patch("/workloads/w", { labels = { n = tostring(i) } }))
      for _ = 1, 10 do assert.equal(tostring(i), client:get("/workloads/w").labels.n) end
      slowest = math.max(slowest, ping())
    end
    assert.is_true(slowest < 1000, slowest .. " ms") -- 200 ms on a machine of its own
  end)

  it("keeps its journal under 16 MiB through many mutations, and everything is whole (E1 b)", function()
    local most = 0
    for i = 1, MUTATIONS do
      assert(client:patch("/workloads/w", { labels = { n = tostring(i) } }))
      if i % 100 == 0 then
        store.sql(path, "BEGIN; SELECT count(*) FROM event") -- somebody would hold a read transaction
        most = math.max(most, assert(require("posix.sys.stat").stat(path .. "-wal")).st_size)
      end
    end
    assert.is_true(most > 0 and most <= 16 * 2 ^ 20, most .. " bytes")
    engine:signal "KILL"
    engine:wait()
    local db = assert(store.open(path))
    assert(db:check())
    assert.equal(tostring(MUTATIONS), db:each("workload")[1].labels.n)
    for i, event in ipairs(db:each("event", nil, nil, "seq")) do assert.equal(i, event.seq) end
    db:close()
  end)
end)
