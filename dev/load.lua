--- Asks the replicas of a workload for / again and again, and counts: dev/quickstart's witness that they never stopped
--- serving. Learns where they are from the engine's socket; while the engine is down it goes on with what it knows.
---   luajit dev/load.lua SOCKET WORKLOAD STOP-FILE   until the file exists; then prints what it saw
local house = require "spec.support.house"
local dkjson = require "dkjson"

local socket, workload, stop_file = arg[1], arg[2], arg[3]
local endpoints, known_at = {}, 0
local asked, second, unanswered, versions = 0, 0, 0, {}

local function learn()
  known_at = house.now()
  local status, body = house.get(socket, ("/v1/workloads/%s/instances"):format(workload), { timeout = 1 })
  local list = status == 200 and dkjson.decode(body)
  if not list then return end
  local found = {}
  for _, instance in ipairs(list.items or list) do
    if instance.ready and instance.endpoints and instance.endpoints[1] then
      found[#found + 1] = instance.endpoints[1].port
    end
  end
  if #found > 0 then endpoints = found end
end

-- One request, asked of one replica after another until one answers.
local function ask()
  asked = asked + 1
  for try = 1, #endpoints do
    local port = endpoints[(asked + try) % #endpoints + 1]
    local status, body = house.get(port, "/", { timeout = 2 })
    if status == 200 then
      local version = body:match "^hello (%S+)"
      versions[version] = (versions[version] or 0) + 1
      if try > 1 then second = second + 1 end
      return
    end
  end
  unanswered = unanswered + 1
end

while not house.exists(stop_file) do
  if house.now() - known_at > 0.2 then learn() end
  if #endpoints > 0 then ask() end
  house.sleep(0.01)
end

local parts = {}
for version, count in pairs(versions) do parts[#parts + 1] = ("%d by %s"):format(count, version) end
table.sort(parts)
print(("%d requests: %s; %d asked a second replica; %d unanswered"):format(asked, table.concat(parts, ", "), second,
  unanswered))
os.exit(unanswered == 0 and asked > 0 and 0 or 1)
