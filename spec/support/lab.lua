--- A plane in memory on the sim provider and the virtual clock, and what specs do to it and to its world.
--- `lab.open` gives a plane as a user gets it; the world behind it outlives the plane, so `lab.crash` can end the
--- engine and open another one on the same store.
local core = require "ctrlplane.core"
local ctrlplane = require "ctrlplane"

local M = {}
local labs = setmetatable({}, { __mode = "k" }) -- plane -> { world =, options = }

local function start(options, world)
  local plane = assert(ctrlplane.open {
    store = options.store or ":memory:",
    provider = "sim",
    clock = "virtual",
    seed = options.seed or 1,
    strategies = options.strategies,
    vfs = options.vfs,
    world = world,
  })
  labs[plane] = { world = world, options = options }
  return plane
end

--- Opens a plane: plane, clock, world. options: seed, scenario (of the world), store (a file, for lab.crash),
--- strategies (folders), vfs.
function M.open(options)
  options = options or {}
  local world = assert(core.testing.sim.open { seed = options.seed or 1, scenario = options.scenario })
  local plane = start(options, world)
  return plane, plane.clock, world
end

function M.world(plane) return assert(labs[plane], "this plane was not opened by the lab").world end

--- The engine ends here and now, as by kill -9; a new one starts on the same store and the same world, at once or after
--- `down` (a duration) in which the world goes on alone, or a function that is called then. Returns plane, clock.
function M.crash(plane, down)
  local lab = assert(labs[plane], "this plane was not opened by the lab")
  assert(lab.options.store, "a crash needs a store that outlives the engine: lab.open { store = path }")
  core.testing.plane.kill(plane)
  plane:close()
  labs[plane] = nil
  if type(down) == "function" then
    down()
  elseif down then
    lab.world:advance(down)
  end
  local another = start(lab.options, lab.world)
  return another, another.clock
end

--- Closes plane and world. Fails when the spec left a call, a stream or a task open.
function M.close(plane)
  local lab = assert(labs[plane], "this plane was closed already, or never opened")
  local left = plane:pending()
  plane:close()
  labs[plane] = nil
  local twins = lab.world:counts().twins
  lab.world:close()
  for what, count in pairs(left) do
    assert(count == 0, ("the spec left %d %s open"):format(count, what))
  end
  assert(twins == 0, ("%d instances were made where one was already"):format(twins))
end

local function service(env) return { name = "app", image = "app", env = env } end

--- Creates workload "web" of one service and lets it come up. options: as of `create`, and env of the service, and
--- settle = false to return at once.
function M.workload(plane, options)
  options = options or {}
  local spec = {}
  for key, value in pairs(options) do
    spec[key] = value
  end
  spec.name = spec.name or "web"
  spec.services = spec.services or { service(spec.env) }
  if spec.settle ~= false then
    spec.wait = spec.wait or "10m"
  end
  spec.env, spec.settle = nil, nil
  return assert(plane.workloads:create(spec))
end

--- Deploy options of a release that does as its environment says: lab.release({ SIM_READY_DELAY = "3s" }, options).
function M.release(env, options)
  local deploy = { services = { { name = "app", env = env } } }
  for key, value in pairs(options or {}) do
    deploy[key] = value
  end
  return deploy
end

--- Deploy options of a release that works, and is another one for each `name`.
function M.good(options, name) return M.release({ RELEASE = name or "good" }, options) end

--- Deploy options of a release that crashes soon after it is ready, again and again.
function M.crashing(options) return M.release({ SIM_CRASH_AFTER = "100ms", SIM_READY_DELAY = "200ms" }, options) end

--- Deploy options of a release that runs and never gets ready.
function M.never_ready(options) return M.release({ SIM_NEVER_READY = "1" }, options) end

--- Deploy options of a release that gives up while it starts.
function M.failing(options) return M.release({ SIM_FAIL_START = "1" }, options) end

--- The instances of a workload: a list as list_instances gives it.
function M.instances(plane, workload) return assert(plane.workloads:list_instances(workload.id)).items end

--- "old" is the release that the workload runs, "new" the one that is rolled out.
local function role_of(plane, workload, instance)
  local current = assert(plane.workloads:get(workload.id)).current_release_id
  return instance.release_id == current and "old" or "new"
end

--- How many instances live: { old = 8, new = 5 }; one that has none is left out. ready = true: only ready ones.
function M.live(plane, workload, ready)
  local counts = {}
  for _, instance in ipairs(M.instances(plane, workload)) do
    if instance.state ~= "destroyed" and (not ready or instance.ready) then
      local role = role_of(plane, workload, instance)
      counts[role] = (counts[role] or 0) + 1
    end
  end
  return counts
end

--- Kills the main service of running instances: options.count (1) of options.release ("old" or "new"; nil: any), lowest
--- index first. Returns their ids.
function M.kill(plane, workload, options)
  options = options or {}
  local killed, world = {}, M.world(plane)
  for _, instance in ipairs(M.instances(plane, workload)) do
    local wanted = not options.release or role_of(plane, workload, instance) == options.release
    if #killed < (options.count or 1) and wanted and world:kill(instance.id) then
      killed[#killed + 1] = instance.id
    end
  end
  assert(#killed == (options.count or 1), "there were only " .. #killed .. " to kill")
  return killed
end

--- All events, oldest first. filter: as of events.list.
function M.events(plane, filter)
  local all, cursor = {}, nil
  repeat
    local page = { limit = 500, cursor = cursor }
    for key, value in pairs(filter or {}) do
      page[key] = value
    end
    local got = assert(plane.events:list(page))
    for _, event in ipairs(got.items) do
      table.insert(all, 1, event)
    end
    cursor = got.next_cursor
  until not cursor
  return all
end

function M.count_events(plane, kind) return #M.events(plane, { types = { kind } }) end

--- Advances until check() returns something true, second by second; raises after `limit` seconds (600).
function M.advance_until(plane, what, check, limit)
  for _ = 1, limit or 600 do
    local result = check()
    if result then
      return result
    end
    plane.clock:advance "1s"
  end
  error(("%s did not happen in %d s"):format(what, limit or 600), 2)
end

return M
