--- The command line: one table of commands gives parser, help and dispatch. Knows arguments, exit codes and the way
--- failures are told; must not know what a command does.
local argparse = require "argparse"
local core = require "ctrlplane.core"
local exit = require "ctrlplane.cli.exit"
local output = require "ctrlplane.cli.output"
local session = require "ctrlplane.cli.session"

local M = {}

---@class ctrlplane.cli.Command
---@field name string
---@field summary string one line, without a full stop at the end
---@field example string a line to type, without "$"
---@field about? string more words for --help
---@field define? fun(command) adds arguments and options
---@field run? fun(context): integer? the exit code; nothing means 0
---@field commands? ctrlplane.cli.Command[]

-- The files of the commands, in the order of `ctrlplane --help`.
local GROUPS = { "up", "workload", "deploy", "rollout", "logs", "server", "strategy", "run", "demo", "doctor" }

local FORMATS = { "table", "wide", "json", "jsonl", "name" }

local function add_common(parser)
  parser:option("--store", "the store to work on; its owner is asked through the socket beside it"):argname "<path>"
  parser:option("--url", "an engine to ask instead: unix:SOCKET, or http://HOST:PORT that is forwarded to one")
    :argname "<url>"
  parser:option("--output -o", "how data is printed: " .. table.concat(FORMATS, ", ")):argname "<format>"
    :choices(FORMATS)
  parser:option("--wait", "how long to follow at most; exit code 5 when it was not enough"):argname "<duration>"
  parser:flag("--detach", "do not follow; print the id")
  parser:flag("--no-color", "no colours"):target "no_color"
end

-- An example first: it is what most people came for.
local function add_help(parser, spec)
  local get_help = parser.get_help
  parser.get_help = function(self)
    return ("Example:\n   $ %s\n\n%s"):format(spec.example, get_help(self))
  end
end

local function add_commands(parser, specs, path)
  for _, spec in ipairs(specs) do
    local command = parser:command(spec.name):summary(spec.summary)
    command:description(spec.summary .. "." .. (spec.about and "\n\n" .. spec.about or ""))
    command:help_description_margin(28):help_max_width(100)
    command:epilog "Options of every command: see `ctrlplane --help`."
    add_help(command, spec)
    local here = {}
    for i, name in ipairs(path) do here[i] = name end
    here[#here + 1] = spec.name
    if spec.commands then
      command:require_command(true):command_target("command" .. #here)
      add_commands(command, spec.commands, here)
    end
    if spec.define then spec.define(command) end
  end
end

--- All commands, in order.
function M.commands()
  local all = {}
  for _, group in ipairs(GROUPS) do
    local module = require("ctrlplane.cli." .. group)
    for _, command in ipairs(module.commands or module) do all[#all + 1] = command end
  end
  return all
end

--- The parser. `errors(parser, message)` is called for a wrong call, and does not return.
function M.parser(errors)
  local parser = argparse "ctrlplane"
  parser:description "Keeps workloads running, and lets Lua decide how they change."
  parser:epilog "These options may stand before or after the command. `ctrlplane COMMAND --help` has an example."
  parser:help_description_margin(28):help_max_width(100)
  parser:require_command(true):command_target "command0"
  add_help(parser, { example = "ctrlplane up web.lua" })
  parser:flag("--version", "print the version"):action(function()
    io.stdout:write("ctrlplane ", core.version, "\n")
    exit.with(exit.DONE)
  end)
  add_common(parser)
  add_commands(parser, M.commands(), {})
  parser:add_help_command { add_help = true, summary = "Show the help of a command" }
  parser.error = errors
  return parser
end

local function find(specs, args)
  local depth, found = 0, nil
  while specs do
    local name = args["command" .. depth]
    found = nil
    for _, spec in ipairs(specs) do
      if spec.name == name then found = spec end
    end
    specs, depth = found and found.commands, depth + 1
  end
  return assert(found, "the parser let an unknown command pass")
end

-- Before the arguments could be parsed: was JSON asked for?
local function wants_json(argv)
  for i, argument in ipairs(argv) do
    local format = argument:match "^%-%-output=(.*)$" or argument:match "^%-o=?(.+)$"
    if argument == "-o" or argument == "--output" then format = argv[i + 1] end
    if format == "json" or format == "jsonl" then return true end
    if argument == "--" then break end
  end
  return false
end

local function tell(raised, json)
  local err = raised.err
  if not err then return end
  if json then
    local plain = { code = err.code or "internal", message = err.message, field = err.field, hint = err.hint,
      details = err.details }
    io.stdout:write(assert(core.json.encode({ error = plain }, { indent = 2 })), "\n")
  else
    io.stderr:write("ctrlplane: ", exit.line(err), "\n")
    local details = type(err.details) == "table" and err.details or {}
    local frames = details.traceback and tostring(details.traceback)
    if frames and not exit.line(err):find(frames, 1, true) then io.stderr:write(frames, "\n") end
  end
end

-- Makes of whatever was raised something with a code.
local function caught(err)
  if exit.is(err) then return err end
  if type(err) == "table" and err.code then return { code = exit.FAILED, err = err } end
  return { code = exit.FAILED, err = { code = "internal", message = debug.traceback(tostring(err), 2) } }
end

local WITH_VALUE = { ["--store"] = true, ["--url"] = true, ["-o"] = true, ["--output"] = true, ["--wait"] = true }

-- `run SCRIPT ...`: what follows the script is its own, options too. Gives the two halves.
local function split_script(argv)
  local words, skip = 0, false
  for i, argument in ipairs(argv) do
    if skip then
      skip = false
    elseif WITH_VALUE[argument] then
      skip = true
    elseif argument:sub(1, 1) ~= "-" or argument == "-" then
      words = words + 1
      if words == 1 and argument ~= "run" then return argv, nil end
      if words == 2 then return { unpack(argv, 1, i) }, { unpack(argv, i + 1) } end
    end
  end
  return argv, nil
end

--- Runs a command: argv without the program's name. Returns the exit code.
function M.run(argv)
  local rest
  argv, rest = split_script(argv)
  local json = wants_json(argv)
  local context
  local ok, result = xpcall(function()
    local parser = M.parser(function(where, message)
      if not json then io.stderr:write(where:get_usage(), "\n\n") end
      exit.usage("%s", (message:gsub("\n", "; "):gsub("Did you mean", "did you mean")))
    end)
    local args = parser:parse(argv)
    context = { args = args, rest = rest, out = output.new { format = args.output, no_color = args.no_color } }
    context.wait = session.duration(args.wait, "--wait")
    function context.connect()
      context.plane = context.plane or session.connect(args, context.out)
      return context.plane
    end
    return find(M.commands(), args).run(context)
  end, caught)
  if context and context.plane then pcall(context.plane.close, context.plane) end
  if ok then return result or exit.DONE end
  tell(result, json)
  return result.code
end

return M
