local command = require "spec.support.command"
local house = require "spec.support.house"

describe("rollout", function()
  local home
  before_each(function()
    home = command.open()
    home:file("web.json", command.web())
    home:ok "up web.json"
    home:file("wait.lua", [[return { name = "wait", summary = "Waits in the middle.",
      params = { middle = { type = "duration", default = "1h" }, name = { type = "string", default = "7" } },
      run = function(rollout, p)
        rollout:replace "50%"
        rollout:phase("half of " .. p.name)
        rollout:sleep(p.middle)
      end }]])
  end)
  after_each(function() home:close() end)

  local function begin(...)
    local id = home:ok { "deploy", "web", "--set", "app.env.VERSION=v2", "--strategy", "wait.lua", "--detach", ... }
    house.wait_for("it sleeps", function()
      local d = home:json "rollout status web"
      return d.phase == "half of 7" and d
    end)
    return (id:gsub("\n", ""))
  end

  it("goes on while the workload is scaled, which is done when the numbers are there", function()
    local id = begin()
    local out = home:ok "scale web --replicas 3 --wait 30s"
    assert.matches("web  deploying  3/3 ready", out, 1, true)
    assert.equal("running", home:json { "rollout", "status", id }.state)
  end)

  it("runs a strategy with the files that it requires", function()
    os.execute(("mkdir %s/own %s/own/lib"):format(home.folder, home.folder))
    home:file("own/half.lua", "local steps = require 'lib.steps'\n"
      .. "return { run = function(rollout) for _, step in ipairs(steps) do rollout:replace(step) end end }")
    home:file("own/lib/steps.lua", "return { require 'first', '100%' }")
    home:file("own/first.lua", "return '50%'")
    home:ok "deploy web --set app.env.VERSION=v2 --strategy own/half.lua"
    local last = home:json "rollout status web"
    assert.same({ "half", "succeeded" }, { last.strategy, last.state })
    home:file("own/half.lua", "require 'absent'")
    local code, _, err = home:run "deploy web --set app.env.VERSION=v3 --strategy own/half.lua"
    assert.equal(1, code)
    assert.matches('half.lua:1: there is no module "absent"', err, 1, true)
  end)

  it("names what --set changes, and the flag that replaces a rollout under way", function()
    local code, _, err = home:run "deploy web --set app.resources.memory_mb=3"
    assert.equal(2, code)
    assert.matches("--set changes image, env", err, 1, true)
    home:file("long.lua", "return { run = function(rollout) rollout:sleep '10m' end }")
    home:ok "deploy web --set app.env.VERSION=v2 --strategy long.lua --detach"
    code, _, err = home:run "deploy web --set app.env.VERSION=v3"
    assert.equal(1, code)
    assert.matches("--supersede replace", err, 1, true)
  end)

  it("status, why and watch name the line at which it waits", function()
    local id = begin()
    local code, out = home:run "rollout status web"
    assert.equal(6, code)
    assert.truthy(out:find("wait.lua:6", 1, true), out)
    assert.truthy(home:ok("rollout why web"):find("wait.lua:6", 1, true))
    local why = home:json { "rollout", "why", id }
    assert.is_true(#(why.items or why) >= 1)
    local watched, _, said = home:run { "rollout", "watch", id, "--wait", "500ms" }
    assert.equal(5, watched)
    assert.truthy(said:find("%d%d:%d%d:%d%dZ  web running"), said)
    assert.truthy(home:ok { "rollout", "history", id }:find("sleep", 1, true))
  end)

  it("is held by pause and goes on by resume, by whoever is named", function()
    local id = begin("--param=middle=" .. (house.asan() and "30s" or "5s")) -- the pause must come within it
    local held = home:json { "rollout", "pause", id }
    assert.equal("paused", held.state)
    local _, code = home:json "rollout status web"
    assert.equal(6, code)
    assert.truthy(home:ok("rollout why web"):find("resume", 1, true))
    home:ok "rollout resume web"
    local watched = home:json "rollout watch web"
    assert.equal("succeeded", watched.state)
  end)

  it("goes back by abort, and stays as it is by cancel", function()
    begin()
    local aborted, code = home:json "rollout abort web"
    assert.same({ "rolled_back", 0 }, { aborted.state, code })
    local versions = {}
    for _, i in ipairs(home:json("ps web").items) do versions[i.services[1].env.VERSION] = true end
    assert.same({ v1 = true }, versions)

    begin()
    assert.equal("cancelled", home:json("rollout cancel web").state)
    versions = {}
    for _, i in ipairs(home:json("ps web").items) do versions[i.services[1].env.VERSION] = true end
    assert.same({ v1 = true, v2 = true }, versions)

    local refused
    refused, code = home:json "rollout pause web"
    assert.equal(1, code)
    assert.equal("invalid_state", refused.error.code)
  end)

  it("is made anew by retry", function()
    local id = begin()
    home:ok { "rollout", "abort", id }
    local again = home:ok { "rollout", "retry", id, "--detach" }
    assert.truthy(again:match "^dep_%w+\n$")
    assert.not_equal(id .. "\n", again)
    home:ok "rollout abort web"
  end)

  it("checks parameters by their declaration", function()
    local value, code = home:json { "deploy", "web", "--strategy", "wait.lua", "--param", "midle=1s" }
    assert.equal(1, code)
    assert.equal("params.midle", value.error.field)
    assert.truthy((value.error.message .. (value.error.hint or "")):find("middle", 1, true))
    value, code = home:json { "deploy", "web", "--strategy", "wait.lua", "--param", "middle=soon" }
    assert.same({ 1, "params.middle" }, { code, value.error.field })
    value, code = home:json { "deploy", "web", "--surge", "0", "--unavailable", "many" }
    assert.same({ 1, "unavailable" }, { code, value.error.field })
  end)

  it("says where a strategy fails, and goes back", function()
    home:file("bad.lua", [[return { name = "bad", summary = "Fails.", run = function(rollout)
      rollout:replace "50%"
      local x = nil
      return x.y
    end }]])
    local code, _, err = home:run { "deploy", "web", "--set", "app.env.VERSION=v2", "--strategy", "bad.lua" }
    assert.equal(1, code)
    assert.truthy(err:find("bad.lua:4", 1, true), err)
    assert.equal("rolled_back", home:json("rollout status web").state)
    home:file("broken.lua", "return {")
    local value
    value, code = home:json { "deploy", "web", "--strategy", "broken.lua" }
    assert.same({ 1, "script_error" }, { code, value.error.code })
  end)

  it("refuses what this engine does not have, and says so", function()
    local code, _, err = home:run "rollout promote web"
    assert.equal(2, code)
    assert.truthy(err:find("unknown command 'promote'", 1, true), err)
    local value
    value, code = home:json { "deploy", "web", "--set", "app.env.VERSION=v2", "--strategy", "canary" }
    assert.equal(3, code)
    assert.equal("not_found", value.error.code)
  end)
end)
