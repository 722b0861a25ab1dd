--- run: an operator's script, as a task of this program. Must not know what scripts do.
local exit = require "ctrlplane.cli.exit"

return {
  {
    name = "run",
    summary = "Run a Lua script that uses the engine",
    example = "ctrlplane run nightly.lua web",
    about = "The script gets what follows its name as `arg` and `...`. It runs as a task: every waiting call suspends "
      .. "it. Plain `luajit` runs the same script when LUA_PATH and LUA_CPATH name the module.",
    define = function(c)
      c:argument("script", "the file; what follows it is the script's own"):argname "<script> [argument...]"
    end,
    run = function(context)
      local ctrlplane = require "ctrlplane"
      local script = context.args.script
      local chunk, err = loadfile(script)
      if not chunk then
        local missing = tostring(err):match "^cannot open"
        exit.fail { code = missing and "not_found" or "script_error", message = tostring(err) }
      end
      local arguments = context.rest or {}
      _G.arg = { [0] = script, unpack(arguments) }
      local result = exit.try(ctrlplane.run_script(chunk, unpack(arguments)))
      if type(result) == "number" then return result end
    end,
  },
}
