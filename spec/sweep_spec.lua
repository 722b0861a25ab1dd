-- Random rollouts in the simulator: sizes, kinds, strategies, faults of the runtime, acts of people, kills of the engine.
-- What must hold is checked at every step, and when the faults stop everything must come to an end.
-- A run is a function of its seed: CP_SWEEP=first-last runs others, CP_SWEEP=n one of them, and says what it did.
-- ctest: timeout=300
local core = require "ctrlplane.core"
local crashes = require "spec.support.crashes"
local house = require "spec.support.house"
local lab = require "spec.support.lab"

local FIRST, LAST = (os.getenv "CP_SWEEP" or "1-100"):match "^(%d+)%-?(%d*)$"
FIRST, LAST = tonumber(FIRST), tonumber(LAST ~= "" and LAST or FIRST)
local VERBOSE = FIRST == LAST

--- Numbers from a seed, the same everywhere.
local function dice(seed)
  local state = seed * 7919 + 17
  local function number() -- [0, 1)
    state = (state * 1103515245 + 12345) % 2147483648
    return state / 2147483648
  end
  for _ = 1, 5 do
    number()
  end
  local die = {}
  function die.chance(p) return number() < p end
  function die.int(low, high) return low + math.floor(number() * (high - low + 1)) end
  function die.pick(list) return list[die.int(1, #list)] end
  function die.rate(p, high) return die.chance(p) and number() * high or 0 end
  return die
end

--- What a run is made of. clean: what is ready stays ready, so whoever takes it away is the engine.
local function scenario_of(die, clean)
  return {
    latency = die.pick { "1ms", "50ms", "2s" },
    jitter = die.pick { 0, 0.3, 1 },
    error_rate = clean and 0 or die.rate(0.3, 0.3),
    old = { start_delay = die.pick { "100ms", "1s" } },
    new = {
      start_delay = die.pick { "100ms", "1s", "8s" },
      ready_delay = die.pick { "0s", "2s" },
      crash_rate = clean and 0 or die.rate(0.3, 0.6),
      crash_after = die.pick { "500ms", "5s" },
      never_ready_rate = die.rate(0.2, 0.5),
      start_failure_rate = die.rate(0.2, 0.5),
    },
    outages = not clean and die.chance(0.3) and { { from = die.int(5, 60), ["for"] = die.int(1, 120) } } or nil,
  }
end

local function deploy_of(die, kind, round, clean)
  local strategy = clean and "rolling" or die.pick { "rolling", "rolling", "recreate" }
  local options = { strategy = strategy, on_failure = die.pick { "rollback", "rollback", "pause", "fail" } }
  options.max_failures = die.pick { 0, 0, 3, 100 }
  options.progress_deadline = die.pick { "20s", "2m" }
  options.min_ready = die.pick { "0s", "3s" }
  options.supersede = die.pick { nil, "reject", "replace", "queue" }
  if strategy == "rolling" and die.chance(0.3) then
    options.params = { batch = die.pick { 1, "30%" }, pause_between = die.pick { "0s", "4s" } }
  end
  if kind == "deployment" and strategy == "rolling" then
    options.surge = die.pick { nil, 1, "25%", "100%" }
    options.unavailable = die.pick { 0, 1, "25%" }
  end
  return lab.good(options, "round " .. round)
end

local function share(value, n, up)
  if type(value) == "number" then
    return value
  end
  local part = tonumber(value:match "^(%d+)%%$") / 100 * n
  return up and math.ceil(part) or math.floor(part)
end

local Run = {}
Run.__index = Run

function Run:say(...)
  if VERBOSE then
    io.stderr:write(("%8.2f "):format(self.world:now()), string.format(...), "\n")
  end
end

--- live and ready instances in the world itself.
function Run:count()
  local web = self.world:counts().workloads.web
  return web and web.live or 0, web and web.ready or 0
end

--- The widest and the narrowest that anything asked for so far allows.
function Run:guards()
  local surge, unavailable = 0, 0
  for _, guard in ipairs(self.asked) do
    local up, down = share(guard.surge, self.most, true), share(guard.unavailable, self.most, false)
    surge, unavailable = math.max(surge, up), math.max(unavailable, up + down == 0 and 1 or down)
  end
  if self.kind == "stateful_set" then
    surge, unavailable = 0, 1
  end
  return self.most + surge, self.least - unavailable
end

--- Guards hold in every moment, whoever was killed. The floor only where nothing but the engine takes instances away.
function Run:guard()
  local live, ready = self:count()
  local ceiling, floor = self:guards()
  assert.is_true(live <= ceiling, ("%d live, the ceiling is %d"):format(live, ceiling))
  if self.clean and self.up then
    assert.is_true(ready >= floor, ("%d ready, the floor is %d"):format(ready, floor))
  end
end

--- What must hold at any moment. Questions are asked only of an engine that lives.
function Run:check()
  assert.equal(0, self.world:counts().twins)
  local deployment = crashes.newest(self.plane, self.web)
  if not crashes.FINAL[deployment.state] then
    local why = assert(self.plane.deployments:why(deployment.id)).items
    deployment = assert(self.plane.deployments:get(deployment.id)) -- it may have ended between the questions
    assert.is_true(#why > 0 or crashes.FINAL[deployment.state], "it is stuck without a reason: " .. deployment.state)
  end
  return deployment
end

--- Lets time pass; kills the engine now and then.
function Run:advance(seconds)
  for _ = 1, seconds * 10 do
    self.clock:advance "100ms"
    self:guard()
    if core.testing.plane.crashed(self.plane) then
      self.deaths = self.deaths + 1
      self:say "the engine was killed"
      local down = self.die.pick { false, false, "1s", "40s" }
      self.plane, self.clock = lab.crash(self.plane, down or nil)
    end
  end
end

--- Something that somebody asks for; whether it is granted is not the question.
function Run:ask(what, call)
  self:say("%s", what)
  local plane = self.plane
  plane:spawn(function() call(plane) end)
  self:advance(1)
end

function Run:act()
  local die, web = self.die, self.web
  local kind = self.clean and die.pick { 1, 2, 3, 4, 5, 10 } or die.int(1, 12)
  if kind <= 3 then
    self.round = self.round + 1
    local options = deploy_of(die, self.kind, self.round, self.clean)
    local recreate = options.strategy == "recreate"
    table.insert(self.asked, {
      surge = options.surge or recreate and 0 or "25%",
      unavailable = options.unavailable or recreate and "100%" or 0,
    })
    self:ask("deploy " .. options.strategy, function(plane) plane.workloads:deploy(web.id, options) end)
  elseif kind <= 5 then
    local n = die.int(1, 12)
    self.most, self.least = math.max(self.most, n), math.min(self.least, n)
    self:ask("scale to " .. n, function(plane) plane.workloads:scale(web.id, { replicas = n }) end)
  elseif kind == 6 then
    self:ask("pause", function(plane) plane.workloads:pause(web.id) end)
  elseif kind <= 8 then
    self:ask("resume", function(plane) plane.workloads:resume(web.id) end)
  elseif kind == 9 then
    self:ask("restart", function(plane) plane.workloads:restart(web.id) end)
  elseif kind == 10 then
    local verb = die.pick { "pause", "resume", "abort", "cancel", "retry" }
    self:ask("rollout " .. verb, function(plane)
      local deployment = crashes.newest(plane, web)
      plane.deployments[verb](plane.deployments, deployment.id)
    end)
  elseif kind == 11 then
    for _, instance in ipairs(self.world:instances()) do
      if instance.state == "running" and die.chance(0.4) then
        self:say("kill %s/%d", instance.release, instance.index)
        self.world:kill(instance.id)
      end
    end
  else
    self:say "the host reboots"
    self.world:reboot()
  end
end

--- Faults have stopped: the workload comes to rest at what is wanted.
function Run:settle()
  core.testing.failpoint(nil)
  self.world:calm()
  self.world:outage(false)
  self:say "calm"
  self.plane.workloads:resume(self.web.id)
  for _ = 1, 60 do
    self:advance(30)
    local deployment, now = self:check(), assert(self.plane.workloads:get(self.web.id))
    self:say("workload %s %d/%d, deployment %s %s", now.state, now.ready_replicas, now.replica_count, deployment.state, deployment.phase or "")
    local final = crashes.FINAL[deployment.state]
    if deployment.state == "paused" then -- a person decides: back
      assert(self.plane.deployments:abort(deployment.id))
    elseif final and now.ready_replicas == now.replica_count and self:count() == now.replica_count then
      return
    elseif deployment.state == "failed" or deployment.state == "cancelled" then -- a mix was kept: on to something good
      assert(self.plane.workloads:deploy(self.web.id, lab.good(nil, "last")))
    end
  end
  local now = assert(self.plane.workloads:get(self.web.id))
  local deployment = crashes.newest(self.plane, self.web)
  error(("half an hour after the last fault: workload %s, %d/%d ready; deployment %s (%s)"):format(now.state,
    now.ready_replicas, now.replica_count, deployment.state, deployment.message or ""))
end

--- Nothing is left of it, and nobody was told of a change twice or not at all.
function Run:finish()
  assert.equal("destroyed", assert(self.plane.workloads:delete(self.web.id, { wait = "10m" })).state)
  assert.equal(0, (self:count()))
  local seq = 0
  for _, event in ipairs(lab.events(self.plane)) do
    seq = seq + 1
    assert.equal(seq, event.seq)
  end
end

local function sweep(seed, folder)
  local die = dice(seed)
  local clean = die.chance(0.35)
  local scenario = scenario_of(die, clean)
  local self = setmetatable({ die = die, clean = clean, deaths = 0, round = 0, asked = {} }, Run)
  self.plane, self.clock, self.world = lab.open { seed = seed, store = folder .. "/plane.db", scenario = scenario }
  self.kind = die.chance(0.25) and "stateful_set" or "deployment"
  local n = die.int(1, 12)
  self.most, self.least, self.asked[1] = n, n, { surge = "25%", unavailable = 0 }
  self.web = lab.workload(self.plane, { replicas = n, kind = self.kind, settle = clean })
  self.up = clean
  self:say("%d x %s, %s", n, self.kind, core.json.encode(scenario))
  local kill_rate, looking = die.rate(0.5, 0.03), false
  core.testing.failpoint(function() return not looking and die.chance(kill_rate) end)
  self:advance(die.int(1, 20))
  for _ = 1, die.int(2, 8) do
    self:act()
    self:advance(die.int(0, 25))
    looking = true
    self:check()
    looking = false
  end
  self:settle()
  self:finish()
  lab.close(self.plane)
  return self.deaths
end

describe("random rollouts", function()
  after_each(function() core.testing.failpoint(nil) end)

  it("keep the guards, say why they wait, and come to an end when the faults stop", function()
    local deaths = 0
    for seed = FIRST, LAST do
      local ok, err = pcall(house.with_memory_folder, function(folder) return sweep(seed, folder) end)
      if not ok then
        core.testing.failpoint(nil)
        error(("CP_SWEEP=%d dev/spec BUILD spec/sweep_spec.lua: %s"):format(seed, tostring(err)), 0)
      end
      deaths = deaths + err
    end
    assert.is_true(VERBOSE or deaths > (LAST - FIRST) / 10, deaths .. " deaths")
  end)
end)
