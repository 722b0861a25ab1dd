--- decide_workload in random worlds: the actions are carried out in a tiny world with start-up times, crashes and lost
--- sight, and after every pass the ceiling and the floor hold, something is always said to block, and when faults stop
--- the goals are reached. Each world comes from a seed, which a failure prints.
local model = require("ctrlplane.core").model

local WORLDS = tonumber(os.getenv "CTRLPLANE_WORLDS" or "200")

-- A generator of our own: math.random differs between builds.
local function random_of(seed)
  local state = seed * 2654435761 % 4294967296 + 1
  return function(low, high)
    state = (state * 16807) % 2147483647
    return low + state % (high - low + 1)
  end
end

local World = {}
World.__index = World

local function new_world(seed)
  local random = random_of(seed)
  local world = setmetatable({ random = random, seed = seed, live = {}, delays = {}, made = 0, faults = true }, World)
  world.kind = random(1, 2) == 1 and "deployment" or "stateful_set"
  world.replicas = random(0, 30)
  world.surge = ({ 0, 1, 3, "25%", "100%" })[random(1, 5)]
  world.unavailable = ({ 0, 1, 2, "25%", "100%" })[random(1, 5)]
  if world.kind == "stateful_set" then world.surge, world.unavailable = nil, nil end
  world.sets = {
    { release_id = "new", role = "new", order = 3, goal = "0%" },
    { release_id = "old", role = "old", order = 2, goal = "100%" },
    { release_id = "abandoned", role = "abandoned", order = 1, goal = 0 },
  }
  return world
end

