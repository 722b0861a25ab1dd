-- ctest: timeout=60
-- A service of another user, under an engine that made its folders itself.
local command = require "spec.support.command"
local house = require "spec.support.house"
local posix = require "posix.unistd"

describe("a service of another user", function()
  local home
  before_each(function() home = command.open() end)
  after_each(function() home:close() end)

  it("gets to its working copy and its volume, and sees nobody else's", function()
    if posix.geteuid() ~= 0 then return pending "needs root" end
    os.execute("chmod 0711 " .. home.folder) -- as a home or /var/lib is
    home.store = home.folder .. "/made/plane.db" -- made by the command that starts the engine
    home.socket = home.store .. ".sock"
    local script = "id -un; pwd >place; cat place data/there; : >data/there; ls $VOLUME_DATA; "
      .. "ls ../../.. ../../../../instances || echo hidden; exec sleep 100"
    home:file("nob.json", { name = "nob", services = { { name = "app", user = "nobody",
      command = { "/bin/sh", "-c", script }, volumes = { { name = "data", mount_path = "data" } } } } })
    home:ok "up nob.json"
    local lines = house.wait_for("the service has looked around", function()
      local list = {}
      for _, event in ipairs(home:json("logs nob").items) do list[#list + 1] = event.line end
      return list[#list] == "hidden" and list
    end)
    local text = table.concat(lines, "\n")
    assert.equal("nobody", lines[1], text)
    assert.truthy(text:find("/work/app\n", 1, true), text)
    assert.truthy(text:find("\nthere\n", 1, true), text)
  end)
end)
