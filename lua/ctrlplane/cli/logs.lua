--- logs, events: streams. Lines as they come; jsonl for programs. Knows events; must not know where they come from.
local core = require "ctrlplane.core"
local exit = require "ctrlplane.cli.exit"
local session = require "ctrlplane.cli.session"
local system = require "ctrlplane.cli.system"
local workload = require "ctrlplane.cli.workload"

local PATIENCE = 15 -- seconds that a follower waits for the next engine

local COLOURS = { "cyan", "green", "yellow", "blue" }

-- "10m" ago, or a time as it is.
local function time_of(text)
  if text == nil then return nil end
  if text:match "^%d%d%d%d%-" then return text end
  return os.date("!%Y-%m-%dT%H:%M:%SZ", os.time() - math.floor(session.duration(text, "--since")))
end

-- Prints what an iterator yields: as one document without -f, else line by line. each (may be nil) sees it first.
local function drain(context, stream, print_line, each)
  local out = context.out
  if out.format == "json" and not context.args.follow then
    local items = core.json.array {}
    for event in stream do items[#items + 1] = event end
    out:json { items = items, total = #items }
    return
  end
  for event in stream do
    if each then each(event) end
    if out:is_json() then
      out:jsonl(event)
    else
      print_line(event)
      io.stdout:flush()
    end
  end
end

-- Follows a stream over the death of the engine: `open(after)` opens it anew behind the last event once somebody owns
-- the store again. An engine that was told to stop ends its streams, and so the command.
local function follow(context, command, open, print_line)
  local after
  local function remember(event) after = event.cursor or event.seq or after end
  local stream = exit.try(open(after))
  while true do
    local ok, err = pcall(drain, context, stream, print_line, remember)
    if ok then return end
    if type(err) ~= "table" or err.code ~= "provider_unavailable" then error(err, 0) end
    context.out:say("ctrlplane: the engine has ended; waiting up to %d s for the next one", PATIENCE)
    local deadline, plane = system.now() + PATIENCE
    repeat
      system.sleep(0.2)
      plane = session.reach(context.args)
    until plane or system.now() > deadline
    if not plane then
      err.hint = ("nothing that runs has stopped; to go on: %s"):format(session.spell(context.args, command))
      exit.fail(err)
    end
    context.plane = plane
    stream = exit.try(open(after))
  end
end

-- Past events, oldest first: all behind a seq, else the last `count`.
local function past(plane, filter, after, count)
  local newest, request = {}, { workload = filter.workload, types = filter.types, limit = 500 }
  local wanted = after and math.huge or count
  repeat
    local page = exit.try(plane.events:list(request))
    for _, event in ipairs(page.items) do
      if #newest >= wanted or after and event.seq <= after then
        page.next_cursor = nil
        break
      end
      newest[#newest + 1] = event
    end
    request.cursor = page.next_cursor
  until not request.cursor
  local items = core.json.array {}
  for i = #newest, 1, -1 do items[#items + 1] = newest[i] end
  return items
end

return {
  {
    name = "logs",
    summary = "Print what the replicas of a workload have written",
    example = "ctrlplane logs web -f --tail 10",
    about = "Lines of all replicas are merged by time. With -f it goes on, through restarts and new replicas. "
      .. "Replicas that are gone by now are shown for an hour, when --since asks for their time or none is left.",
    define = function(c)
      c:argument("workload", "its name (slug) or id")
      c:flag("--follow -f", "go on with what comes")
      c:option("--tail", "only the last lines of each replica"):argname "<n>":convert(session.whole "--tail")
      c:option("--since", "only lines since then: a duration, or a time"):argname "<time>"
      c:option("--service", "only this service"):argname "<name>"
      c:flag("--timestamps -t", "print the time of each line")
    end,
    run = function(context)
      local args, out = context.args, context.out
      local w = workload.find(context, args.workload)
      local function open(after)
        return context.plane.workloads:stream_logs(w.id, {
          follow = args.follow,
          tail = not after and args.tail or nil,
          since = time_of(args.since),
          after = after,
          service = args.service,
          timeout = context.wait,
        })
      end
      local function print_line(event)
        if event.line == nil then -- the stream itself has something to say: dropped, gap
          return out:say("ctrlplane: %s", core.json.encode(event))
        end
        local index = event.replica_index or 0
        local who = out:paint(("%s[%d]"):format(event.service_name or w.slug, index), COLOURS[index % #COLOURS + 1])
        out:print((args.timestamps and event.at .. " " or "") .. who .. " " .. event.line)
      end
      if args.follow then
        follow(context, ("logs %s -f --since 1m"):format(w.slug), open, print_line)
      else
        drain(context, exit.try(open()), print_line)
      end
    end,
  },
  {
    name = "events",
    summary = "Print what has happened",
    example = "ctrlplane events -f --type 'deploy.*'",
    define = function(c)
      c:flag("--follow -f", "go on with what comes")
      c:option("--type", "only this type; deploy.* is all of a kind"):argname "<type>":count "*"
      c:option("--workload", "only of this workload"):argname "<workload>"
      c:option("--after", "begin behind this seq"):argname "<seq>":convert(session.whole "--after")
      c:option("--tail", "how many of the last ones"):argname "<n>":default "50":convert(session.whole "--tail")
    end,
    run = function(context)
      local args, out = context.args, context.out
      local function print_line(event)
        if not event.type then return out:say("ctrlplane: %s", core.json.encode(event)) end
        local payload = type(event.payload) == "table" and core.json.encode(event.payload) or ""
        out:print(("%6d  %s  %-22s %s%s"):format(event.seq or 0, event.at or "", event.type,
          event.instance_id or event.deployment_id or event.workload_id or "",
          payload ~= "" and payload ~= "{}" and payload ~= "[]" and "  " .. payload or ""))
      end
      local filter = { workload = args.workload, types = #args.type > 0 and core.json.array(args.type) or nil }
      local items = past(context.connect(), filter, args.after, args.tail)
      if out.format == "json" and not args.follow then return out:json { items = items, total = #items } end
      for _, event in ipairs(items) do
        if out:is_json() then out:jsonl(event) else print_line(event) end
      end
      if not args.follow then return end
      io.stdout:flush()
      filter.after = #items > 0 and items[#items].seq or args.after
      filter.timeout = context.wait
      follow(context, ("events -f --after %d"):format(filter.after or 0), function(after)
        filter.after = after or filter.after
        return context.plane.events:stream(filter)
      end, print_line)
    end,
  },
}
