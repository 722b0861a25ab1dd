--- kill -9 of a real engine, again and again, while three workloads of three replicas run, clients write and a rollout is
--- always under way; and what must hold after each start. Used by spec/process/kill_spec.lua and dev/soak 1.
local api = require "spec.support.api"
local house = require "spec.support.house"

local M = {}
local Run = {}
Run.__index = Run

-- Several commands with pauses between them, so that a kill hits it somewhere else each time.
local STRATEGY = [[
return {
  name = "slow",
  summary = "Step by step.",
  run = function(rollout)
    for _, share in ipairs { "34%", "67%", "100%" } do
      rollout:log("to " .. share)
      rollout:replace(share)
      rollout:sleep "300ms"
    end
  end,
}
]]

local function violated(format, ...) error("invariant: " .. format:format(...), 0) end

--- options: folder (a temporary one), seed, log (a function that gets lines).
function M.new(options)
  local folder = options.folder
  local self = setmetatable({
    folder = folder,
    store = folder .. "/plane.db",
    stop = folder .. "/stop",
    log = options.log or function() end,
    writers = {},
    pids = {},        -- instance id -> pid of its service
    pid_samples = 0,  -- how many times a pid was compared with one seen before
    journals = {},    -- deployment id -> its journal as last seen
    commands = 0,     -- how many journaled commands were compared with what they were before a kill
    in_flight = 0,    -- how many kills came while a command of the rollout was not done
    deployed = 0,
    finished = 0,
    ready_times = {},
    deployments = {}, -- acknowledged ids
  }, Run)
  self.api = api.new(self.store .. ".sock")
  math.randomseed(options.seed)
  return self
end

