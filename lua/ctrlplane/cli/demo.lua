--- demo: a throw-away store that shows it all: three replicas, a live rolling deploy, then a broken release that rolls
--- itself back. Uses the engine in this process; must not know how any of it works.
local exit = require "ctrlplane.cli.exit"
local follow = require "ctrlplane.cli.follow"
local system = require "ctrlplane.cli.system"
local view = require "ctrlplane.cli.view"

-- The example server: beside the program in the build, or where it was installed.
local function find_hello()
  local folder = assert(system.program()):match "^(.*)/"
  for _, path in ipairs { folder .. "/hello", folder .. "/../libexec/ctrlplane-hello" } do
    local found = system.realpath(path)
    if found then return found end
  end
  exit.fail { code = "not_found", message = ("the example server is neither in %s nor in ../libexec"):format(folder) }
end

local function story(context, plane)
  local out = context.out
  local function step(text) out:say("\n%s", out:paint("-- " .. text, "bold")) end
  local function finished(deployment)
    local ended, in_time, seen = follow.deployment(context, deployment.id)
    if not in_time then
      exit.fail { code = "timeout", message = "the rollout is not done after " .. context.args.wait }
    end
    return ended, seen
  end

  step "Three replicas of a small web server, from a table of Lua"
  local web = exit.try(plane.workloads:create {
    name = "web",
    replicas = 3,
    services = { {
      name = "app",
      image = find_hello(),
      env = { VERSION = "v1", INDEX = "${instance.index}" },
      ports = { { name = "http" } },
      health_check = { path = "/healthz", interval = "1s" },
    } },
  })
  local first = exit.try(plane.workloads:list_deployments(web.id, { limit = 1 }))
  local ended = finished((first.items or first)[1])
  if ended.state ~= "succeeded" then return ended end
  out:list(exit.try(plane.workloads:list_instances(web.id)),
    view.instance_columns(out, view.versions(plane, web.id)), function(i) return i.name end)

  step "A rolling deploy to v2: new ones first, old ones go when the new ones answer"
  ended = finished(exit.try(plane.workloads:deploy(web.id, {
    services = { { name = "app", env = { VERSION = "v2", INDEX = "${instance.index}" } } },
  })))
  if ended.state ~= "succeeded" then return ended end

  step "A broken release: its server is never well, so the rollout goes back by itself"
  ended = finished(exit.try(plane.workloads:deploy(web.id, {
    services = { { name = "app", args = { "--unhealthy" }, env = { VERSION = "v3", INDEX = "${instance.index}" } } },
    progress_deadline = "8s",
  })))
  if ended.state ~= "rolled_back" then return ended end
  out:say("%s: %s", ended.state, ended.error and exit.line(ended.error) or ended.message or "")
  out:list(exit.try(plane.workloads:list_instances(web.id)),
    view.instance_columns(out, view.versions(plane, web.id)), function(i) return i.name end)
  return nil
end

return {
  {
    name = "demo",
    summary = "Show it all on a throw-away store, and clean up",
    example = "ctrlplane demo",
    run = function(context)
      local ctrlplane = require "ctrlplane"
      local pipe = assert(io.popen "mktemp -d")
      local folder = pipe:read "*l"
      pipe:close()
      local plane = exit.try(ctrlplane.open { store = folder .. "/plane.db" })
      context.plane = plane
      local ok, bad = pcall(story, context, plane)
      context.out:say("\n-- Cleaning up")
      for _, w in ipairs((plane.workloads:list() or {}).items or {}) do
        local gone, err = plane.workloads:delete(w.id, { wait = "30s" })
        if not gone or gone.state ~= "destroyed" then
          context.out:say("ctrlplane: %s is not gone: %s; its files are in %s", w.slug,
            tostring(err or gone.message), folder)
          return exit.FAILED
        end
      end
      context.plane = nil
      plane:close()
      os.execute("rm -rf -- " .. system.quote(folder))
      if not ok then error(bad, 0) end
      if bad then
        exit.fail { code = "deployment_failed", message = ("the demo's rollout ended as %s: %s"):format(bad.state,
          bad.error and exit.line(bad.error) or bad.message or "no reason given") }
      end
      context.out:say "Done. Next: ctrlplane up FILE (see --help), or dev/quickstart for the whole story."
    end,
  },
}
