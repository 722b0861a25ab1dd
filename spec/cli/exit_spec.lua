local command = require "spec.support.command"
local house = require "spec.support.house"

describe("exit codes", function()
  local home
  before_each(function() home = command.open() end)
  after_each(function() home:close() end)

  local function up(fields)
    home:file("web.json", command.web(fields))
    home:ok "up web.json"
  end

  it("are 3 for what does not exist, with the nearest name", function()
    up { replicas = 1 }
    for _, arguments in ipairs { "get wbe", "ps wbe", "scale wbe -n 2", "rm wbe --yes", "logs wbe", "rollout status wbe" } do
      local value, code, err = home:json(arguments)
      assert.equal(3, code, arguments)
      assert.equal("not_found", value.error.code)
      assert.equal("did you mean 'web'?", value.error.hint, arguments)
      assert.equal("", err)
    end
  end)

  it("are 5 when --wait was not enough, and the work goes on", function()
    up { replicas = 1 }
    local slow = command.web()
    slow.services[1].args = { "--unhealthy" }
    local code, _, err = home:run { "deploy", "web", "--set", "app.args=--unhealthy", "--wait", "1s" }
    assert.equal(5, code)
    assert.truthy(err:find("ctrlplane rollout watch dep_", 1, true), err)
    assert.equal("running", home:json("rollout status web").state)
    local _, status = home:json "rollout status web"
    assert.equal(6, status)
    local value, ended = home:json "rollout abort web"
    assert.same({ "rolled_back", 0 }, { value.state, ended })
  end)

  it("are 1 when a rollout failed and went back, with the reason and the last words", function()
    up { replicas = 2 }
    local code, _, err = home:run { "deploy", "web", "--set", "app.args=--port none" }
    assert.equal(1, code)
    assert.truthy(err:find("rolled_back", 1, true), err)
    assert.truthy(err:find("hello: port 'none' is not in 1..65535", 1, true), err)
    local _, watched = home:json "rollout watch web"
    assert.equal(1, watched)
    assert.equal(2, home:json("get web").ready_replicas)
  end)

  it("are 6 while a rollout waits for a person", function()
    up { replicas = 1 }
    local code, _, err = home:run { "deploy", "web", "--set", "app.command=/does/not/exist", "--on-failure", "pause" }
    assert.equal(6, code)
    assert.truthy(err:find("to go on: ctrlplane rollout resume dep_", 1, true), err)
    local _, status = home:json "rollout status web"
    assert.equal(6, status)
    home:ok "rollout abort web"
  end)

  it("are 1 when nothing can be told from the engine any more", function()
    up { replicas = 1 }
    home:ok "stop"
    local value, code = home:json "ls --url http://127.0.0.1:1"
    assert.equal(1, code)
    assert.equal("provider_unavailable", value.error.code)
  end)

  it("are 2 when rm has nobody to ask", function()
    up { replicas = 1 }
    local value, code = home:json "rm web"
    assert.equal(2, code)
    assert.truthy(value.error.message:find("--yes", 1, true))
    local typed, shown = home:typed("rm web", "wbe\n")
    assert.equal(1, typed, shown)
    assert.equal(1, home:json("get web").replica_count)
    typed, shown = home:typed("rm web", "web\n")
    assert.equal(0, typed, shown)
    assert.equal(0, #home:json("ls").items)
  end)

  it("are 130 for the first Ctrl-C, which says how to come back while the work goes on", function()
    up { replicas = 1 }
    local process = house.spawn({ house.program "ctrlplane", "deploy", "web", "--set", "app.args=--unhealthy" },
      home:environment())
    house.wait_for("it follows", function() return process:stderr():find("web running", 1, true) end)
    process:signal "INT"
    assert.same({ code = 130 }, process:wait(5))
    assert.truthy(process:stderr():find("detached; the work goes on. To come back: ctrlplane rollout watch dep_", 1, true),
      process:stderr())
    process:kill()
    assert.equal("running", home:json("rollout status web").state)
    home:ok "rollout abort web"
  end)

  it("are 0 with --detach, and the id is what is printed", function()
    home:file("web.json", command.web { replicas = 1 })
    local out = home:ok "up web.json --detach"
    assert.truthy(out:match "^wkl_%w+\n$", out)
    home:ok "rollout watch web"
    out = home:ok "deploy web --set app.env.VERSION=v2 --detach"
    assert.truthy(out:match "^dep_%w+\n$", out)
    home:ok { "rollout", "watch", (out:gsub("\n", "")) }
  end)
end)
