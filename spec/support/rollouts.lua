--- What specs of rollouts share: deploys of a strategy's text, following one to its end, the reasons it gives.
local lab = require "spec.support.lab"

local M = {}
M.FINAL = { succeeded = true, failed = true, rolled_back = true, cancelled = true }

function M.get(plane, deployment) return assert(plane.deployments:get(deployment.id)) end

--- Advances until the deployment is final or paused (or `states` says so), at most `limit` seconds (3600).
function M.settle(plane, deployment, states, limit)
  local function settled()
    local now = M.get(plane, deployment)
    if states and states[now.state] or not states and (M.FINAL[now.state] or now.state == "paused") then
      return now
    end
  end
  return lab.advance_until(plane, "an end of " .. deployment.id, settled, limit or 3600)
end

--- A strategy's source from the body of its run.
function M.strategy(body, head)
  return ("return { name = 'mine', %s run = function(rollout, p)\n%s\nend }"):format(head or "", body)
end

--- Deploys a release that works with a strategy of that body.
function M.deploy(plane, web, body, options)
  local deploy = lab.good({ source = M.strategy(body, options and options.head), strategy = "mine.lua" }, "mine")
  for key, value in pairs(options or {}) do
    if key ~= "head" then
      deploy[key] = value
    end
  end
  return plane.workloads:deploy(web.id, deploy)
end

--- The reasons as "guard: message" lines.
function M.reasons(plane, deployment)
  local lines = {}
  for i, row in ipairs(assert(plane.deployments:why(deployment.id)).items) do
    assert(row.since, "a reason without since: " .. row.guard)
    lines[i] = row.guard .. ": " .. row.message
  end
  return table.concat(lines, "\n")
end

function M.row(plane, deployment, guard)
  for _, row in ipairs(assert(plane.deployments:why(deployment.id)).items) do
    if row.guard == guard then
      return row
    end
  end
end

--- The commands of the journal, as "name share" words.
function M.commands(plane, deployment)
  local names = {}
  for i, command in ipairs(assert(plane.deployments:journal(deployment.id)).items) do
    assert(command.number == i, "the journal has a hole at " .. i)
    names[i] = command.name
  end
  return names
end

--- Versions of the releases that the instances run, by index: { [0] = 1, 2, 2 }, and how many are ready.
function M.versions(plane, web)
  local version, by_index, ready = {}, {}, 0
  for _, release in ipairs(assert(plane.workloads:list_releases(web.id)).items) do
    version[release.id] = release.version
  end
  for _, instance in ipairs(lab.instances(plane, web)) do
    by_index[#by_index + 1] = version[instance.release_id]
    ready = ready + (instance.ready and 1 or 0)
  end
  table.sort(by_index)
  return by_index, ready
end

return M
