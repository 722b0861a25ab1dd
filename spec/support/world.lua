--- Worlds for specs of decide_workload: sets and instances in few words, and readers of its answer.
local model = require("ctrlplane.core").model

local M = {}

local ORDER = { new = 3, old = 2, abandoned = 1 }

--- A replica set whose release is named like its role: `set("new", "50%")`.
function M.set(role, goal, more)
  local result = { release_id = role, role = role, goal = goal, order = ORDER[role] }
  for key, value in pairs(more or {}) do
    result[key] = value
  end
  return result
end

--- `count` instances of a release, running, seen, ready and available unless `fields` says otherwise; `from` is the
--- first index. A list, which `decide` flattens.
function M.some(release, count, fields)
  local list = {}
  for i = 1, count do
    local index = (fields and fields.from or 0) + i - 1
    local row = {
      id = ("%s-%d"):format(release, index),
      release_id = release,
      replica_index = index,
      state = "running",
      ready = true,
      available = true,
      seen = true,
      generation = 1,
    }
    for key, value in pairs(fields or {}) do
      row[key] = value
    end
    row.from = nil
    list[i] = row
  end
  return list
end

--- Decides; raises for input that is wrong. Instances may be lists of lists.
function M.decide(input)
  local flat = {}
  for _, list in ipairs(input.instances or {}) do
    for _, row in ipairs(list) do
      flat[#flat + 1] = row
    end
  end
  local copy = {}
  for key, value in pairs(input) do
    copy[key] = value
  end
  copy.instances = flat
  return assert(model.decide_workload(copy))
end

--- How many actions of a kind; `release` narrows to what is made of it, or to instances named after it.
function M.count(output, act, release)
  local count = 0
  for _, action in ipairs(output.actions) do
    local own = action.release_id or action.instance_id:match "^(.*)%-%d+$"
    if action.act == act and (not release or own == release) then
      count = count + 1
    end
  end
  return count
end

--- The indices of the actions of a kind, in their order.
function M.indices(output, act)
  local list = {}
  for _, action in ipairs(output.actions) do
    if action.act == act then
      list[#list + 1] = action.replica_index
    end
  end
  return list
end

function M.ids(output, act)
  local list = {}
  for _, action in ipairs(output.actions) do
    if action.act == act then
      list[#list + 1] = action.instance_id
    end
  end
  return list
end

return M
