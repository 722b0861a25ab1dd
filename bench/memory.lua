--- What replicas cost while nothing happens: resident memory per instance at 10,000 instances of the sim provider (the
--- store is a file, so that rows are not counted twice), and CPU with 1,000 replicas on the real clock.
local ctrlplane = require "ctrlplane"
local house = require "spec.support.house"

local MANY, FEW, IDLE = 10000, 1000, 20
local AIM_BYTES, AIM_CPU = 6 * 1024, 0.5
local folder = house.folder()

local function resident()
  collectgarbage()
  collectgarbage()
  return assert(tonumber(house.read("/proc/self/status"):match "VmRSS:%s+(%d+) kB")) * 1024
end

local function open(name, clock)
  return assert(ctrlplane.open { store = folder .. "/" .. name .. ".db", provider = "sim", clock = clock })
end

local function create(plane, replicas)
  local web = assert(plane.workloads:create {
    name = "web", replicas = replicas, services = { { name = "app", image = "app" } }, wait = "1h",
  })
  assert(web.ready_replicas == replicas, web.ready_replicas)
end

local function memory()
  local plane = open("memory", "virtual")
  local before = resident()
  create(plane, MANY)
  plane.clock:advance "1m"
  local bytes = (resident() - before) / MANY
  plane:close()
  return bytes
end

local function idle_cpu()
  local plane = open("idle", "real")
  create(plane, FEW)
  plane:sleep(2) -- what the start left to do
  local cpu = os.clock()
  plane:sleep(IDLE)
  cpu = (os.clock() - cpu) / IDLE * 100
  plane:close()
  return cpu
end

local function row(what, value, aim)
  print(("%-60s %10.2f %8.1f %s"):format(what, value, aim, value <= aim and "met" or "missed"))
end

local bytes, cpu = memory(), idle_cpu()
house.remove(folder)
print(("%-60s %10s %8s"):format("", "measured", "aim"))
row(("resident KiB per instance at %d"):format(MANY), bytes / 1024, AIM_BYTES / 1024)
row(("idle CPU with %d replicas, %% of a core over %d s"):format(FEW, IDLE), cpu, AIM_CPU)
