-- A release that gives up in every replica cost a walk over all of them for each of them, in a pass for each of them:
-- a thousand replicas kept the engine's only thread busy.
local lab = require "spec.support.lab"

describe("replicas that all give up", function()
  --- CPU seconds of 40 seconds in the life of that many.
  local function cost(replicas)
    local plane, clock = lab.open { seed = 5 }
    lab.workload(plane, { replicas = replicas, settle = false, env = { SIM_FAIL_START = "1" } })
    local began = os.clock()
    clock:advance "40s"
    local spent = os.clock() - began
    lab.close(plane)
    return spent
  end

  it("cost about as much more as there are more of them", function()
    local few, many = cost(150), cost(600)
    assert.is_true(many < 10 * few, ("150: %.2f s, 600: %.2f s"):format(few, many))
  end)
end)
