--- deploy, rollback: going from one release to another. Turns options into a request; must not know how rollouts work.
local core = require "ctrlplane.core"
local exit = require "ctrlplane.cli.exit"
local follow = require "ctrlplane.cli.follow"
local session = require "ctrlplane.cli.session"
local system = require "ctrlplane.cli.system"
local view = require "ctrlplane.cli.view"
local workload = require "ctrlplane.cli.workload"

local M = {}

--- Options that every command which starts a rollout takes.
function M.define_rollout(c)
  c:option("--strategy", "a strategy's name, or a Lua file with one"):argname "<name|file>"
  c:option("--param", "a parameter of the strategy, NAME=VALUE"):argname "<name=value>":count "*"
  c:option("--surge", "replicas above the wanted number: a count or a percentage"):argname "<share>"
  c:option("--unavailable", "replicas that may be missing meanwhile"):argname "<share>"
  c:option("--min-ready", "how long ready before it counts as available"):argname "<duration>"
  c:option("--progress-deadline", "how long without progress before it fails, or none"):argname "<duration>"
  c:option("--on-failure", "rollback, pause or fail"):argname "<what>":choices { "rollback", "pause", "fail" }
  c:option("--max-failures", "new replicas that may fail"):argname "<n>":convert(session.whole "--max-failures")
  c:option("--supersede", "with a rollout under way: reject this one (the default), or replace that one")
    :argname "<what>":choices { "reject", "replace" }
  c:option("--notes", "words to remember it by"):argname "<text>"
  c:option("--commit", "the commit that it was built from"):argname "<sha>":target "commit_sha"
end

--- A path to an executable or folder, as the engine must get it: absolute, for it does not run in our folder. What
--- begins with a dot must exist; another relative name may be one that only the provider knows.
---@param folder? string what the path is relative to; default: where we are
---@return string? path nil: there is no such file
function M.local_image(image, folder)
  if image == "" or image:match "^/" then return image end
  local path = system.realpath((folder or ".") .. "/" .. image)
  return path or (not image:match "^%.%.?/" and image ~= "." and image ~= ".." and image or nil)
end

local function image_here(image)
  local path = M.local_image(image)
  if path then return path end
  exit.fail { code = "invalid", field = "image", message = ("there is no file or folder %s"):format(image) }
end

local function split(text, what)
  local name, value = text:match "^([^=]+)=(.*)$"
  if not name then exit.usage("%s '%s' has no =; write NAME=VALUE", what, text) end
  return name, value
end

--- A strategy's file, and the files beside it that it requires, by path: source, files (nil: none). The engine checks
--- and bounds them; a name that is in no file is its to refuse, with the line.
function M.strategy_source(path)
  local source, err = system.read(path)
  if not source then exit.fail { code = "not_found", field = "strategy", message = err } end
  local folder = path:match "^(.*/)[^/]*$" or ""
  local files
  local function collect(text)
    for name in text:gmatch "require%s*%(?%s*[\"']([%w_][%w_.-]*)[\"']" do
      local file = name:gsub("%.", "/") .. ".lua"
      local found = not name:match "^ctrlplane%." and not (files and files[file]) and system.read(folder .. file)
      if found then
        files = files or {}
        files[file] = found
        collect(found)
      end
    end
  end
  collect(source)
  return source, files
end

--- The options of `define_rollout` as fields of a request.
function M.rollout_fields(context)
  local args = context.args
  local fields = {
    surge = args.surge,
    unavailable = args.unavailable,
    min_ready = args.min_ready,
    progress_deadline = args.progress_deadline,
    on_failure = args.on_failure,
    max_failures = args.max_failures,
    supersede = args.supersede,
    notes = args.notes,
    commit_sha = args.commit_sha,
  }
  if args.strategy and (args.strategy:find("/", 1, true) or args.strategy:match "%.lua$") then
    fields.source, fields.files = M.strategy_source(args.strategy)
    fields.strategy = args.strategy:match "([^/]+)%.lua$" or args.strategy:match "[^/]+$"
  elseif args.strategy then
    fields.strategy = args.strategy
  end
  if #args.param > 0 then
    fields.params = {}
    for _, text in ipairs(args.param) do
      local name, value = split(text, "--param")
      fields.params[name] = value -- the engine knows its type
    end
  end
  return fields
end

local LISTS = { command = true, args = true }

