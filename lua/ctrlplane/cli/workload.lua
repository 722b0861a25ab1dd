--- ls, get, ps, scale, pause, resume, restart, rm: looking at workloads and changing how many run.
local exit = require "ctrlplane.cli.exit"
local follow = require "ctrlplane.cli.follow"
local session = require "ctrlplane.cli.session"
local system = require "ctrlplane.cli.system"
local view = require "ctrlplane.cli.view"
local core = require "ctrlplane.core"

local M = {}

--- The workload of that name or id; ends the command with the nearest name when there is none.
function M.find(context, name)
  local plane = context.connect()
  local workload, err = plane.workloads:get(name)
  if workload then return workload end
  if err.code == "not_found" and not err.hint then
    local list = plane.workloads:list { limit = 500 }
    local slugs = {}
    for _, w in ipairs(list and list.items or {}) do slugs[#slugs + 1] = w.slug end
    local near = core.nearest(name, slugs)
    if near then err = { code = err.code, message = err.message, hint = ("did you mean '%s'?"):format(near) } end
  end
  exit.fail(err)
end

local function define_workload(command) command:argument("workload", "its name (slug) or id") end

local function show_line(context, workload)
  context.out:item(workload, workload.slug, function()
    context.out:print(view.workload_line(context.out, workload))
  end)
end

-- Ends a followed command: prints the workload; the code is 5 when --wait was not enough, 1 when it failed.
local function conclude(context, workload, settled)
  show_line(context, workload)
  if workload.state == "failed" then
    if not context.out:is_json() and workload.message then context.out:say("failed: %s", workload.message) end
    return exit.FAILED
  end
  if not settled then
    context.out:say("not done after %s; the work goes on: %s", context.args.wait,
      session.spell(context.args, "get " .. workload.slug))
    return exit.TIMED_OUT
  end
  return exit.DONE
end

local MOVING = { provisioning = true, scaling = true, deploying = true, destroying = true }
local function is_settled(workload) return not MOVING[workload.state] end
local function is_whole(workload)
  return not MOVING[workload.state] and (workload.ready_replicas or 0) >= (workload.replica_count or 0)
end

-- Runs a mutation, followed or detached. call(options) makes it.
local function change(context, workload, call, settled)
  if context.args.detach then
    local answer = exit.try(call {})
    context.out:item(answer, answer.slug, function() context.out:print(answer.id) end)
    return exit.DONE
  end
  local answer, done = follow.workload(context, workload.id, call, settled)
  return conclude(context, answer, done)
end

local function dry_run(context, text, ...)
  local what = text:format(...)
  context.out:say("would %s", what)
  return context.out:plan { what }
end

local commands = {}

commands[#commands + 1] = {
  name = "ls",
  summary = "List the workloads",
  example = "ctrlplane ls",
  define = function(c)
    c:option("--state", "only those in this state"):argname "<state>"
    c:option("--limit", "how many at most"):argname "<n>":convert(session.whole "--limit")
  end,
  run = function(context)
    local plane = context.connect()
    local list = exit.try(plane.workloads:list { state = context.args.state, limit = context.args.limit or 500 })
    if not context.out:is_json() and #list.items == 0 then
      context.out:say("no workloads yet; make one: %s", session.spell(context.args, "up FILE"))
      return
    end
    context.out:list(list, view.workload_columns(context.out), function(w) return w.slug end)
    if not context.out:is_json() and list.next_cursor then
      context.out:say("%d of %d are shown; see --limit", #list.items, list.total)
    end
  end,
}

commands[#commands + 1] = {
  name = "get",
  summary = "Show one workload",
  example = "ctrlplane get web",
  define = define_workload,
  run = function(context)
    local out = context.out
    local w = M.find(context, context.args.workload)
    out:item(w, w.slug, function()
      local plane = context.plane
      local versions = view.versions(plane, w.id)
      local function line(name, value)
        if value ~= nil and value ~= "" then out:print(("%-10s %s"):format(name, value)) end
      end
      line("name", w.name)
      line("slug", w.slug)
      line("id", w.id)
      line("state", out:state(w.state) .. (w.message and "  " .. w.message or ""))
      line("ready", ("%d/%d"):format(w.ready_replicas or 0, w.replica_count or 0))
      local current = w.current_release_id
      line("release", current and (versions[current] or current) or "none was good yet")
      line("kind", w.kind)
      line("provider", w.provider_name)
      line("region", w.region)
      line("created", w.created_at)
      local labels = {}
      for key, value in pairs(w.labels or {}) do labels[#labels + 1] = key .. "=" .. value end
      table.sort(labels)
      line("labels", table.concat(labels, " "))
      for _, service in ipairs(w.services or {}) do
        line("service", ("%s  %s%s"):format(service.name, service.image or "-",
          service.command and #service.command > 0 and "  " .. table.concat(service.command, " ") or ""))
      end
      local deployments = plane.workloads:list_deployments(w.id, { limit = 1 })
      local last = deployments and (deployments.items or deployments)[1]
      if last then line("rollout", ("%s  %s  %s"):format(last.id, last.strategy or "-", out:state(last.state))) end
      local instances = exit.try(plane.workloads:list_instances(w.id))
      if #(instances.items or instances) > 0 then
        out:print ""
        out:list(instances, view.instance_columns(out, versions), function(i) return i.name end)
      end
    end)
  end,
}

commands[#commands + 1] = {
  name = "ps",
  summary = "List the instances of one workload, or of all",
  example = "ctrlplane ps web",
  define = function(c) c:argument("workload", "its name (slug) or id"):args "?" end,
  run = function(context)
    local plane = context.connect()
    local workloads = context.args.workload and { M.find(context, context.args.workload) }
      or exit.try(plane.workloads:list { limit = 500 }).items
    local all, versions = {}, {}
    for _, w in ipairs(workloads) do
      local list = exit.try(plane.workloads:list_instances(w.id))
      for _, i in ipairs(list.items or list) do all[#all + 1] = i end
      if not context.out:is_json() then
        for id, name in pairs(view.versions(plane, w.id)) do versions[id] = name end
      end
    end
    local list = { items = core.json.array(all), total = #all }
    context.out:list(list, view.instance_columns(context.out, versions), function(i) return i.name end)
  end,
}

commands[#commands + 1] = {
  name = "scale",
  summary = "Change the number of replicas",
  example = "ctrlplane scale web --replicas 5",
  about = "While the workload is paused the number is what resume brings back. 0 pauses.",
  define = function(c)
    define_workload(c)
    c:option("--replicas -n", "how many shall run"):argname "<n>":count(1):convert(session.whole "--replicas")
    c:flag("--dry-run", "only say what would change")
  end,
  run = function(context)
    local replicas = context.args.replicas
    local w = M.find(context, context.args.workload)
    if context.args.dry_run then
      return dry_run(context, "scale %s: replicas %d -> %d", w.slug, w.replica_count or 0, replicas)
    end
    return change(context, w, function(options)
      options.replicas = replicas
      return context.plane.workloads:scale(w.id, options)
    end, function(answer)
      -- A rollout under way goes on; the numbers are there.
      local counted = answer.state == "deploying" and (answer.ready_replicas or 0) >= (answer.replica_count or 0)
      return answer.state == "paused" or counted or is_whole(answer)
    end)
  end,
}

commands[#commands + 1] = {
  name = "pause",
  summary = "Stop every replica, and remember how many there were",
  example = "ctrlplane pause web",
  define = function(c)
    define_workload(c)
    c:flag("--dry-run", "only say what would change")
  end,
  run = function(context)
    local w = M.find(context, context.args.workload)
    if context.args.dry_run then return dry_run(context, "pause %s: %d replicas stop", w.slug, w.replica_count or 0) end
    return change(context, w, function(options) return context.plane.workloads:pause(w.id, options) end, is_settled)
  end,
}

commands[#commands + 1] = {
  name = "resume",
  summary = "Bring a paused workload back to its number of replicas",
  example = "ctrlplane resume web",
  define = function(c)
    define_workload(c)
    c:flag("--dry-run", "only say what would change")
  end,
  run = function(context)
    local w = M.find(context, context.args.workload)
    if context.args.dry_run then
      return dry_run(context, "resume %s: %d replicas start", w.slug, w.previous_replicas or 1)
    end
    return change(context, w, function(options) return context.plane.workloads:resume(w.id, options) end, is_whole)
  end,
}

commands[#commands + 1] = {
  name = "restart",
  summary = "Restart the replicas in place, one after another",
  example = "ctrlplane restart web",
  define = function(c)
    define_workload(c)
    c:option("--parallel", "how many at a time"):argname "<n>":convert(session.whole "--parallel")
    c:flag("--dry-run", "only say what would change")
  end,
  run = function(context)
    local w = M.find(context, context.args.workload)
    if context.args.dry_run then return dry_run(context, "restart %s: %d replicas", w.slug, w.replica_count or 0) end
    return change(context, w, function(options)
      options.parallel = context.args.parallel
      return context.plane.workloads:restart(w.id, options)
    end, is_whole)
  end,
}

-- True when the person may go on: --yes, the name given as --name, or typed in.
local function may_remove(context, w)
  local args = context.args
  if args.yes or (w.replica_count or 0) == 0 and not args.volumes then return true end
  if args.name then
    if args.name == w.slug or args.name == w.name then return true end
    exit.usage("--name is '%s', but the workload is '%s'", args.name, w.slug)
  end
  if not system.is_terminal(0) then
    exit.usage("%s has %d replicas; say --yes, or --name %s, to remove it", w.slug, w.replica_count or 0, w.slug)
  end
  io.stderr:write(("%s has %d replicas. Type its name to remove it: "):format(w.slug, w.replica_count or 0))
  return io.read "*l" == w.slug
end

commands[#commands + 1] = {
  name = "rm",
  summary = "Remove a workload and every replica of it",
  example = "ctrlplane rm web --yes",
  about = "The row stays as history for a while; the name is free at once. Volumes stay unless --volumes is given.",
  define = function(c)
    define_workload(c)
    c:flag("--yes -y", "do not ask")
    c:option("--name", "the workload's name again, instead of --yes"):argname "<name>"
    c:flag("--volumes", "remove its volumes too")
    c:flag("--dry-run", "only say what would change")
  end,
  run = function(context)
    local w = M.find(context, context.args.workload)
    if context.args.dry_run then
      return dry_run(context, "remove %s and its %d replicas", w.slug, w.replica_count or 0)
    end
    if not may_remove(context, w) then
      context.out:say "nothing was removed"
      return exit.FAILED
    end
    return change(context, w, function(options)
      options.volumes = context.args.volumes
      return context.plane.workloads:delete(w.id, options)
    end, function(answer) return answer.state == "destroyed" end)
  end,
}

M.commands = commands
return M
