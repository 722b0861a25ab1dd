--- Which engine a command talks to: --url, else the socket of --store. Starts an engine in the background where nobody
--- owns the store. Knows sockets and paths; must not know commands.
local core = require "ctrlplane.core"
local exit = require "ctrlplane.cli.exit"
local system = require "ctrlplane.cli.system"

local M = {}

--- Where the store is, and who says so: path, source.
function M.store(args)
  if args.store then return args.store, "--store" end
  local env = os.getenv "CTRLPLANE_STORE"
  if env and env ~= "" then return env, "CTRLPLANE_STORE" end
  if system.is_root() then return "/var/lib/ctrlplane/plane.db", "default" end
  local data = os.getenv "XDG_DATA_HOME"
  if data and data:sub(1, 1) == "/" then return data .. "/ctrlplane/plane.db", "XDG_DATA_HOME" end
  return (os.getenv "HOME" or "") .. "/.local/share/ctrlplane/plane.db", "default"
end

local ELSEWHERE = "give another path with --store or CTRLPLANE_STORE"

--- The store's absolute path; its folder is made where it is missing.
function M.store_path(args)
  local path, source = M.store(args)
  if path == "" then exit.usage("%s is empty; give a path", source) end
  if path == ":memory:" then
    exit.usage("%s is :memory:, which ends with the command; give a path, or open it in a script (`ctrlplane run`)",
      source)
  end
  local folder, name = path:match "^(.*)/([^/]+)$"
  if not name then folder, name = ".", path end
  if folder == "" then folder = "/" end
  if not system.exists(folder) then
    -- Root's engine runs services of other users, who have to get through to their own folders.
    local mode = system.is_root() and "0711" or "0700"
    if os.execute(("mkdir -p -m %s -- %s 2>/dev/null"):format(mode, system.quote(folder))) ~= 0 then
      local homeless = source == "default" and not os.getenv "HOME" and "; HOME is not set" or ""
      exit.fail {
        code = "storage_failed",
        message = ("the folder %s of the store cannot be made%s"):format(folder, homeless),
        hint = ELSEWHERE,
      }
    end
  end
  folder = system.realpath(folder)
  return (folder == "/" and "" or folder) .. "/" .. name
end

--- The unix socket beside a store.
function M.socket(store) return store .. ".sock" end

--- Where a background engine writes what it has to say.
function M.log(store) return store .. ".log" end

local function url_of(args)
  if args.url then return args.url, "--url" end
  local env = os.getenv "CTRLPLANE_URL"
  if env and env ~= "" and not args.store then return env, "CTRLPLANE_URL" end
  return nil
end
M.url = url_of

--- A client of whoever owns the store: plane, or nil, err when nobody does.
function M.reach(args)
  local ctrlplane = require "ctrlplane"
  local url = url_of(args)
  local plane, err
  if url then
    plane, err = ctrlplane.connect { url = url }
  else
    local socket = M.socket(M.store_path(args))
    if not system.exists(socket) then
      return nil, { code = "provider_unavailable", message = ("no engine owns the store %s"):format(M.store(args)) }
    end
    if not system.writable(socket) then
      return nil, { code = "denied", message = ("%s is for the user whose engine it is"):format(socket),
        hint = "run this as that user, or " .. ELSEWHERE }
    end
    plane, err = ctrlplane.connect { socket = socket }
  end
  if not plane then return nil, err end
  local _, dead = plane:ping()
  if dead then
    plane:close()
    return nil, dead
  end
  return plane
end

-- The last line that was written to a file behind its first `from` bytes.
local function tail(path, from)
  local text = (system.read(path) or ""):sub(from + 1)
  local line = text:match "([^\n]*)\n?$"
  return line ~= "" and line or nil
end

--- Starts `ctrlplane serve` for a store in the background, and waits until it answers.
function M.start(args, out)
  local store = M.store_path(args)
  local program = assert(system.program(), "the path of this program is unknown")
  local log = M.log(store)
  -- It is its owner's alone, as the store is; one that was there with other permissions is made so.
  os.execute(("{ (umask 077; : >>%s) && chmod 600 %s; } 2>/dev/null"):format(system.quote(log), system.quote(log)))
  local file, why = io.open(log, "a")
  if not file then
    exit.fail { code = "storage_failed", message = "no engine can be started here: " .. why, hint = ELSEWHERE }
  end
  local said_before = file:seek "end"
  file:close()
  local command = ("setsid %s serve --store %s </dev/null >>%s 2>&1 & echo $!"):format(
    system.quote(program), system.quote(store), system.quote(log))
  local pipe = assert(io.popen(command))
  local pid = tonumber(pipe:read "*l")
  pipe:close()
  local deadline = system.now() + 15
  local gone
  repeat
    system.sleep(0.03)
    local plane = M.reach(args)
    if plane then
      -- Somebody else may have started one at the same moment: then that one is as good.
      if core.owner(store) == pid then
        out:say("ctrlplane: started the engine in the background (pid %d, store %s); to stop it: %s", pid, store,
          M.spell(args, "stop"))
      end
      return plane
    end
    -- An engine that was a moment faster owns the store already, and answers soon.
    local owner = core.owner(store)
    gone = not system.runs(owner and system.serves(owner) and owner or pid)
  until gone or system.now() > deadline
  local plane = M.reach(args)
  if plane then return plane end
  exit.fail {
    code = "provider_unavailable",
    message = ("the engine for %s did not start: %s"):format(store, tail(log, said_before) or "it said nothing"),
    hint = "see " .. log,
  }
end

--- A client; starts the engine where nobody owns the store. Ends the command when that fails.
function M.connect(args, out)
  local plane, err = M.reach(args)
  if plane then return plane end
  if url_of(args) or err.code == "denied" then exit.fail(err) end
  return M.start(args, out)
end

local function word(text) return text:match "^[%w_./:@+-]+$" and text or system.quote(text) end

--- A command as the user would have to type it, for the same store or engine.
function M.spell(args, command)
  local parts = { "ctrlplane", command }
  if args.url then
    parts[#parts + 1] = "--url " .. word(args.url)
  elseif args.store then
    parts[#parts + 1] = "--store " .. word(args.store)
  end
  return table.concat(parts, " ")
end

--- What reads a whole number given to an option.
function M.whole(option)
  return function(text)
    local n = tonumber(text)
    if n and n == math.floor(n) then return n end
    return nil, ("%s is '%s'; give a whole number"):format(option, text)
  end
end

--- Seconds of a duration given to an option; nil for nil. Ends the command when it is none.
function M.duration(text, option)
  if text == nil then return nil end
  local seconds, err = core.duration(text)
  if not seconds then exit.usage("%s: %s", option, err.message) end
  return seconds
end

return M