-- What a deploy changes of a service; the rest is for a file and `up`.
local CHANGEABLE = {}
for _, op in ipairs(core.operations) do
  for _, field in ipairs(op.name == "workloads.deploy" and op.args.fields or {}) do
    for _, of in ipairs(field.name == "services" and field.desc.fields or {}) do
      if of.name ~= "name" then CHANGEABLE[#CHANGEABLE + 1] = of.name end
    end
  end
end

local function check_changeable(path, field)
  for _, name in ipairs(CHANGEABLE) do
    if field == name or name == "env" and field:match "^env%.." then return end
  end
  local near = core.nearest(field, CHANGEABLE)
  exit.usage("--set %s: --set changes %s of a service; change other fields in a file, and `up` it%s", path,
    table.concat(CHANGEABLE, ", "), near and ("; did you mean '%s'?"):format(near) or "")
end

-- Services by name: what a deploy is laid over.
local function current_services(w)
  local by_name, names = {}, {}
  for _, service in ipairs(w.services or {}) do
    by_name[service.name] = service
    names[#names + 1] = service.name
  end
  return by_name, names
end

local function main_service(by_name, names)
  for _, name in ipairs(names) do
    if (by_name[name].role or "main") == "main" then return name end
  end
  return names[1]
end

-- --image and --set as a list of ServiceDeploySpecs; nil when there are none.
local function service_changes(context, w)
  local args = context.args
  if #args.image == 0 and #args.set == 0 then return nil end
  local by_name, names = current_services(w)
  local changes, order = {}, {}
  local function change(name)
    if not by_name[name] then
      local near = core.nearest(name, names)
      exit.fail { code = "invalid", field = "services", hint = near and ("did you mean '%s'?"):format(near),
        message = ("workload %s has no service '%s'"):format(w.slug, name) }
    end
    if not changes[name] then
      changes[name] = { name = name }
      order[#order + 1] = changes[name]
    end
    return changes[name]
  end
  for _, text in ipairs(args.image) do
    local name, image = text:match "^([%w-]+)=(.*)$"
    if not name then name, image = main_service(by_name, names), text end
    change(name).image = image_here(image)
  end
  for _, text in ipairs(args.set) do
    local path, value = split(text, "--set")
    local name, field = path:match "^([^.]+)%.(.+)$"
    if not name then exit.usage("--set '%s': write SERVICE.FIELD=VALUE, such as app.env.VERSION=v2", text) end
    check_changeable(path, field)
    local spec = change(name)
    local variable = field:match "^env%.(.+)$"
    if variable then
      if not spec.env then
        spec.env = {}
        for key, old in pairs(by_name[name].env or {}) do spec.env[key] = old end
      end
      spec.env[variable] = value
    elseif value:match "^[%[{]" then
      local decoded, err = core.json.decode(value)
      if decoded == nil then exit.usage("--set %s: %s", path, err.message) end
      spec[field] = decoded
    elseif LISTS[field] then
      spec[field] = core.json.array {}
      for word in value:gmatch "%S+" do table.insert(spec[field], word) end
    else
      spec[field] = field == "image" and image_here(value) or value
    end
  end
  return core.json.array(order)
end

--- The release that a person means by "3", "r3" or an id.
local function release_id(context, w, text)
  local version = tonumber(text:match "^r?(%d+)$")
  if not version then return text end
  local list = exit.try(context.plane.workloads:list_releases(w.id, { limit = 500 }))
  local known = {}
  for _, release in ipairs(list.items or list) do
    if release.version == version then return release.id end
    known[#known + 1] = "r" .. release.version
  end
  exit.fail { code = "not_found", message = ("workload %s has no release r%d"):format(w.slug, version),
    hint = "it has " .. table.concat(known, ", ") }
end

--- Follows or detaches from what a deploy answered, and gives the exit code.
function M.finish(context, answer)
  local out = context.out
  if answer.unchanged then
    out:item(answer, answer.id or "", function() out:print(answer.message) end)
    return exit.DONE
  end
  if context.args.detach then
    out:item(answer, answer.id, function() out:print(answer.id) end)
    return exit.DONE
  end
  local deployment, in_time, seen = follow.deployment(context, answer.id)
  return follow.conclude(context, deployment, in_time, seen)
end

--- As exit.try, of what starts a rollout: what helps is told as it is typed here.
function M.try(value, err)
  if not value and err.code == "conflict" and err.field == "supersede" then
    exit.fail { code = err.code, field = err.field, message = err.message, details = err.details,
      hint = "wait for it, abort it (`ctrlplane rollout abort`), or add --supersede replace" }
  end
  return exit.try(value, err)
end

local commands = {}

commands[#commands + 1] = {
  name = "deploy",
  summary = "Roll a new release out",
  example = "ctrlplane deploy web --set app.env.VERSION=v2 --strategy rolling",
  about = "Without --image and --set it deploys what `up` or an update has staged, or the current release again.",
  define = function(c)
    c:argument("workload", "its name (slug) or id")
    c:option("--set", "change a field of a service"):argname "<service.field=value>":count "*"
    c:option("--image", "change an image; without a service the main one's"):argname "<[service=]image>":count "*"
    c:option("--release", "roll an old release out again: its number or id"):argname "<release>"
    M.define_rollout(c)
    c:flag("--dry-run", "only say what would change")
  end,
  run = function(context)
    local args = context.args
    local w = workload.find(context, args.workload)
    local request = M.rollout_fields(context)
    if args.release then
      request.release_id = release_id(context, w, args.release)
    else
      request.services = service_changes(context, w)
    end
    if args.dry_run then
      context.out:say("would deploy %s:", w.slug)
      context.out:json(request)
      return exit.DONE
    end
    return M.finish(context, M.try(context.plane.workloads:deploy(w.id, request)))
  end,
}

commands[#commands + 1] = {
  name = "rollback",
  summary = "Go back to the last good release before the current one",
  example = "ctrlplane rollback web",
  define = function(c)
    c:argument("workload", "its name (slug) or id")
    c:option("--to", "the release to go to: its number or id"):argname "<release>"
    M.define_rollout(c)
    c:flag("--dry-run", "only say what would change")
  end,
  run = function(context)
    local args = context.args
    local w = workload.find(context, args.workload)
    local request = M.rollout_fields(context)
    if args.to then request.release_id = release_id(context, w, args.to) end
    if args.dry_run then
      local versions = view.versions(context.plane, w.id)
      local what = ("roll %s back to %s"):format(w.slug, request.release_id
        and (versions[request.release_id] or request.release_id) or "the last good release before the current one")
      context.out:say("would %s", what)
      return context.out:plan { what }
    end
    return M.finish(context, M.try(context.plane.workloads:rollback(w.id, request)))
  end,
}

M.commands = commands
return M
