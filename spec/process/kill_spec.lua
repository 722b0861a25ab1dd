-- ctest: timeout=300 serial labels=kill
local house = require "spec.support.house"
local kill = require "spec.support.kill"

describe("kill -9 of the engine, 60 times, with writers and a rollout under way (row 1)", function()
  local folder, run
  before_each(function() folder = house.folder() end)
  after_each(function()
    run:close()
    house.remove(folder)
  end)

  it("loses no acknowledged write and no process, and the rollout goes on at its command", function()
    local seed = tonumber(os.getenv "CP_SEED") or 1
    run = kill.new { folder = folder, seed = seed }
    local cycle = 0
    local ok, err = pcall(function()
      run:open()
      for i = 1, house.asan() and 20 or 60 do
        cycle = i
        run:cycle()
      end
      run:finish()
    end)
    assert(ok, ("CP_SEED=%d, cycle %d: %s"):format(seed, cycle, tostring(err)))
    io.write("\n", run:summary(), "\n")
    assert.is_true(run.finished >= 3, "rollouts were under way: " .. run.finished)
    assert.is_true(run.pid_samples >= 150, "pids were compared: " .. run.pid_samples)
    assert.is_true(run.commands >= 20, "journaled commands were compared: " .. run.commands)
    assert.is_true(run.in_flight >= 5, "kills came within a command: " .. run.in_flight)
    -- Sanitizers take their time; so does a machine that runs other tests.
    local limit = house.asan() and 5 or 1
    assert.is_true(run:ready_within(limit) >= 0.95, run:summary())
  end)
end)
