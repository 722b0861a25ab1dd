--- strategy ls|show. Knows what the engine tells of its strategies; must not know how they run.
local core = require "ctrlplane.core"
local exit = require "ctrlplane.cli.exit"

local function value(v)
  if v == nil then return nil end
  return type(v) == "table" and core.json.encode(v) or tostring(v)
end

return {
  {
    name = "strategy",
    summary = "Look at the strategies that there are",
    example = "ctrlplane strategy ls",
    commands = {
      {
        name = "ls",
        summary = "List the strategies",
        example = "ctrlplane strategy ls",
        run = function(context)
          local list = exit.try(context.connect().strategies:list())
          context.out:list(list, {
            { "NAME", function(s) return s.name end },
            { "SUMMARY", function(s) return s.summary end },
          }, function(s) return s.name end)
        end,
      },
      {
        name = "show",
        summary = "Show a strategy and its parameters",
        example = "ctrlplane strategy show rolling",
        define = function(c) c:argument("name", "its name") end,
        run = function(context)
          local out = context.out
          local s = exit.try(context.connect().strategies:get(context.args.name))
          out:item(s, s.name, function()
            out:print(("%s: %s"):format(s.name, s.summary or ""))
            local rows = {}
            for name, param in pairs(s.params or {}) do rows[#rows + 1] = { name = name, param = param } end
            table.sort(rows, function(a, b) return a.name < b.name end)
            if #rows > 0 then
              out:print ""
              out:list(rows, {
                { "PARAMETER", function(r) return r.name end },
                { "TYPE", function(r) return r.param.type end },
                { "DEFAULT", function(r) return value(r.param.default) end },
                { "MEANING", function(r) return r.param.doc end },
              }, function(r) return r.name end)
            end
            if s.guards and next(s.guards) then out:print("\nguards: " .. value(s.guards)) end
          end)
        end,
      },
    },
  },
}
