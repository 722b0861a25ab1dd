--- Starting processes: 200 replicas of `sleep` until all run (they are ready a second later: a service without a check
--- has to run for one, which nothing makes shorter), beside bare posix_spawn of the same shim with the
--- same child until all run (their folders are made before the clock starts). In turns in the same run; the best round
--- counts. Where others use the processors the ratio is worse than it is: the engine's one thread waits for its turn
--- after every spawn, while 200 shims wait for theirs together.
local ctrlplane = require "ctrlplane"
local house = require "spec.support.house"

local REPLICAS, ROUNDS, AIM = tonumber(os.getenv "CP_REPLICAS") or 200, 3, 2
local folder = house.memory_folder() -- what files cost on a disk differs from run to run

local function shell(command, ...)
  local code, out, err = house.run({ "/bin/sh", "-c", command:format(...) }, {}, { timeout = 120 })
  assert(code == 0, err .. out)
  return out
end

--- Milliseconds of one round of ours; and what the engine told the shim of the first replica.
local function ours(round)
  local store = ("%s/%d.db"):format(folder, round)
  local plane = assert(ctrlplane.open { store = store, provider = "process" })
  local began = house.now()
  local ok, err = pcall(function()
    assert(plane.workloads:create {
      name = "web", replicas = REPLICAS,
      services = { { name = "app", command = { "sleep", "100000" }, stop_timeout = "1s" } },
    })
    local started, stream = 0, plane.events:stream { after = 0, types = { "instance.started" }, timeout = "120s" }
    for _ in stream do
      started = started + 1
      if started == REPLICAS then break end
    end
    stream:close()
  end)
  local took = (house.now() - began) * 1000
  local id = ok and assert(plane.workloads:list_instances "web").items[1].id
  local dir = id and ("%s.d/instances/%s"):format(store, id)
  local run = dir and house.read(dir .. "/app.run")
  plane.workloads:delete("web", { wait = "120s" })
  plane:close()
  assert(ok, err)
  return took, run, id, dir
end

--- The same with nothing but the shim.
local function theirs(round, spawn, run, id, dir)
  local bare = ("%s/bare-%d"):format(folder, round)
  shell("mkdir %s; for i in $(seq 0 %d); do mkdir -p %s/$i/work/app; done", bare, REPLICAS - 1, bare)
  local function plain(text) return (text:gsub("%p", "%%%0")) end
  for i = 0, REPLICAS - 1 do
    local own = run:gsub(plain(dir), plain(("%s/%d"):format(bare, i))):gsub(plain(id), "bare_" .. i)
    house.write(("%s/%d/app.run"):format(bare, i), own)
  end
  return tonumber((shell("%s %s %s %d", spawn, house.program "ctrlplane-shim", bare, REPLICAS)))
end

local best_ours, best_theirs = math.huge, math.huge
local ok, err = pcall(function()
  local spawn = folder .. "/spawn"
  shell("cc -O2 -D_GNU_SOURCE bench/support/spawn.c -o %s", spawn)
  for round = 1, ROUNDS do
    local took, run, id, dir = ours(round)
    best_ours = math.min(best_ours, took)
    best_theirs = math.min(best_theirs, theirs(round, spawn, run, id, dir))
  end
end)
house.remove(folder)
assert(ok, err)

print(("best of %d rounds, in %s"):format(ROUNDS, folder:match "^(.*)/"))
print(("%-38s %10s   %-30s %10s %7s %5s"):format("", "ours", "beside", "theirs", "ratio", "aim"))
local ratio = best_ours / best_theirs
print(("%-38s %7.0f ms   %-30s %7.0f ms %7.2f %5.1f %s"):format(REPLICAS .. " process replicas to running", best_ours,
  "bare posix_spawn of the shim", best_theirs, ratio, AIM, ratio <= AIM and "met" or "missed"))
