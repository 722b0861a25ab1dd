--- logs, events: streams. Lines as they come; jsonl for programs. Knows events; must not know where they come from.
local core = require "ctrlplane.core"
local exit = require "ctrlplane.cli.exit"
local session = require "ctrlplane.cli.session"
local workload = require "ctrlplane.cli.workload"

local COLOURS = { "cyan", "green", "yellow", "blue" }

-- "10m" ago, or a time as it is.
local function time_of(text)
  if text == nil then return nil end
  if text:match "^%d%d%d%d%-" then return text end
  return os.date("!%Y-%m-%dT%H:%M:%SZ", os.time() - math.floor(session.duration(text, "--since")))
end

-- Prints what an iterator yields: as one document without -f, else line by line.
local function drain(context, stream, print_line)
  local out = context.out
  if out.format == "json" and not context.args.follow then
    local items = core.json.array {}
    for event in stream do items[#items + 1] = event end
    out:json { items = items, total = #items }
    return
  end
  for event in stream do
    if out:is_json() then
      out:jsonl(event)
    else
      print_line(event)
      io.stdout:flush()
    end
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
      local stream = exit.try(context.plane.workloads:stream_logs(w.id, {
        follow = args.follow,
        tail = args.tail,
        since = time_of(args.since),
        service = args.service,
        timeout = context.wait,
      }))
      drain(context, stream, function(event)
        if event.line == nil then -- the stream itself has something to say: dropped, gap
          return out:say("ctrlplane: %s", core.json.encode(event))
        end
        local index = event.replica_index or 0
        local who = out:paint(("%s[%d]"):format(event.service_name or w.slug, index), COLOURS[index % #COLOURS + 1])
        out:print((args.timestamps and event.at .. " " or "") .. who .. " " .. event.line)
      end)
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
      local plane = context.connect()
      local function print_line(event)
        if not event.type then return out:say("ctrlplane: %s", core.json.encode(event)) end
        local payload = type(event.payload) == "table" and core.json.encode(event.payload) or ""
        out:print(("%6d  %s  %-22s %s%s"):format(event.seq or 0, event.at or "", event.type,
          event.instance_id or event.deployment_id or event.workload_id or "",
          payload ~= "" and payload ~= "{}" and payload ~= "[]" and "  " .. payload or ""))
      end
      local filter = { workload = args.workload, types = #args.type > 0 and core.json.array(args.type) or nil }
      local items = past(plane, filter, args.after, args.tail)
      if out.format == "json" and not args.follow then return out:json { items = items, total = #items } end
      for _, event in ipairs(items) do
        if out:is_json() then out:jsonl(event) else print_line(event) end
      end
      if not args.follow then return end
      io.stdout:flush()
      filter.after = #items > 0 and items[#items].seq or args.after
      filter.timeout = context.wait
      drain(context, exit.try(plane.events:stream(filter)), print_line)
    end,
  },
}
