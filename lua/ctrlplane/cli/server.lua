--- serve, stop, version: the engine as a process. Knows sockets and pids; must not know workloads.
local core = require "ctrlplane.core"
local exit = require "ctrlplane.cli.exit"
local session = require "ctrlplane.cli.session"
local system = require "ctrlplane.cli.system"

return {
  {
    name = "serve",
    summary = "Own a store and run its engine, in the foreground",
    example = "ctrlplane serve --store /var/lib/ctrlplane/plane.db",
    about = "Listens on a unix socket beside the store. SIGTERM ends it; workloads go on. Other commands start it in "
      .. "the background where nobody owns the store.",
    define = function(c)
      c:option("--provider", "the runtime of workloads that name none: process or sim"):argname "<name>"
        :choices { "process", "sim" }
      c:option("--data", "where the process provider keeps its files; default: the store's path with .d")
        :argname "<folder>"
      c:option("--strategies", "a folder with strategies of your own"):argname "<folder>":count "*"
    end,
    run = function(context)
      local args = context.args
      local store = session.store_path(args)
      local ok, err = core.serve {
        store = store,
        socket = session.socket(store),
        provider = args.provider,
        data_dir = args.data,
        strategies = #args.strategies > 0 and args.strategies or nil,
      }
      if not ok then exit.fail(err) end
    end,
  },
  {
    name = "stop",
    summary = "End the engine of a store; what runs goes on running",
    example = "ctrlplane stop",
    run = function(context)
      local plane, err = session.reach(context.args)
      if not plane then
        if session.url(context.args) or err.code == "denied" then exit.fail(err) end
        context.out:say("no engine owns %s", (session.store(context.args)))
        return exit.DONE
      end
      local pid = not session.url(context.args) and core.owner(session.store_path(context.args))
      exit.try(plane:stop_server())
      plane:close()
      local deadline = system.now() + (context.wait or 30)
      while pid and system.runs(pid) or not pid and session.reach(context.args) do
        if system.now() > deadline then
          exit.fail { code = "timeout", message = "the engine was asked to stop, and still runs" }
        end
        system.sleep(0.05)
      end
      if context.out:is_json() then
        context.out:json { stopped = true }
      else
        context.out:say "stopped; workloads go on"
      end
    end,
  },
  {
    name = "version",
    summary = "Print the version",
    example = "ctrlplane version",
    run = function(context)
      local version = { version = core.version, lua = jit.version }
      context.out:item(version, core.version, function()
        context.out:print(("ctrlplane %s (%s)"):format(core.version, jit.version))
      end)
    end,
  },
}
