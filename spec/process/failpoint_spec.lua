-- ctest: timeout=300 serial labels=process
--- A real engine dies at each of its failpoints (testing plan, row 2; in the simulator: crash_spec.lua), while it is asked
--- to change labels, to scale, and to deploy. What was answered is in force, nothing runs twice, and the rollout ends.
--- CP_ROUNDS rounds (2; the long size is 50), each at another pass; in every other one it hangs there until it is killed.
local house = require "spec.support.house"
local served = require "spec.support.served"

local ROUNDS = tonumber(os.getenv "CP_ROUNDS") or 2
-- Passes that the scenario has for certain. before_marker and after_marker need a disk that fails, migrate_* an old
-- store: their specs are in spec/store.
local MOST = {
  before_commit = 12, after_commit = 12, effect = 4, effect_done = 4, record = 4, adopt = 1,
  process_operate = 4, process_made = 2, process_remove = 2, process_adopt = 1,
}

describe("an engine that dies at a failpoint (row 2)", function()
  local plane
  before_each(function() plane = served.open() end)
  after_each(function() plane:close() end)

  it("keeps what it answered, and its successor ends what was under way", function()
    plane:start()
    assert(plane.client:post("/workloads", served.hello("web", 2, { env = { VERSION = "v0" } })))
    plane:settle("web", 2)
    plane:kill()
    local version, replicas, deaths = 0, 2, 0
    local names = {}
    for name in pairs(MOST) do names[#names + 1] = name end
    table.sort(names)

    local function one(name, pass, hangs)
      version = version + 1
      local acked = {}
      local alive = plane:start {
        environment = { CP_FAILPOINT = ("%s:%d:%s"):format(name, pass, hangs and "sleep" or "exit") },
        doomed = true,
      }
      --- Asks until it is answered or dead: what is not answered may or may not be in force.
      local function ask(what, ...)
        if not alive then return end
        local answer = what(plane.client, ...)
        if not answer or plane.process:poll() then alive = false end
        return answer
      end
      local post, patch = plane.client.post, plane.client.patch
      acked.label = ask(patch, "/workloads/web", { labels = { n = tostring(version) } }, 2) and tostring(version)
      local target = 5 - replicas
      local scaled = ask(post, "/workloads/web/scale", { replicas = target }, 2)
      acked.deployment = ask(post, "/workloads/web/deploy",
        { services = { { name = "app", env = { VERSION = "v" .. version } } } }, 2)
      for i = 1, 400 do -- until it dies: its work goes on by itself
        if not alive or plane.process:poll() or plane:hangs() then break end
        local d = plane.client:get("/deployments/" .. acked.deployment.id, 2)
        if not d or (d.state ~= "pending" and d.state ~= "running" and i > 1) then break end
        house.sleep(0.02)
      end
      if hangs then
        assert.is_true(plane:hangs(), "it was never reached")
        plane:kill()
      else
        local ended = plane.process:wait(10)
        assert.equal(99, ended.code, "it was never reached")
        plane.process:kill()
      end
      deaths = deaths + 1

      plane:start()
      local web = assert(plane.client:get "/workloads/web")
      if acked.label then assert.equal(acked.label, web.labels.n) end
      if scaled then assert.equal(target, web.replica_count) end
      replicas = web.replica_count
      if acked.deployment then
        local d = house.wait_for("the rollout ends", function()
          local now = assert(plane.client:get("/deployments/" .. acked.deployment.id))
          return now.state ~= "pending" and now.state ~= "running" and now, now.state
        end, 40)
        assert.equal("succeeded", d.state, d.error and d.error.message)
      end
      plane:settle("web", replicas)
      local known = {}
      house.wait_for("each replica runs once, and nothing else", function()
        local instances = plane:instances "web"
        if #instances ~= replicas then return nil, #instances .. " replicas" end
        for _, instance in ipairs(instances) do known[instance.id] = true end
        local running = plane:services()
        for id, list in pairs(running) do
          if not known[id] then return nil, "orphan " .. id end
          if #list ~= 1 then return nil, id .. " runs " .. #list .. " times" end
        end
        for id in pairs(known) do
          if not running[id] then return nil, "lost " .. id end
        end
        return true
      end)
      local counts = plane:events()
      assert.is_nil(counts["instance.failed"])
      assert.is_nil(counts["instance.orphaned"])
      plane:kill()
    end

    for round = 1, ROUNDS do
      for i, name in ipairs(names) do
        local pass = (round * 7 + i) % MOST[name] + 1
        local ok, err = pcall(one, name, pass, (round + i) % 2 == 0)
        assert(ok, ("CP_FAILPOINT=%s:%d, round %d: %s"):format(name, pass, round, tostring(err)))
      end
    end
    assert.equal(ROUNDS * #names, deaths)
  end)
end)
