--- Durable mutations per second: the whole engine with 64 requests in flight, and the store alone with 64 requests in
--- each turn, beside plain SQLite, WAL and synchronous=FULL, one row in each commit. Same folder, same run. The ratio
--- is the median over rounds that take all of them one after the other: the speed of a disk changes while it is used.
--- Plain SQLite writes five columns by one prepared statement; a request of the engine validates, writes a workload
--- with all its columns and an event, and answers a Lua task after the commit.
local ctrlplane = require "ctrlplane"
local house = require "spec.support.house"
local plain = require "bench.support.plain"
local testing = assert(require("ctrlplane.core").testing, "this needs a test build (CP_FAILPOINTS)")

local SECONDS, ROUNDS, BATCH, AIM = 1, 5, 64, 5
--- The store, `batch` requests in each turn, each in its own savepoint.
local function ours(path, batch)
  local db = assert(testing.store.open(path))
  local self = {}
  function self.run(first)
    for i = first, first + batch - 1 do
      assert(db:savepoint())
      assert(db:put("instance", { id = "inst_" .. i % 1000, workload_id = "wkl_1", state = "running", generation = i }))
      db:release()
    end
    assert(db:commit())
    return batch
  end
  function self.close() db:close() end
  return self
end

--- The engine with `flight` tasks, each of which updates a workload of its own again and again.
local function engine(path, flight)
  local plane = assert(ctrlplane.open { store = path, provider = "sim" })
  local done, stop = 0, false
  for i = 1, flight do
    local spec = { name = "w" .. i, services = { { name = "app", image = "app" } }, wait = "30s" }
    local web = assert(plane.workloads:create(spec))
    plane:spawn(function()
      local n = 0
      while not stop do
        n = n + 1
        assert(plane.workloads:update(web.id, { labels = { n = tostring(n) } }))
        done = done + 1
      end
    end)
  end
  local self = {}
  function self.run()
    local before = done
    plane:step(0)
    return done - before
  end
  function self.close()
    stop = true
    for _ = 1, 100 do plane:step(0) end
    plane:close()
  end
  return self
end

local folder = house.folder()
local rivals = {
  { name = "plain SQLite, 1 row a commit", plain.open(folder .. "/plain.db") },
  { name = "store, 1 request a turn", ours(folder .. "/one.db", 1) },
  { name = ("store, %d requests a turn"):format(BATCH), ours(folder .. "/many.db", BATCH) },
  { name = ("engine, %d requests in flight"):format(BATCH), engine(folder .. "/engine.db", BATCH) },
}
for round = 1, ROUNDS do
  for _, rival in ipairs(rivals) do
    local start, done = house.now(), 0
    local took
    repeat
      done = done + rival[1].run(done)
      took = house.now() - start
    until took >= SECONDS
    rival[round + 1] = done / took
  end
end
for _, rival in ipairs(rivals) do rival[1].close() end
house.remove(folder)

--- The median over the rounds of value(round).
local function median(value)
  local list = {}
  for round = 1, ROUNDS do list[round] = value(round) end
  table.sort(list)
  return list[math.ceil(ROUNDS / 2)]
end
local function ratio(rival) return median(function(round) return rival[round + 1] / rivals[1][round + 1] end) end

print(("durable mutations per second in %s, medians of %d rounds of %d s"):format(folder:match "^(.*)/", ROUNDS,
  SECONDS))
print(("%-32s %10s %8s"):format("", "per s", "ratio"))
for _, rival in ipairs(rivals) do
  print(("%-32s %10.0f %8.2f"):format(rival.name, median(function(round) return rival[round + 1] end), ratio(rival)))
end
print(("aim for the engine %d times: %s"):format(AIM, ratio(rivals[#rivals]) >= AIM and "met" or "missed"))
