local command = require "spec.support.command"
local dkjson = require "dkjson"
local house = require "spec.support.house"

describe("logs and events", function()
  local home
  before_each(function()
    home = command.open()
    home:file("web.json", command.web())
    home:ok "up web.json"
  end)
  after_each(function() home:close() end)

  it("merges the lines of all replicas, and counts --tail per replica", function()
    local out = home:ok "logs web"
    local _, lines = out:gsub("\n", "")
    assert.equal(2, lines)
    for index = 0, 1 do
      assert.truthy(out:match(("app%%[%d%%] hello v1 listening on port %%d+, index %%-\n"):format(index)), out)
    end
    assert.equal(out, (home:ok "logs web --tail 5"))
    assert.equal("", (home:ok "logs web --tail 0"))
    assert.equal("", (home:ok "logs web --since 2999-01-01T00:00:00Z"))
    assert.equal(out, (home:ok "logs web --since 1h"))
    assert.truthy(home:ok("logs web -t"):match "^%d+%-%d+%-%d+T[%d:.]+Z app%[")
  end)

  it("prints one document with -o json, and one line each with jsonl", function()
    local list = home:json "logs web"
    assert.equal(2, #list.items)
    assert.equal("stdout", list.items[1].stream)
    local lines = 0
    for line in home:ok("logs web -o jsonl"):gmatch "[^\n]+" do
      lines = lines + 1
      assert.equal("app", assert(dkjson.decode(line)).service_name)
    end
    assert.equal(2, lines)
  end)

  it("goes on with -f through a restart and with new replicas", function()
    local follower = house.spawn({ house.program "ctrlplane", "logs", "web", "-f" }, home:environment())
    local function seen() return select(2, follower:stdout():gsub("listening", "")) end
    house.wait_for("the old lines", function() return seen() == 2, follower:stdout() .. follower:stderr() end)
    home:ok "scale web --replicas 3"
    house.wait_for("the new replica's line", function() return seen() == 3 end)
    home:ok "restart web"
    house.wait_for("the lines after the restart", function() return seen() == 6 end)
    follower:kill()
  end)

  it("ends -f when the workload is gone", function()
    local follower = house.spawn({ house.program "ctrlplane", "logs", "web", "-f" }, home:environment())
    house.wait_for("it follows", function() return follower:stdout():find("listening", 1, true) end)
    home:ok "rm web --yes"
    assert.same({ code = 0 }, follower:wait())
    follower:kill()
  end)

  it("lists events oldest first, by type and from a seq on", function()
    local all = home:json("events --tail 500").items
    for i = 2, #all do assert.equal(all[i - 1].seq + 1, all[i].seq) end
    assert.equal("workload.created", all[1].type)
    local deploys = home:json({ "events", "--type", "deploy.*" }).items
    assert.is_true(#deploys >= 2)
    for _, event in ipairs(deploys) do assert.truthy(event.type:match "^deploy%.") end
    local later = home:json({ "events", "--after", tostring(all[3].seq) }).items
    assert.equal(all[4].seq, later[1].seq)
    assert.equal(#all - 3, #later)
  end)

  it("follows events with -f, without a gap to those before", function()
    local follower = house.spawn({ house.program "ctrlplane", "events", "-f", "-o", "jsonl", "--tail", "3" },
      home:environment())
    house.wait_for("the old ones", function() return select(2, follower:stdout():gsub("\n", "")) >= 3 end)
    home:ok "scale web --replicas 1"
    house.wait_for("the new ones", function() return follower:stdout():find("workload.scaled", 1, true) end)
    local last
    for line in follower:stdout():gmatch "([^\n]+)\n" do
      local event = assert(dkjson.decode(line))
      if last then assert.equal(last + 1, event.seq) end
      last = event.seq
    end
    follower:kill()
  end)

  it("follows over the death of the engine, losing and doubling nothing", function()
    home:file("tick.json", [[{"name": "tick", "services": [{"name": "app",
      "command": ["sh", "-c", "i=0; while :; do echo n $i; i=$((i+1)); sleep 0.05; done"]}]}]])
    home:ok "up tick.json"
    local follower = house.spawn({ house.program "ctrlplane", "logs", "tick", "-f" }, home:environment())
    house.wait_for("its lines", function() return follower:stdout():find("n 3\n", 1, true) end)
    os.execute("kill -9 " .. home:ok("doctor"):match "pid (%d+)")
    house.wait_for("it notices", function() return follower:stderr():find("waiting", 1, true) end)
    home:ok "ls" -- starts the next engine
    local before = select(2, follower:stdout():gsub("\n", ""))
    house.wait_for("it goes on", function() return select(2, follower:stdout():gsub("\n", "")) > before + 5 end)
    local expected
    for n in follower:stdout():gmatch "n (%d+)\n" do
      if expected then assert.equal(expected, tonumber(n)) end
      expected = tonumber(n) + 1
    end
    follower:kill()
    home:ok "rm tick --yes"
  end)
end)