function World:fail(pass, output, why)
  local rows = {}
  for id, row in pairs(self.live) do
    rows[#rows + 1] = ("  %s %s index %d state %s%s%s%s%s"):format(id, row.release_id, row.replica_index, row.state,
      row.desired == "destroyed" and " going" or "", row.ready and " ready" or "",
      row.available and " available" or "", row.failing and " failing" or "")
  end
  table.sort(rows)
  local lines = { ("seed %d, pass %d: %s"):format(self.seed, pass, why),
    ("%s, N %d, surge %s, unavailable %s, ceiling %d, floor %d, returning %s, holding %s"):format(self.kind,
      self.replicas, tostring(self.surge), tostring(self.unavailable), output.ceiling, output.floor,
      tostring(self.returning), tostring(self.holding)) }
  for _, set in ipairs(output.sets) do
    lines[#lines + 1] = ("  set %s goal %d live %d"):format(set.role, set.goal, set.live)
  end
  for _, block in ipairs(output.blocks) do lines[#lines + 1] = "  block " .. block.guard .. ": " .. block.message end
  error(table.concat(lines, "\n") .. "\n" .. table.concat(rows, "\n"), 0)
end

function World:decide(backwards)
  local instances = {}
  for _, row in pairs(self.live) do instances[#instances + 1] = row end
  table.sort(instances, function(a, b) return (a.id < b.id) == not backwards and a.id ~= b.id end)
  return assert(model.decide_workload {
    kind = self.kind,
    replicas = self.replicas,
    surge = self.surge,
    unavailable = self.unavailable,
    stopped = self.stopped,
    holding = self.holding,
    held_replicas = self.held_replicas,
    returning = self.returning,
    sets = self.sets,
    instances = instances,
  })
end

function World:available()
  local count = 0
  for _, row in pairs(self.live) do
    if row.desired ~= "destroyed" and row.state ~= "failed" and row.seen and row.available then count = count + 1 end
  end
  return count
end

function World:size()
  local count = 0
  for _ in pairs(self.live) do count = count + 1 end
  return count
end

function World:reset(row, release, delay)
  row.release_id, row.ready, row.available, row.failing, row.seen = release, false, false, false, false
  self.delays[row.id] = delay
end

--- Carries out a pass, and checks what must hold of it.
function World:apply(pass, output)
  local before, size = self:available(), self:size()
  local acts, unseen = {}, false
  for _, row in pairs(self.live) do
    local kept = row.desired ~= "destroyed" and row.state ~= "failed"
    unseen = unseen or kept and not row.seen and row.state ~= "provisioning"
  end
  unseen = unseen and not self.stopped and self.replicas > 0
  for _, action in ipairs(output.actions) do
    if unseen and (action.act == "update" or action.act == "destroy" and action.reason ~= "failed") then
      self:fail(pass, output, "stopped one while another was unseen")
    end
    acts[action.act] = (acts[action.act] or 0) + 1
    local row = self.live[action.instance_id]
    if action.act == "create" then
      self.made = self.made + 1
      local id = ("i%05d"):format(self.made)
      for _, other in pairs(self.live) do
        local same = self.kind == "stateful_set" or other.release_id == action.release_id
        if same and other.replica_index == action.replica_index then self:fail(pass, output, "an index is taken twice") end
      end
      self.live[id] = { id = id, replica_index = action.replica_index, state = "provisioning", desired = "running" }
      self:reset(self.live[id], action.release_id, self.random(1, 4))
    elseif not row or row.desired == "destroyed" then
      self:fail(pass, output, action.act .. " of what is on its way out")
    elseif action.act == "destroy" then
      row.desired, self.delays[row.id] = "destroyed", self.random(1, 3)
    elseif action.act == "update" then
      if self.kind ~= "stateful_set" then self:fail(pass, output, "an update of a deployment") end
      self:reset(row, action.release_id, self.random(1, 4))
    end
  end
  local stopped = self.stopped or self.replicas == 0
  if self:size() > math.max(size, output.ceiling) then self:fail(pass, output, "above the ceiling") end
  if acts.create and self:size() > output.ceiling then self:fail(pass, output, "made above the ceiling") end
  if stopped and acts.create then self:fail(pass, output, "made while stopped") end
  if not stopped and self:available() < math.min(before, output.floor) then
    self:fail(pass, output, ("%d were available, %d are"):format(before, self:available()))
  end
  if not output.reached and #output.blocks == 0 then self:fail(pass, output, "stuck without a reason") end
  if output.reached and #output.actions > 0 then self:fail(pass, output, "reached, and still acting") end
end

--- One step of time: starts, becomes available, crashes, is lost sight of, is gone.
function World:tick()
  for id, row in pairs(self.live) do
    local delay = math.max(0, self.delays[id] - 1)
    if row.desired == "destroyed" then
      row.state = "destroying"
      if delay == 0 then self.live[id] = nil end
    elseif row.state ~= "failed" and delay == 0 then
      row.state, row.seen, row.failing = "running", true, false
      row.available, row.ready = row.ready, true -- ready first, available a step later
      local luck = self.faults and self.random(1, 60) or 60
      if luck == 1 then
        row.ready, row.available, delay = false, false, self.random(1, 5)
      elseif luck == 2 then
        row.ready, row.available, row.failing, delay = false, false, true, 4
      elseif luck == 3 then
        row.state, row.ready, row.available = "failed", false, false
      elseif luck == 4 then
        row.seen, delay = false, 2
      end
    end
    self.delays[id] = delay
  end
end

--- What people and strategies do to a workload.
function World:act()
  local random = self.random
  local choice = random(1, 9)
  local new, old = self.sets[1], self.sets[2]
  self.stopped = false
  if choice <= 3 then
    local share = ({ "10%", "50%", "99%", "100%" })[random(1, 4)]
    new.goal, old.goal, new.round_up = share, nil, false
    self.returning, self.holding = false, false
  elseif choice == 4 then
    new.goal, old.goal, new.round_up = ({ "10%", "50%", "100%" })[random(1, 3)], "100%", true
    self.returning, self.holding = false, false
  elseif choice == 5 then
    new.goal, old.goal = 0, "100%"
    self.returning, self.holding = true, false
  elseif choice == 6 then
    self.replicas = random(0, 30)
  elseif choice == 7 then
    local sizes = { new = 0, old = 0, abandoned = 0 }
    for _, row in pairs(self.live) do
      if row.desired ~= "destroyed" then sizes[row.release_id] = sizes[row.release_id] + 1 end
    end
    for _, set in ipairs(self.sets) do set.held = sizes[set.release_id] end
    self.holding, self.held_replicas, self.returning = true, self.replicas, false
  elseif choice == 8 then
    self.stopped = random(1, 2) == 1
  else -- superseded: what was new is abandoned, and there is a newer one
    for _, row in pairs(self.live) do
      if row.release_id == "new" then row.release_id = "abandoned" end
    end
    new.goal, old.goal, new.round_up = "100%", nil, false
    self.returning, self.holding = false, false
  end
end

--- Whether the guards can allow the goals: a rollout asks first.
function World:possible(output)
  local sum = 0
  for _, set in ipairs(output.sets) do sum = sum + set.goal end
  return sum >= output.floor
end

describe("decide_workload", function()
  it("keeps ceiling and floor in every random world, and gets there when faults stop", function()
    for seed = 1, WORLDS do
      local world = new_world(seed)
      for pass = 1, 60 do
        if world.random(1, 6) == 1 then world:act() end
        world:apply(pass, world:decide())
        world:tick()
      end
      world.faults, world.stopped = false, false
      local output
      local pass = 60
      repeat
        pass = pass + 1
        output = world:decide()
        world:apply(pass, output)
        world:tick()
        if pass > 600 then world:fail(pass, output, "not reached in 540 passes without a fault") end
      until output.reached or not world:possible(output)
    end
  end)

  it("says the same of the same world, in whatever order it is told", function()
    for seed = 1, 50 do
      local world = new_world(seed)
      for pass = 1, 12 do
        if pass % 4 == 0 then world:act() end
        world:apply(pass, world:decide())
        world:tick()
      end
      local one, other = world:decide(), world:decide(true)
      for _, output in ipairs { one, other } do
        table.sort(output.actions, function(a, b)
          return a.act .. (a.instance_id or "") .. a.replica_index < b.act .. (b.instance_id or "") .. b.replica_index
        end)
        for _, block in ipairs(output.blocks) do block.instance_id = nil end
      end
      assert.same(one, other)
    end
  end)
end)
