--- Workloads, instances and rollouts as lines for people. Reads through a plane's methods; must not know commands or
--- where the lines go.
local exit = require "ctrlplane.cli.exit"
local output = require "ctrlplane.cli.output"

local M = {}

--- Versions of a workload's releases: id -> "r3".
function M.versions(plane, workload_id)
  local names = {}
  local releases = plane.workloads:list_releases(workload_id, { limit = 500 })
  for _, release in ipairs(releases and (releases.items or releases) or {}) do
    names[release.id] = "r" .. release.version
  end
  return names
end

local function ready_of(workload)
  return ("%d/%d"):format(workload.ready_replicas or 0, workload.replica_count or 0)
end

--- "web  active  3/3 ready"
function M.workload_line(out, w)
  local line = ("%s  %s"):format(w.slug, out:state(w.state))
  if w.state == "destroyed" then return line end
  if w.state == "paused" then return ("%s  %d when resumed"):format(line, w.previous_replicas or 1) end
  return ("%s  %s ready"):format(line, ready_of(w))
end

function M.workload_columns(out)
  return {
    { "NAME", function(w) return w.slug end },
    { "STATE", function(w) return out:state(w.state) end },
    { "READY", ready_of },
    { "KIND", function(w) return w.kind end, wide = true },
    { "PROVIDER", function(w) return w.provider_name end, wide = true },
    { "AGE", function(w) return output.age(w.created_at) end },
    { "ID", function(w) return w.id end, wide = true },
    { "MESSAGE", function(w) return w.message end },
  }
end

