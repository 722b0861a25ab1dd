-- Random lives of workloads under rollouts: deploys, good and bad, verbs, scaling, pauses, outages and crashes of the
-- engine in random order. Whatever happened: it always says what it waits for, the ceiling holds, and once the faults
-- stop a good release can be rolled out to all replicas in bounded time.
local house = require "spec.support.house"
local lab = require "spec.support.lab"
local rollouts = require "spec.support.rollouts"

local BAD = { "failing", "never_ready", "crashing" }
local SCRIPTS = {
  "rollout:replace '50%'\nrollout:bake '10s'\nrollout:replace '100%'",
  "rollout:replace(1)\nrollout:sleep '20s'\nrollout:wait_until(function(s) return s.new.available > 0 end, { timeout = '1m' })",
  "for i = 25, 100, 25 do rollout:replace(i .. '%') rollout:sleep '3s' end",
  "pcall(rollout.launch, rollout, '100%')\nrollout:replace '100%'\nrollout:retire()",
  "rollout:replace '50%'\nrollout:fail 'random'",
  "rollout:launch '25%'\nrollout:retire '25%'\nrollout:launch '50%'\nrollout:retire '100%'",
}

describe("whatever happens to a rollout,", function()
  local from, upto = tonumber(os.getenv "CP_SEED") or 1, tonumber(os.getenv "CP_SEEDS") or 24
  for seed = from, math.max(from, upto) do
    it("it says why, keeps its guards and can be ended (seed " .. seed .. ")", function()
      math.randomseed(seed)
      local folder = house.memory_folder()
      local path = folder .. "/plane.db"
      local plane, clock, world = lab.open {
        seed = seed, store = path, scenario = {
          jitter = 0.5, trace = true, new = { start_failure_rate = seed % 3 == 0 and 0.1 or 0, ready_delay = "2s" },
        },
      }
      local kind = seed % 4 == 0 and "stateful_set" or "deployment"
      local n = math.random(1, 8)
      local web = lab.workload(plane, { replicas = n, kind = kind })
      local count, quiet, log = 0, 0, {}

      local function pick(list) return list[math.random(#list)] end
      local function note(what, _, err)
        log[#log + 1] = ("%s%s"):format(what, err and " -> " .. err.code or "")
        if err then
          assert.is_true(err.code ~= "internal" and err.code ~= "storage_failed", tostring(err))
        end
      end
      local function newest() return assert(plane.workloads:list_deployments(web.id)).items[1] end
      local function options()
        return {
          supersede = pick { "reject", "replace" },
          on_failure = pick { "rollback", "rollback", "pause", "fail" },
          progress_deadline = pick { "20s", "1m", "10m" },
          max_failures = pick { 0, 0, 2 },
          surge = kind == "deployment" and pick { 1, "25%", "100%" } or nil,
        }
      end

      local acts = {
        function()
          count = count + 1
          note("deploy good", plane.workloads:deploy(web.id, lab.good(options(), "r" .. count)))
        end,
        function()
          count = count + 1
          local all = options()
          all.services = lab.good({}, "r" .. count).services
          note("deploy script", rollouts.deploy(plane, web, pick(SCRIPTS), all))
        end,
        function() note("deploy bad", plane.workloads:deploy(web.id, lab[pick(BAD)](options()))) end,
        function() note("deploy recreate", plane.workloads:deploy(web.id, lab.good({ strategy = "recreate" }, "c" .. count))) end,
        function() note("rollback", plane.workloads:rollback(web.id)) end,
        function()
          local to = math.random(1, 8)
          quiet = to < n and 60 or quiet
          n = to
          note("scale " .. to, plane.workloads:scale(web.id, { replicas = to }))
        end,
        function() note("pause", plane.deployments:pause(newest().id)) end,
        function() note("resume", plane.deployments:resume(newest().id)) end,
        function() note("abort", plane.deployments:abort(newest().id)) end,
        function() note("cancel", plane.deployments:cancel(newest().id)) end,
        function() note("retry", plane.deployments:retry(newest().id)) end,
        function() note("workload pause", plane.workloads:pause(web.id)) end,
        function() note("workload resume", plane.workloads:resume(web.id)) end,
        function()
          world:outage(true)
          clock:advance(math.random(1, 90) .. "s")
          world:outage(false)
          note "outage"
        end,
        function()
          note "crash"
          plane, clock = lab.crash(plane, pick { "0s", "5s", "1h" })
        end,
        function()
          local instances = lab.instances(plane, web)
          if #instances > 0 then
            note("kill", world:kill(pick(instances).id))
          end
        end,
      }

      local function check()
        local deployment = newest()
        if not rollouts.FINAL[deployment.state] and #assert(plane.deployments:why(deployment.id)).items == 0 then
          assert.is_true(rollouts.FINAL[rollouts.get(plane, deployment).state], "it does not say what it waits for")
        end
        local live = #lab.instances(plane, web)
        local surge = kind == "stateful_set" and 0 or n -- the widest that a deploy above asks for
        if quiet == 0 then
          assert.is_true(live <= n + surge, ("%d live, %d + %d allowed"):format(live, n, surge))
        end
      end

      local ok, err = pcall(function()
        for _ = 1, 60 do
          pick(acts)()
          for _ = 1, math.random(0, 5) do
            clock:advance "1s"
            quiet = math.max(quiet - 1, 0)
          end
          check()
        end
        note "faults stop"
        if assert(plane.workloads:get(web.id)).state == "paused" then
          assert(plane.workloads:resume(web.id))
        end
        local last = newest()
        if not rollouts.FINAL[last.state] then -- every state that is not final accepts abort
          local aborted = assert(plane.deployments:abort(last.id))
          local ended = rollouts.settle(plane, aborted, nil, 1800)
          assert.is_true(rollouts.FINAL[ended.state] or ended.state == "paused", ended.state)
        end
        local final = assert(plane.workloads:deploy(web.id, lab.good({ supersede = "replace", max_failures = 1000 }, "final")))
        local ended = rollouts.settle(plane, final, nil, 1800)
        assert.equal("succeeded", ended.state, tostring(ended.message))
        for _, instance in ipairs(lab.instances(plane, web)) do
          assert.equal(final.release_id, instance.release_id)
        end
        assert.equal(n, #lab.instances(plane, web))
        assert.equal("active", assert(plane.workloads:get(web.id)).state)
        local journal = rollouts.commands(plane, final)
        assert.equal("finish", journal[#journal])
      end)
      if not ok then
        local last = newest()
        local reasons = rollouts.reasons(plane, last)
        pcall(lab.close, plane)
        house.remove(folder)
        error(("%s\nacts: %s\n%s %s: %s\n%s"):format(tostring(err), table.concat(log, ", "), last.strategy, last.state, tostring(last.message), reasons), 0)
      end
      lab.close(plane)
      house.remove(folder)
    end)
  end
end)
