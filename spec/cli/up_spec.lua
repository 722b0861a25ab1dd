local api = require "spec.support.api"
local command = require "spec.support.command"
local house = require "spec.support.house"

describe("up", function()
  local home
  before_each(function() home = command.open() end)
  after_each(function() home:close() end)

  local function scaled_events()
    local count = 0
    for _, event in ipairs(home:json("events --tail 500").items) do
      if event.type == "workload.scaled" then count = count + 1 end
    end
    return count
  end

  it("shows nothing of a file that is refused", function()
    home:file("web.json", command.web())
    home:ok "up web.json"
    for _, name in ipairs { "web", "other" } do
      local bad = command.web { name = name, replicas = 3 }
      bad.services[1].ports[2] = { name = "http" }
      home:file("bad.json", bad)
      local code, out, err = home:run "up bad.json --yes"
      assert.same({ 1, "" }, { code, out })
      assert.matches("^ctrlplane: services%[0%]%.ports%[1%][^\n]*\n$", err)
    end
  end)

  it("does not touch the count that the file does not name (A7)", function()
    home:file("web.json", command.web { replicas = 3 })
    home:ok "up web.json"
    home:ok "scale web --replicas 5"
    local scaled = scaled_events()

    local web = command.web()
    web.replicas = nil
    web.services[1].env.VERSION = "v2"
    home:file("web.json", web)
    local _, said = home:ok "up web.json --yes"
    assert.truthy(said:find("~ services[app].env.VERSION v1 -> v2\n", 1, true), said)
    assert.is_nil(said:find("replicas", 1, true), said)
    local w = home:json "get web"
    assert.equal(5, w.replica_count)
    assert.equal(5, w.ready_replicas)
    assert.equal(scaled, scaled_events())

    local changed = assert(api.new(home.socket):patch("/workloads/web", { labels = { a = "b" } }))
    assert.equal(5, changed.replica_count)
    assert.same({ a = "b" }, changed.labels)
    assert.equal(scaled, scaled_events())

    web.replicas = 3
    home:file("web.json", web)
    local code, shown = home:typed("up web.json", "n\n")
    assert.equal(1, code)
    local asked = assert(shown:find("Change web?", 1, true), shown)
    local told = assert(shown:find("replicas 5 -> 3", 1, true), shown)
    assert.is_true(told < asked)
    assert.truthy(shown:find("nothing was changed", 1, true), shown)
    assert.equal(5, home:json("get web").replica_count)
    assert.equal(scaled, scaled_events())

    code = home:run("up web.json", { stdin = "no\n" }) -- an answer in a pipe counts
    assert.equal(1, code)
    assert.equal(5, home:json("get web").replica_count)

    home:ok "up web.json --yes"
    w = home:json "get web"
    assert.same({ 3, 3 }, { w.replica_count, w.ready_replicas })
  end)

  it("shows and does nothing with --dry-run, also for a new one", function()
    home:file("web.json", command.web())
    local _, said = home:ok "up web.json --dry-run"
    assert.truthy(said:find("+ web, 2 replicas", 1, true), said)
    assert.equal(0, #home:json("ls").items)
    home:ok "up web.json"
    home:file("web.json", command.web { replicas = 1 })
    _, said = home:ok "up web.json --dry-run"
    assert.truthy(said:find("~ replicas 2 -> 1", 1, true), said)
    assert.equal(2, home:json("get web").replica_count)
  end)

  it("changes nothing while a rollout is under way, not even the count", function()
    home:file("web.json", command.web())
    home:ok "up web.json"
    home:file("slow.lua", "return { name = 'slow', run = function(r) r:sleep '10m' end }")
    home:ok "deploy web --set app.env.VERSION=v2 --strategy slow.lua --detach"
    local web = command.web { replicas = 1 }
    web.services[1].env.VERSION = "v3"
    home:file("web.json", web)
    local code, _, said = home:run "up web.json --yes"
    assert.equal(1, code)
    assert.truthy(said:find("is under way; nothing was changed; wait for it, abort it", 1, true), said)
    assert.equal(2, home:json("get web").replica_count)
    home:ok "up web.json --yes --supersede replace"
    assert.equal(1, home:json("get web").replica_count)
  end)

  it("answers a dry run with a document where one is asked for", function()
    home:file("web.json", command.web())
    local new = home:json "up web.json --dry-run"
    assert.is_true(new.dry_run)
    assert.equal("services[app]", new.would[1].field)
    home:ok "up web.json"
    home:file("web.json", command.web { replicas = 1 })
    assert.same({ dry_run = true, would = { { field = "replicas", before = "2", after = "1" } } },
      home:json "up web.json --dry-run")
    assert.same({ dry_run = true, would = { "scale web: replicas 2 -> 3" } }, home:json "scale web -n 3 --dry-run")
    assert.same({ dry_run = true, would = { "pause web: 2 replicas stop" } }, home:json "pause web --dry-run")
    assert.equal(2, home:json("get web").replica_count)
  end)

  it("refuses what a file says wrongly at its top, for a new workload and for one that exists", function()
    local function refused(text, message)
      local file = text:match "^{" and "bad.json" or "bad.yaml"
      home:file(file, text)
      local code, _, said = home:run("up " .. file)
      assert.equal("1 ctrlplane: " .. message .. "\n", code .. " " .. said)
    end
    local services = "services: [ { name: app, command: [ sleep, '100' ] } ]\n"
    local function all()
      refused("name: web\non_failur: pause\n" .. services,
        "unknown field 'on_failur' of a workload; did you mean 'on_failure'?")
      refused("name: web\nreplicas: many\n" .. services, "replicas is 'many'; it must be a whole number")
      refused("name: web\nlabels: x\n" .. services, "bad.yaml:2: labels is one value; it must be names and values")
      refused('{"name": "web", "labels": "x", "services": []}', "labels is one value; it must be names and values")
      refused('{"name": "web", "services": true}', "services is one value; it must be a list")
    end
    all()
    home:file("web.json", command.web())
    home:ok "up web.json"
    all()
  end)

  it("draws no more lines than the terminal has", function()
    local web = command.web { replicas = 30, services = { { name = "app", command = { "sleep", "1000" } } } }
    home:file("many.json", web)
    local code, shown = home:typed("up many.json", "")
    assert.equal(0, code, shown)
    assert.truthy(shown:find("\n    ... and %d+ more\n"), shown)
    for up in shown:gmatch "\27%[(%d+)A" do assert.is_true(tonumber(up) < 24, up) end
    local lines = {}
    for line in home:ok("ps web -o jsonl"):gmatch "[^\n]+" do lines[#lines + 1] = line end
    assert.equal(30, #lines) -- a list has one line for each
    assert.matches('^{.*"ready":true.*}$', lines[1])
  end)

  it("shows a text of several lines on one", function()
    local web = command.web()
    web.services[1].env.MOTD = "one\ntwo\27[31m"
    home:file("web.json", web)
    local _, said = home:ok "up web.json --dry-run"
    assert.truthy(said:find("+ services[app].env.MOTD one\\ntwo?[31m\n", 1, true), said)
  end)

  it("changes nothing when the file does", function()
    home:file("web.json", command.web())
    home:ok "up web.json"
    local before = home:json "rollout status web"
    local out, said = home:ok "up web.json"
    assert.truthy(said:find("web: the file changes nothing", 1, true), said)
    assert.truthy(out:find("nothing to do", 1, true), out)
    assert.equal(before.id, home:json("rollout status web").id)
  end)

  it("reads the same workload from Lua, JSON and YAML", function()
    local hello = house.program "hello"
    home:file("web.lua", ([[return { name = "web", replicas = 1, services = { { name = "app", image = "%s",
      env = { VERSION = "v1" }, ports = { { name = "http" } } } } }]]):format(hello))
    home:file("web.json", ([[{ "name": "web", "replicas": 1, "services": [ { "name": "app", "image": "%s",
      "env": { "VERSION": "v1" }, "ports": [ { "name": "http" } ] } ] }]]):format(hello))
    home:file("web.yaml", ("name: web\nreplicas: 1\nservices:\n- name: app\n  image: %s\n  env: { VERSION: v1 }\n"
      .. "  ports: [ { name: http } ]\n"):format(hello))
    home:ok "up web.lua"
    for _, name in ipairs { "web.json", "web.yaml" } do
      local _, said = home:ok("up " .. name .. " --dry-run")
      assert.truthy(said:find("the file changes nothing", 1, true), name .. ": " .. said)
    end
    local _, said = home:ok("up - --dry-run", { stdin = house.read(home.folder .. "/web.yaml") })
    assert.truthy(said:find("the file changes nothing", 1, true), said)
  end)

  it("takes paths from where the file is", function()
    os.execute(("mkdir %s/sub && cp %s %s/sub/server"):format(home.folder, house.program "hello", home.folder))
    local web = command.web { replicas = 1 }
    web.services[1].image = "./server"
    home:file("sub/web.json", web)
    home:ok "up sub/web.json"
    assert.equal(1, home:json("get web").ready_replicas)
    web.services[1].image = "server" -- a dot makes no difference: the engine runs elsewhere
    home:file("sub/web.json", web)
    local _, said = home:ok "up sub/web.json --yes"
    assert.truthy(said:find("changes nothing", 1, true), said)
    web.services[1].image = "./sever"
    home:file("sub/web.json", web)
    local value, code = home:json "up sub/web.json"
    assert.equal(1, code)
    assert.equal("invalid", value.error.code)
    assert.equal("services[0].image", value.error.field)
  end)

  it("says which field is wrong, and creates nothing", function()
    local web = command.web()
    web.services[1].prots = web.services[1].ports
    web.services[1].ports = nil
    home:file("web.json", web)
    local value, code = home:json "up web.json"
    assert.equal(1, code)
    assert.equal("invalid", value.error.code)
    assert.truthy(value.error.field:find("services[0]", 1, true), value.error.field)
    assert.truthy((value.error.message .. (value.error.hint or "")):find("ports", 1, true), value.error.message)
    assert.equal(0, #home:json("ls").items)
  end)

  it("refuses what cannot be changed", function()
    home:file("web.json", command.web { replicas = 1 })
    home:ok "up web.json"
    home:file("web.json", command.web { replicas = 1, kind = "stateful_set" })
    local value, code = home:json "up web.json"
    assert.equal(1, code)
    assert.equal("kind", value.error.field)
  end)

  it("takes a strategy that stands beside the file", function()
    local web = command.web()
    home:file("web.json", web)
    home:ok "up web.json"
    home:file("twice.lua", [[return { name = "twice", summary = "In two steps.", run = function(rollout)
      rollout:phase "first"
      rollout:replace "50%"
      rollout:replace "100%"
    end }]])
    web.services[1].env.VERSION = "v2"
    web.strategy = "twice.lua"
    home:file("web.json", web)
    home:ok "up web.json --yes"
    local last = home:json "rollout status web"
    assert.same({ "twice", "succeeded" }, { last.strategy, last.state })
    local journal = home:json("rollout history " .. last.id).items
    assert.equal("phase", journal[1].name)
  end)
end)
