--- Following work until it is settled: a live tree on a terminal, plain lines with time stamps otherwise. The first
--- Ctrl-C detaches: the work goes on. Knows views and exit codes; must not know commands.
local exit = require "ctrlplane.cli.exit"
local output = require "ctrlplane.cli.output"
local session = require "ctrlplane.cli.session"
local system = require "ctrlplane.cli.system"
local view = require "ctrlplane.cli.view"

local M = {}
local LOOK = 0.25 -- seconds between two looks
local HEARTBEAT = 30

local FINAL = { succeeded = true, failed = true, rolled_back = true, cancelled = true }

--- True when a deployment has ended or stands still until a person does something.
function M.stands(deployment)
  return FINAL[deployment.state] or deployment.state == "paused"
    or (deployment.awaiting ~= nil and deployment.awaiting ~= "")
end

-- Where progress goes: on a terminal a block that is drawn over, else a line whenever something changed.
local Screen = {}
Screen.__index = Screen

local function new_screen(context)
  return setmetatable({
    out = context.out,
    live = context.out.terminal and not context.out:is_json(),
    drawn = 0,
    said_at = system.now(),
  }, Screen)
end

-- key: what has to differ for a line to be printed; a clock that ticks is no news.
function Screen:show(line, tree, key)
  if self.live then
    local columns, rows = system.columns()
    columns, rows = columns or 120, rows and rows > 3 and rows or 24
    if #tree >= rows then -- what has left the screen at its top cannot be drawn over
      local more = #tree - rows + 2
      tree = { unpack(tree, 1, rows - 2) }
      tree[#tree + 1] = ("    ... and %d more"):format(more)
    end
    local parts = { self.drawn > 0 and ("\r\27[%dA\27[J"):format(self.drawn) or "" }
    for _, text in ipairs(tree) do
      -- A line that wraps would count as two.
      if output.width(text) > columns then text = text:gsub("\27%[[%d;]*m", ""):sub(1, columns) end
      parts[#parts + 1] = text .. "\n"
    end
    self.drawn = #tree
    io.stderr:write(table.concat(parts))
  elseif key ~= self.last or system.now() - self.said_at >= HEARTBEAT then
    self.out:say("%s  %s", os.date "!%H:%M:%SZ", line)
    self.last, self.said_at = key, system.now()
  end
end

-- Looks at something until it is settled. look() returns done, line, tree, key. back: the command to come back with.
local function watch(context, look, back)
  local screen = new_screen(context)
  local deadline = context.wait and system.now() + context.wait
  local release = system.hold_interrupt()
  local ok, result = pcall(function()
    while true do
      local done, line, tree, key = look()
      if line then screen:show(line, tree or { line }, key or line) end
      if done then return true end
      if system.interrupted() then
        context.out:say("\nctrlplane: detached; the work goes on. To come back: %s", back)
        exit.with(exit.INTERRUPTED)
      end
      if deadline and system.now() >= deadline then return false end
      context.plane:step(LOOK)
    end
  end)
  if ok then
    release()
    return result
  end
  -- A pending Ctrl-C would end the program before it has said why: it stays held.
  if not system.interrupted() then release() end
  error(result, 0)
end

--- Follows a deployment to its end: the deployment, and false when --wait was not enough.
function M.deployment(context, id)
  local seen
  local in_time = watch(context, function()
    seen = exit.try(view.rollout(context.plane, id))
    local line = view.rollout_line(context.out, seen)
    local key = line
    local reasons = view.reasons(seen)
    if reasons[1] and not FINAL[seen.deployment.state] then
      line = line .. "; waits for " .. reasons[1]
      key = key .. (seen.why[1].guard or "") .. (seen.command and seen.command.number or "")
    end
    return M.stands(seen.deployment), line, view.tree(context.out, seen), key
  end, session.spell(context.args, "rollout watch " .. id))
  return seen.deployment, in_time, seen
end

--- Says how a deployment ended, and returns the exit code.
function M.conclude(context, deployment, in_time, seen)
  local out = context.out
  local code = exit.of_deployment(deployment)
  if out:is_json() then
    out:json(deployment)
    return code
  elseif out.format == "name" then
    out:print(deployment.id)
  end
  if deployment.error then out:say("%s: %s", deployment.state, exit.line(deployment.error)) end
  if code == exit.DONE then
    local w = context.plane.workloads:get(deployment.workload_id)
    if w and out.format ~= "name" then
      out:print(("%s  %s"):format(view.workload_line(out, w), seen.versions[deployment.release_id] or ""))
    end
  elseif code == exit.FAILED and deployment.state ~= "cancelled" then
    for _, line in ipairs(view.last_words(context.plane, deployment, 5)) do out:say("  %s", line) end
  elseif code == exit.UNFINISHED then
    out:say("it waits: %s", deployment.awaiting or deployment.message or "paused")
    out:say("to go on: %s", session.spell(context.args, "rollout resume " .. deployment.id))
  elseif not in_time then
    out:say("not done after %s; the work goes on. To come back: %s", context.args.wait,
      session.spell(context.args, "rollout watch " .. deployment.id))
  end
  return code
end

--- Runs a mutation of a workload that answers when settled, and shows how it goes meanwhile.
---   call(options) makes the call with options.wait; settled(workload) judges what it answered
--- Returns what the call answered, and false when --wait was not enough.
function M.workload(context, name, call, settled)
  local answer, failure
  local finished = false
  local wait = context.wait or 86400
  context.plane:spawn(function()
    answer, failure = call { wait = wait, timeout = wait + 10 }
    finished = true
  end)
  watch(context, function()
    if finished then return true end
    local w = context.plane.workloads:get(name)
    if finished or not w then return finished end
    return false, ("%s %s %d/%d ready"):format(w.slug, w.state, w.ready_replicas or 0, w.replica_count or 0),
      { ("%s  %s  %d/%d ready"):format(context.out:paint(w.slug, "bold"), context.out:state(w.state),
        w.ready_replicas or 0, w.replica_count or 0) }
  end, session.spell(context.args, "get " .. name))
  if failure then exit.fail(failure) end
  return answer, finished and settled(answer)
end

return M
