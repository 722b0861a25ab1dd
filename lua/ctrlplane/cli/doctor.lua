--- doctor: every setting with its source, and what stands in the way of an engine here. Knows files and sockets; must
--- not change anything.
local core = require "ctrlplane.core"
local exit = require "ctrlplane.cli.exit"
local session = require "ctrlplane.cli.session"
local system = require "ctrlplane.cli.system"

local function writable(folder)
  return os.execute("test -w " .. system.quote(folder)) == 0
end

-- The folder itself, or the nearest one above that exists.
local function nearest_folder(path)
  repeat path = path:match "^(.*)/[^/]*$" or "." until path == "" or path == "." or system.exists(path)
  return path == "" and "/" or path
end

return {
  {
    name = "doctor",
    summary = "Show each setting with its source, and what is wrong",
    example = "ctrlplane doctor",
    run = function(context)
      local args, out = context.args, context.out
      local rows, bad = core.json.array {}, 0
      local function row(name, value, source, problem)
        rows[#rows + 1] = { name = name, value = tostring(value), source = source, problem = problem }
        if problem then bad = bad + 1 end
      end

      row("version", core.version, "this program")
      row("program", system.program() or "unknown", "this program")
      local url, url_source = session.url(args)
      local store, store_source = session.store(args)
      row("store", store, store_source)
      if url then
        row("url", url, url_source)
      else
        local folder = nearest_folder(store)
        row("store folder", folder, "store", not writable(folder) and "it cannot be written to" or nil)
        local socket = session.socket(store)
        row("socket", socket, "store",
          #socket > 100 and "the path is too long for a unix socket; use a shorter store path" or nil)
      end
      local lua, shim = core.paths().lua, core.paths().shim
      row("Lua half", lua, os.getenv "CTRLPLANE_LUA" and "CTRLPLANE_LUA" or "found",
        not system.exists(lua .. "/ctrlplane/cli/main.lua") and "there is no ctrlplane/cli/main.lua in it" or nil)
      row("shim", shim, os.getenv "CTRLPLANE_SHIM" and "CTRLPLANE_SHIM" or "found",
        not system.exists(shim) and "it is not there; processes cannot be started" or nil)
      row("spec files", "Lua, JSON" .. (pcall(require, "yaml") and ", YAML" or ""), "packages")

      local plane, err = session.reach(args)
      if plane then
        local ready, why = plane:ping()
        local pid = not url and core.owner(store)
        row("engine", pid and ("answers, pid %d"):format(pid) or "answers", url and url_source or "socket",
          not ready and tostring(why) or nil)
        rows[#rows].pid = pid or nil
        local stats = plane:stats()
        if stats then row("longest stall", ("%d ms"):format(stats.stall_max_ms), "engine") end
        local providers = plane.providers:list()
        for _, provider in ipairs(providers and (providers.items or providers) or {}) do
          row("provider " .. tostring(provider.name), provider.type or "-", "engine", provider.problem)
        end
        plane:close()
      elseif url then
        row("engine", "does not answer", url_source, tostring(err.message))
      elseif err.code == "denied" then
        row("engine", "does not let this user in", "socket", exit.line(err))
      else
        row("engine", "nobody owns the store; the next command starts one", "socket")
      end

      if out:is_json() then
        out:json { items = rows, total = #rows, problems = bad }
      else
        out:list(rows, {
          { "SETTING", function(r) return r.name end },
          { "VALUE", function(r) return r.value end },
          { "SOURCE", function(r) return r.source end },
          { "PROBLEM", function(r) return r.problem and out:paint(r.problem, "red") or "" end },
        }, function(r) return r.name end)
      end
      return bad == 0 and exit.DONE or exit.FAILED
    end,
  },
}
