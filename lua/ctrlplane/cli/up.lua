--- up: creates a workload, or changes it to match a file. Shows what would change before anything does, and changes
--- only what the file names. Must not know how a file is read or a rollout works.
local core = require "ctrlplane.core"
local deploy = require "ctrlplane.cli.deploy"
local diff = require "ctrlplane.cli.diff"
local exit = require "ctrlplane.cli.exit"
local follow = require "ctrlplane.cli.follow"
local session = require "ctrlplane.cli.session"
local specfile = require "ctrlplane.specfile"
local system = require "ctrlplane.cli.system"
local view = require "ctrlplane.cli.view"

-- The fields of a file that say how to roll out, not what to run.
local ROLLOUT = { "strategy", "source", "files", "params", "surge", "unavailable", "min_ready", "progress_deadline",
  "on_failure", "max_failures", "supersede", "notes", "commit_sha" }

-- The request in the file, with its paths made absolute and the options of the command laid over.
local function read(context)
  local path = context.args.file
  local request = exit.try(specfile.read(path))
  local folder = path ~= "-" and path:match "^(.*)/[^/]*$" or "."
  for i, service in ipairs(type(request.services) == "table" and request.services or {}) do
    if type(service) == "table" and type(service.image) == "string" then
      local found = deploy.local_image(service.image, folder)
      if not found then
        exit.fail { code = "invalid", field = ("services[%d].image"):format(i - 1),
          message = ("there is no file or folder %s beside %s"):format(service.image, path) }
      end
      service.image = found
    end
  end
  if type(request.strategy) == "string" and request.strategy:match "%.lua$" then
    local file = request.strategy:sub(1, 1) == "/" and request.strategy or folder .. "/" .. request.strategy
    request.source, request.files = deploy.strategy_source(file)
    request.strategy = file:match "([^/]+)%.lua$"
  end
  for name, value in pairs(deploy.rollout_fields(context)) do request[name] = value end
  return request
end

-- Asks on a terminal; an answer that waits in a pipe counts too. Nobody to ask: yes.
local function agrees(context, question)
  if context.args.yes or context.args.file == "-" then return true end
  if system.is_terminal(0) then
    io.stderr:write(question, " [y/N] ")
  elseif not system.input_waits(0.2) then
    return true
  end
  local answer = io.read "*l"
  if answer == nil then return not system.is_terminal(0) end
  return answer:lower():match "^%s*y" ~= nil
end

local function say_new(context, request)
  local out = context.out
  out:say("+ %s, %d replica%s", request.name or "?", request.replicas or 1, (request.replicas or 1) == 1 and "" or "s")
  local changes = diff.services(nil, request.services)
  for _, line in ipairs(diff.lines(changes)) do out:say("  %s", line) end
  return changes
end

local function create(context, request)
  local changes = say_new(context, request)
  if context.args.dry_run then return context.out:plan(changes) end
  request.supersede = nil -- there is nothing yet to supersede
  local plane = context.connect()
  local w = exit.try(plane.workloads:create(request))
  local list = exit.try(plane.workloads:list_deployments(w.id, { limit = 1 }))
  local initial = (list.items or list)[1]
  if not initial then return exit.DONE end
  if context.args.detach then
    context.out:item(w, w.slug, function() context.out:print(w.id) end)
    return exit.DONE
  end
  return deploy.finish(context, initial)
end

local UNDER_WAY = { pending = true, running = true }

-- The rollout that is under way, if any.
local function current(plane, w)
  local list = plane.workloads:list_deployments(w.id, { limit = 1 })
  local newest = list and (list.items or list)[1]
  return newest and UNDER_WAY[newest.state] and newest or nil
end

local function change(context, w, request)
  local out, plane = context.out, context.plane
  local changes, what = diff.workload(w, request)
  for _, line in ipairs(diff.lines(changes)) do out:say("%s", line) end
  if what.immutable then
    exit.fail { code = "invalid", field = what.immutable,
      message = ("%s of a workload cannot be changed"):format(what.immutable), hint = "remove it and create it anew" }
  end
  if #changes == 0 then out:say("%s: the file changes nothing", w.slug) end
  if context.args.dry_run then return out:plan(changes) end
  if #changes > 0 and not agrees(context, ("Change %s?"):format(w.slug)) then
    out:say "nothing was changed"
    return exit.FAILED
  end
  -- Refused before anything of the file is in force, not after half of it.
  local busy = what.services and request.supersede ~= "replace" and w.state ~= "paused" and current(plane, w)
  if busy then
    exit.fail {
      code = "conflict",
      message = ("rollout %s of %s is under way; nothing was changed"):format(busy.id, w.slug),
      hint = "wait for it, abort it, or say --supersede replace",
    }
  end
  if what.services or what.labels or what.name then
    exit.try(plane.workloads:update(w.id, {
      name = what.name and request.name or nil,
      labels = what.labels and request.labels or nil,
      services = what.services and request.services or nil,
    }))
  end
  if what.replicas then exit.try(plane.workloads:scale(w.id, { replicas = request.replicas })) end
  if w.state == "paused" then
    if what.services then
      out:say("%s is paused; the new services are staged: %s", w.slug, session.spell(context.args, "resume " .. w.slug))
    end
    out:item(exit.try(plane.workloads:get(w.id)), w.slug, function() end)
    return exit.DONE
  end
  local under_way = not what.services and current(plane, w)
  local answer = under_way
  if not under_way then
    -- Also without a change of the file: what an image's path points to may have moved.
    local options = {}
    for _, name in ipairs(ROLLOUT) do options[name] = request[name] end
    answer = deploy.try(plane.workloads:deploy(w.id, options))
  end
  if not answer.unchanged or not what.replicas then return deploy.finish(context, answer) end
  if context.args.detach then
    out:item(w, w.slug, function() out:print(w.id) end)
    return exit.DONE
  end
  local final = follow.workload(context, w.id, function(options)
    options.replicas = request.replicas
    return plane.workloads:scale(w.id, options)
  end, function() return true end)
  out:item(final, w.slug, function()
    out:print(view.workload_line(out, final))
  end)
  return (final.ready_replicas or 0) >= (final.replica_count or 0) and exit.DONE or exit.TIMED_OUT
end

return {
  {
    name = "up",
    summary = "Create a workload, or change it to match a file",
    example = "ctrlplane up web.lua",
    about = "FILE is Lua, JSON or YAML. Only what the file names is changed: without `replicas` the count stays. "
      .. "What would change is shown first; on a terminal it asks when something that exists would change.",
    define = function(c)
      c:argument("file", "the file; - is stdin (JSON or YAML)")
      c:flag("--yes -y", "do not ask")
      c:flag("--dry-run", "only show what would change")
      deploy.define_rollout(c)
    end,
    run = function(context)
      local request = read(context)
      local plane = context.connect()
      if type(request.name) ~= "string" then
        -- The engine says it best.
        exit.try(plane.workloads:create(request))
      end
      -- What will be refused is not shown as a change first.
      if request.services ~= nil then exit.try(core.model.validate(request.services, { kind = request.kind })) end
      local slug = core.model.slug(request.name)
      local existing, err = nil, nil
      if slug then existing, err = plane.workloads:get(slug) end
      if existing and existing.state ~= "destroyed" then return change(context, existing, request) end
      if err and err.code ~= "not_found" then exit.fail(err) end
      return create(context, request)
    end,
  },
}
