--- rollout status|watch|why|pause|resume|abort|cancel|retry|history: looking at a rollout and steering it.
--- Knows verbs and views; must not know how a rollout works.
local core = require "ctrlplane.core"
local deploy = require "ctrlplane.cli.deploy"
local exit = require "ctrlplane.cli.exit"
local follow = require "ctrlplane.cli.follow"
local view = require "ctrlplane.cli.view"
local workload = require "ctrlplane.cli.workload"

-- The deployment that is meant: its id, or the newest of a workload.
local function find(context)
  local name = context.args.what
  local plane = context.connect()
  if name:match "^dep_" then return exit.try(plane.deployments:get(name)) end
  local w = workload.find(context, name)
  local list = exit.try(plane.workloads:list_deployments(w.id, { limit = 1 }))
  local newest = (list.items or list)[1]
  if not newest then
    exit.fail { code = "not_found", message = ("workload %s has no deployment yet"):format(w.slug) }
  end
  return newest
end

local function define(c)
  c:argument("what", "a workload (then its newest rollout), or a deployment's id"):argname "<workload|deployment>"
end

local function print_tree(context, deployment)
  local seen = exit.try(view.rollout(context.plane, deployment.id))
  context.out:item(seen.deployment, seen.deployment.id, function()
    for _, line in ipairs(view.tree(context.out, seen)) do context.out:print(line) end
  end)
  return seen.deployment
end

-- `status` of something under way is no failure: 6, not finished.
local function status_code(deployment)
  local code = exit.of_deployment(deployment)
  return code == exit.TIMED_OUT and exit.UNFINISHED or code
end

-- A verb that changes a deployment and answers with it.
local function verb(name, summary, about)
  return {
    name = name,
    summary = summary,
    about = about,
    example = ("ctrlplane rollout %s web"):format(name),
    define = function(c)
      define(c)
      c:flag("--dry-run", "only say what would change")
    end,
    run = function(context)
      local deployment = find(context)
      if context.args.dry_run then
        local what = ("%s %s, which is %s"):format(name, deployment.id, deployment.state)
        context.out:say("would %s", what)
        return context.out:plan { what }
      end
      local deployments = context.plane.deployments
      local answer = exit.try(deployments[name](deployments, deployment.id))
      if name == "retry" then return deploy.finish(context, answer) end
      if name == "abort" and not context.args.detach then
        local ended, in_time, seen = follow.deployment(context, answer.id)
        if not in_time then return follow.conclude(context, ended, in_time, seen) end
        context.out:item(ended, ended.id, function()
          context.out:print(("%s  %s"):format(ended.id, context.out:state(ended.state)))
        end)
        return ended.state == "rolled_back" and exit.DONE or exit.of_deployment(ended)
      end
      context.out:item(answer, answer.id, function()
        context.out:print(("%s  %s"):format(answer.id, context.out:state(answer.state)))
      end)
    end,
  }
end

return {
  {
    name = "rollout",
    summary = "Look at a rollout, and steer it",
    example = "ctrlplane rollout watch web",
    commands = {
      {
        name = "status",
        summary = "Show where a rollout is; the exit code is its result, 6 while it is under way",
        example = "ctrlplane rollout status web",
        define = define,
        run = function(context) return status_code(print_tree(context, find(context))) end,
      },
      {
        name = "watch",
        summary = "Follow a rollout to its end; the exit code is its result",
        example = "ctrlplane rollout watch web",
        define = define,
        run = function(context)
          return follow.conclude(context, follow.deployment(context, find(context).id))
        end,
      },
      {
        name = "why",
        summary = "Say what a rollout waits for",
        example = "ctrlplane rollout why web",
        define = define,
        run = function(context)
          local deployment = find(context)
          local why = exit.try(context.plane.deployments:why(deployment.id))
          if context.out:is_json() then return context.out:json(why) end
          local seen = exit.try(view.rollout(context.plane, deployment.id))
          local reasons = view.reasons(seen, true)
          if #reasons == 0 then
            context.out:print(("%s is %s%s"):format(seen.deployment.id, seen.deployment.state,
              seen.deployment.error and ": " .. exit.line(seen.deployment.error) or "; it waits for nothing"))
          end
          for _, reason in ipairs(reasons) do context.out:print(reason) end
        end,
      },
      verb("pause", "Hold a rollout where it is; its clock stops"),
      verb("resume", "Let a held rollout go on"),
      verb("abort", "End a rollout and go back to the release before"),
      verb("cancel", "End a rollout and keep the mix that there is"),
      verb("retry", "Roll the same release out again"),
      {
        name = "history",
        summary = "List the rollouts of a workload, newest first, or the steps of one",
        example = "ctrlplane rollout history web",
        define = function(c)
          c:argument("what", "a workload (all of its rollouts), or a deployment's id (its steps)")
            :argname "<workload|deployment>"
        end,
        run = function(context)
          local plane, out = context.connect(), context.out
          if context.args.what:match "^dep_" then
            local journal = exit.try(plane.deployments:journal(context.args.what))
            return out:list(journal, {
              { "STEP", function(c) return c.number end },
              { "COMMAND", function(c) return c.name end },
              { "WITH", function(c)
                local text = c.args and core.json.encode(c.args)
                return text ~= "{}" and text ~= "[]" and text or nil
              end },
              { "DONE", function(c) return c.done and "yes" or "no" end },
              { "LINE", function(c) return c.line end },
            }, function(c) return c.name end)
          end
          local w = workload.find(context, context.args.what)
          local list = exit.try(plane.workloads:list_deployments(w.id, { limit = 100 }))
          out:list(list, view.deployment_columns(out, view.versions(plane, w.id)), function(d) return d.id end)
        end,
      },
    },
  },
}