function Run:start()
  local began = house.now()
  self.engine = house.spawn({ house.program "ctrlplane", "serve", "--store", self.store }, {},
    { stdout = "/dev/null", stderr = self.folder .. "/serve.log", session = true })
  house.wait_for("the engine is ready", function()
    if self.engine:poll() then
      violated("serve ended by itself: %s", house.read(self.folder .. "/serve.log") or "")
    end
    return self.api:ready()
  end, 20)
  self.ready_times[#self.ready_times + 1] = house.now() - began
end

function Run:kill()
  self.engine:signal "KILL"
  local ended = self.engine:wait()
  self.engine:kill()
  if ended.signal ~= 9 then
    violated("serve had ended by itself with %s %d: %s", ended.signal and "signal" or "code", ended.signal or ended.code,
      house.read(self.folder .. "/serve.log") or "")
  end
end

local function service(version)
  return {
    name = "app",
    image = house.program "hello",
    env = { VERSION = version },
    ports = { { name = "http" } },
    health_check = { path = "/healthz", interval = "1s" },
  }
end

function Run:open()
  self:start()
  for _, name in ipairs { "steady", "scaled", "rolled" } do
    assert(self.api:post("/workloads", { name = name, replicas = 3, services = { service "v0" } }))
  end
  for _, name in ipairs { "steady", "scaled", "rolled" } do
    house.wait_for(name .. " is active", function()
      local w = assert(self.api:get("/workloads/" .. name))
      if w.state == "failed" then violated("%s failed: %s", name, tostring(w.message)) end
      return w.state == "active" and w.ready_replicas == 3
    end, 60)
  end
  for _, writer in ipairs { { "labels", "steady" }, { "labels", "rolled" }, { "scale", "scaled" } } do
    local acks = ("%s/acks.%s"):format(self.folder, writer[2])
    self.writers[writer[2]] = {
      acks = acks,
      kind = writer[1],
      process = house.spawn({ "/usr/bin/env", "luajit", "spec/support/writer.lua", writer[1], self.api.socket, writer[2],
        acks, self.stop }, {}),
    }
  end
  self:sample()
end

-- The last number that a writer got an answer for.
function Run:acknowledged(writer)
  local text = house.read(writer.acks) or ""
  if writer.process:poll() and not house.exists(self.stop) then
    violated("a writer ended by itself: %s", writer.process:stderr())
  end
  local refused = text:match "refused[^\n]*"
  if refused then violated("a write was %s", refused) end
  return tonumber(text:match "(%d+)\n[^\n]*$" or "0")
end

-- A rollout is always under way.
function Run:keep_rolling()
  local newest = assert(self.api:get "/workloads/rolled/deployments?limit=1").items[1]
  if newest.state == "pending" or newest.state == "running" then return end
  if newest.state ~= "succeeded" then
    violated("deployment %s ended as %s: %s", newest.id, newest.state,
      newest.error and newest.error.message or tostring(newest.message))
  end
  self.finished = self.finished + 1
  self.deployed = self.deployed + 1
  local d = self.api:post("/workloads/rolled/deploy", {
    services = { { name = "app", env = { VERSION = "v" .. self.deployed } } },
    strategy = "slow",
    source = STRATEGY,
  })
  if d then self.deployments[#self.deployments + 1] = d.id end
end

-- instance id -> list of pids of its service. Images are copied below the store, so others' services are told apart.
function Run:services()
  local found = {}
  for _, process in ipairs(house.with_environment "CTRLPLANE_INSTANCE") do
    if process.exe:find(self.folder, 1, true) == 1 and house.alive(process.pid) then
      found[process.value] = found[process.value] or {}
      table.insert(found[process.value], process.pid)
    end
  end
  return found
end

--- No instance has two services, and none has another process than before.
function Run:sample()
  for id, pids in pairs(self:services()) do
    if #pids > 1 then violated("instance %s runs twice: pids %s", id, table.concat(pids, ", ")) end
    local known = self.pids[id]
    if known and known ~= pids[1] then
      violated("the service of instance %s was pid %d and is pid %d", id, known, pids[1])
    end
    if known then self.pid_samples = self.pid_samples + 1 end
    self.pids[id] = pids[1]
  end
end

-- What was journaled stays, in its order, with its results.
function Run:check_journal(id)
  local journal = assert(self.api:get(("/deployments/%s/journal"):format(id)))
  journal = journal.items or journal
  local before = self.journals[id] or {}
  if #journal < #before then violated("the journal of %s had %d commands, and has %d", id, #before, #journal) end
  for i, command in ipairs(before) do
    local now = journal[i]
    if now.number ~= command.number or now.name ~= command.name or now.line ~= command.line then
      violated("command %d of %s was %s at %s, and is %s at %s", i, id, command.name, tostring(command.line), now.name,
        tostring(now.line))
    end
    if command.done and not now.done then violated("command %d of %s was done, and is not", i, id) end
    self.commands = self.commands + 1
  end
  self.journals[id] = journal
end

--- What must hold once the engine is back.
function Run:check()
  local acknowledged = {} -- read before the engine is asked: what comes later may be newer
  for name, writer in pairs(self.writers) do acknowledged[name] = self:acknowledged(writer) end
  for name, writer in pairs(self.writers) do
    if writer.kind == "labels" then
      local w = assert(self.api:get("/workloads/" .. name))
      local n = tonumber(w.labels and w.labels.n or "0")
      if n < acknowledged[name] then
        violated("write %d of %s was acknowledged; the engine has %d", acknowledged[name], name, n)
      end
    end
  end
  for _, id in ipairs(self.deployments) do
    if not self.api:get("/deployments/" .. id) then violated("deployment %s was acknowledged, and is gone", id) end
  end
  self:sample()
  local live = {}
  for _, name in ipairs { "steady", "scaled", "rolled" } do
    for _, i in ipairs(assert(self.api:get(("/workloads/%s/instances"):format(name))).items) do live[i.id] = i end
  end
  local steady = 0
  for _, i in pairs(live) do
    if i.state == "failed" then violated("instance %s failed: %s", i.name, tostring(i.message)) end
    if i.name:match "^steady" then steady = steady + 1 end
  end
  if steady ~= 3 then violated("steady has %d instances", steady) end
end

--- One cycle: let it work for a while, kill it, start it, look.
function Run:cycle()
  self:keep_rolling()
  local newest = assert(self.api:get "/workloads/rolled/deployments?limit=1").items[1]
  house.sleep(math.random() * 0.5)
  self:check_journal(newest.id)
  local last = self.journals[newest.id][#self.journals[newest.id]]
  if last and not last.done then self.in_flight = self.in_flight + 1 end
  self:kill()
  self:sample()
  self:start()
  self:check()
  self:check_journal(newest.id)
end

--- After the last cycle: everything settles, and nothing is left over.
function Run:finish()
  house.write(self.stop, "")
  for name, writer in pairs(self.writers) do
    writer.process:wait(20)
    writer.last = self:acknowledged(writer)
    if writer.last == 0 then violated("the writer of %s got no answer: %s", name, writer.process:stderr()) end
    writer.process:kill()
  end
  local newest = house.wait_for("the last rollout ends", function()
    local d = assert(self.api:get "/workloads/rolled/deployments?limit=1").items[1]
    return d.state ~= "running" and d.state ~= "pending" and d, d.state
  end, 60)
  if newest.state ~= "succeeded" then violated("the last rollout ended as %s", newest.state) end
  house.wait_for("scaled is whole", function()
    local w = assert(self.api:get "/workloads/scaled")
    return w.state == "active" and w.ready_replicas == w.replica_count
      and #assert(self.api:get "/workloads/scaled/instances").items == w.replica_count
  end, 30)
  self:check()

  local live = {}
  for _, name in ipairs { "steady", "scaled", "rolled" } do
    for _, i in ipairs(assert(self.api:get(("/workloads/%s/instances"):format(name))).items) do live[i.id] = true end
  end
  house.wait_for("only what the engine knows runs", function()
    local running = self:services()
    for id in pairs(running) do
      if not live[id] then return false, "orphan: " .. id end
    end
    for id in pairs(live) do
      if not running[id] then return false, "lost: " .. id end
    end
    return true
  end, 10)

  local events = self.api:all "/events"
  table.sort(events, function(a, b) return a.seq < b.seq end)
  for i = 2, #events do
    if events[i].seq ~= events[i - 1].seq + 1 then
      violated("event seq has a gap: %d, then %d", events[i - 1].seq, events[i].seq)
    end
  end
  local scaled = 0
  local id = assert(self.api:get "/workloads/scaled").id
  for _, event in ipairs(events) do
    if event.type == "workload.scaled" and event.workload_id == id then scaled = scaled + 1 end
  end
  if scaled < self.writers.scaled.last then
    violated("%d scalings were acknowledged, %d have an event", self.writers.scaled.last, scaled)
  end
  self.events = #events
end

--- Takes everything down; also after a failure.
function Run:close()
  house.write(self.stop, "")
  for _, writer in pairs(self.writers) do writer.process:kill() end
  if not self.engine or self.engine:poll() then pcall(self.start, self) end
  for _, name in ipairs { "steady", "scaled", "rolled" } do pcall(self.api.delete, self.api, "/workloads/" .. name, 10) end
  pcall(house.wait_for, "everything is gone", function()
    local list = self.api:get "/workloads"
    return list and #list.items == 0 and next(self:services()) == nil
  end, 20)
  if self.engine then self:kill() end
  -- What the engine could not take down must not outlive the spec.
  for _, pids in pairs(self:services()) do
    for _, pid in ipairs(pids) do os.execute("kill -9 " .. pid) end
  end
end

--- Figures, as one line.
function Run:summary()
  table.sort(self.ready_times)
  local n = #self.ready_times
  local writes = 0
  for _, writer in pairs(self.writers) do writes = writes + (writer.last or 0) end
  return ("%d starts, ready after %.0f ms (median), %.0f ms (p95), %.0f ms (worst); %d acknowledged writes, %d rollouts, "
    .. "%d events, %d comparisons of pids, %d of journaled commands, %d kills within a command"):format(n, self.ready_times[math.ceil(n / 2)] * 1000,
    self.ready_times[math.ceil(n * 0.95)] * 1000, self.ready_times[n] * 1000, writes, self.finished, self.events or 0,
    self.pid_samples, self.commands, self.in_flight)
end

--- The share of starts that were ready within `seconds`.
function Run:ready_within(seconds)
  local within = 0
  for _, time in ipairs(self.ready_times) do
    if time <= seconds then within = within + 1 end
  end
  return within / #self.ready_times
end

return M