local function endpoints_of(instance)
  local list = {}
  for _, e in ipairs(instance.endpoints or {}) do list[#list + 1] = ("%s:%d"):format(e.host, e.port) end
  return table.concat(list, " ")
end

function M.instance_columns(out, versions)
  return {
    { "NAME", function(i) return i.name end },
    { "INDEX", function(i) return i.replica_index end },
    { "STATE", function(i) return out:state(i.state) end },
    { "READY", function(i) return i.ready and "yes" or "no" end },
    { "RELEASE", function(i) return versions[i.release_id] or i.release_id end },
    { "RESTARTS", function(i) return i.restarts or 0 end },
    { "ENDPOINTS", endpoints_of },
    { "AGE", function(i) return output.age(i.created_at) end },
    { "ID", function(i) return i.id end, wide = true },
    { "REF", function(i) return i.provider_ref end, wide = true },
    { "MESSAGE", function(i) return i.message end },
  }
end

function M.deployment_columns(out, versions)
  return {
    { "ID", function(d) return d.id end },
    { "STATE", function(d) return out:state(d.state) end },
    { "RELEASE", function(d) return versions[d.release_id] or d.release_id end },
    { "STRATEGY", function(d) return d.strategy end },
    { "STARTED", function(d) return d.started_at end },
    { "TOOK", function(d)
      local from, to = output.time(d.started_at), output.time(d.finished_at)
      return from and to and output.span(to - from) or nil
    end },
    { "BY", function(d) return d.initiator end, wide = true },
    { "MESSAGE", function(d) return d.error and exit.line(d.error) or d.message end },
  }
end

--- One row of `why` as a line: what it says for people, else its numbers.
function M.reason(row, names)
  local guard, message = row.guard or "something", row.message or ""
  local text = guard
  if message ~= "" then
    text = message:find(guard, 1, true) == 1 and message or guard .. ": " .. message
  elseif row.value and row.needed then
    text = ("%s %g, needs %g"):format(guard, row.value, row.needed)
  end
  local name = row.instance_id and (names[row.instance_id] or row.instance_id)
  if name and not message:find(name, 1, true) then text = ("%s (%s)"):format(text, name) end
  local since = row.since and output.age(row.since)
  if since and since ~= "0s" then text = ("%s (for %s)"):format(text, since) end
  return text
end

-- Counts of one release's instances: live, ready.
local function counts(instances, release_id)
  local live, ready = 0, 0
  for _, i in ipairs(instances) do
    if i.release_id == release_id then
      live = live + 1
      if i.ready then ready = ready + 1 end
    end
  end
  return live, ready
end

--- Everything that is shown of a rollout: { deployment, workload, instances, versions, why,
--- command (the newest of its journal) }, or nil, err.
function M.rollout(plane, deployment_id)
  local deployment, err = plane.deployments:get(deployment_id)
  if not deployment then return nil, err end
  local workload = plane.workloads:get(deployment.workload_id)
  local instances = plane.workloads:list_instances(deployment.workload_id)
  local why = plane.deployments:why(deployment_id)
  local journal = plane.deployments:journal(deployment_id)
  journal = journal and (journal.items or journal) or {}
  return {
    command = journal[#journal],
    deployment = deployment,
    workload = workload,
    instances = instances and (instances.items or instances) or {},
    versions = M.versions(plane, deployment.workload_id),
    why = why and (why.items or why.rows or why) or {},
  }
end

--- One line that says where a rollout is.
function M.rollout_line(out, seen)
  local d = seen.deployment
  local new_live, new_ready = counts(seen.instances, d.release_id)
  local parts = {
    ("%s %s"):format(seen.workload and seen.workload.slug or d.workload_id, out:state(d.state)),
    ("%s %d/%d ready"):format(seen.versions[d.release_id] or "new", new_ready, new_live),
  }
  if d.previous_release_id then
    local live, ready = counts(seen.instances, d.previous_release_id)
    parts[#parts + 1] = ("%s %d/%d ready"):format(seen.versions[d.previous_release_id] or "old", ready, live)
  end
  if d.phase and d.phase ~= "" then parts[#parts + 1] = "phase " .. d.phase end
  return table.concat(parts, ", ")
end

--- What it waits for, one line each; a failure is told apart, and only when it is wanted.
function M.reasons(seen, with_failure)
  local names, lines = {}, {}
  for _, i in ipairs(seen.instances) do names[i.id] = i.name end
  for _, row in ipairs(seen.why) do
    if with_failure or row.guard ~= "failure" then lines[#lines + 1] = M.reason(row, names) end
  end
  return lines
end

--- The tree: the rollout, its two sets, what it waits for, and the replicas.
function M.tree(out, seen)
  local d = seen.deployment
  local lines = {
    ("%s  %s  %s  %s %3d%%%s"):format(out:paint(seen.workload and seen.workload.slug or d.workload_id, "bold"),
      out:state(d.state), d.strategy or "-", out:bar(d.percent), math.floor((d.percent or 0) + 0.5),
      d.phase and d.phase ~= "" and ("  " .. d.phase) or ""),
  }
  local function set(name, release_id)
    if not release_id then return end
    local live, ready = counts(seen.instances, release_id)
    lines[#lines + 1] = ("  %s  %-4s %d live, %d ready"):format(name, seen.versions[release_id] or "?", live, ready)
  end
  set("new", d.release_id)
  set("old", d.previous_release_id)
  if d.message and d.message ~= "" and not (d.error and d.error.message == d.message) then
    lines[#lines + 1] = "  says " .. d.message
  end
  if d.held_by and d.held_by ~= "" then lines[#lines + 1] = "  held by " .. d.held_by end
  if d.awaiting and d.awaiting ~= "" then lines[#lines + 1] = "  waits for a person: " .. d.awaiting end
  local command, reasons = seen.command, M.reasons(seen)
  if command and not command.done and not (reasons[1] or ""):find(command.line or "?", 1, true) then
    lines[#lines + 1] = ("  at %s: %s"):format(command.line or "?", command.name)
  end
  for _, reason in ipairs(reasons) do lines[#lines + 1] = "  waits for " .. reason end
  local rows = {}
  for _, i in ipairs(seen.instances) do rows[#rows + 1] = i end
  local columns = M.instance_columns(out, seen.versions)
  for n, line in ipairs(out:lines({ columns[1], columns[5], columns[3], columns[4], columns[6], columns[11] }, rows)) do
    if n > 1 then lines[#lines + 1] = "    " .. line end
  end
  if d.error then lines[#lines + 1] = out:paint("  " .. exit.line(d.error), "red") end
  return lines
end

--- The last lines that the replicas of a failed release wrote: list of "name: text".
function M.last_words(plane, deployment, count)
  local live_old = {}
  local instances = plane.workloads:list_instances(deployment.workload_id)
  for _, i in ipairs(instances and (instances.items or instances) or {}) do
    if i.release_id ~= deployment.release_id then live_old[i.id] = true end
  end
  local lines = {}
  local stream = plane.workloads:stream_logs(deployment.workload_id,
    { tail = count, since = deployment.started_at, timeout = "5s" })
  if not stream then return lines end
  for event in stream do
    if not live_old[event.instance_id] then
      lines[#lines + 1] = ("%s #%d: %s"):format(event.service_name or "log", event.replica_index or 0, event.line or "")
    end
  end
  while #lines > count do table.remove(lines, 1) end
  return lines
end

return M
