--- decide_instance as one table: state, wanted, seen -> operation, next state.
local model = require("ctrlplane.core").model

local function decide(state, desired, seen, more)
  local input = {
    state = state,
    desired = desired,
    seen = seen,
    generation = 1,
    applied_generation = 1,
    seen_generation = 1,
    release_id = "r1",
    seen_release_id = "r1",
  }
  for key, value in pairs(more or {}) do
    input[key] = value
  end
  return assert(model.decide_instance(input))
end

local never = { applied_generation = 0, seen_generation = 0 } -- never operated upon
local older = { generation = 2 } -- what runs is of generation 1
local moved = { generation = 2, release_id = "r2" }
local unstarted = { generation = 2, seen_generation = 2 }

local ROWS = {
  -- state, desired, seen, more, operation, next state
  { "provisioning", "running", "unknown", never, "provision", "provisioning" },
  { "provisioning", "running", "unknown", nil, "none", "provisioning" },
  { "starting", "running", "unknown", never, "none", "starting" },
  { "running", "running", "unknown", nil, "none", "running" },
  { "stopped", "running", "unknown", nil, "none", "stopped" },
  { "provisioning", "running", "absent", nil, "provision", "provisioning" },
  { "starting", "running", "absent", nil, "provision", "starting" },
  { "running", "running", "absent", nil, "none", "stopped" },
  { "stopped", "running", "absent", nil, "provision", "starting" },
  { "provisioning", "running", "lost", nil, "start", "starting" },
  { "starting", "running", "lost", nil, "start", "starting" },
  { "running", "running", "lost", nil, "none", "stopped" },
  { "stopped", "running", "lost", nil, "start", "starting" },
  { "provisioning", "running", "starting", nil, "none", "starting" },
  { "provisioning", "running", "running", nil, "none", "starting" },
  { "starting", "running", "starting", nil, "none", "starting" },
  { "starting", "running", "running", nil, "none", "running" },
  { "running", "running", "running", nil, "none", "running" },
  { "running", "running", "starting", nil, "none", "running" }, -- in back-off: running, not ready
  { "stopped", "running", "running", nil, "none", "starting" },
  { "stopped", "running", "starting", nil, "none", "starting" },
  { "running", "running", "running", older, "restart", "running" },
  { "running", "running", "running", moved, "update", "running" },
  { "starting", "running", "starting", older, "restart", "starting" },
  { "starting", "running", "running", moved, "update", "running" },
  { "running", "running", "stopped", nil, "none", "stopped" },
  { "stopped", "running", "stopped", nil, "none", "stopped" }, -- it ended by itself: a job that is done
  { "stopped", "running", "stopped", older, "restart", "starting" },
  { "stopped", "running", "stopped", moved, "update", "starting" },
  { "provisioning", "running", "stopped", nil, "none", "starting" },
  { "starting", "running", "stopped", nil, "none", "running" },
  { "provisioning", "running", "stopped", unstarted, "start", "starting" },
  { "starting", "running", "stopped", unstarted, "start", "starting" },
  { "provisioning", "running", "failed", nil, "none", "failed" },
  { "starting", "running", "failed", nil, "none", "failed" },
  { "running", "running", "failed", nil, "none", "failed" },
  { "stopped", "running", "failed", nil, "none", "starting" },
  { "failed", "running", "failed", nil, "none", "failed" },
  { "failed", "running", "running", nil, "none", "failed" },
  { "failed", "stopped", "running", nil, "none", "failed" },
  { "stopping", "running", "running", nil, "stop", "stopping" }, -- what was begun is finished
  { "stopping", "running", "stopped", nil, "none", "stopped" },

  { "provisioning", "stopped", "unknown", never, "none", "provisioning" },
  { "provisioning", "stopped", "running", nil, "none", "starting" },
  { "provisioning", "stopped", "starting", nil, "none", "starting" },
  { "starting", "stopped", "running", nil, "stop", "stopping" },
  { "running", "stopped", "running", nil, "stop", "stopping" },
  { "running", "stopped", "unknown", nil, "stop", "stopping" },
  { "stopping", "stopped", "unknown", nil, "none", "stopping" },
  { "stopping", "stopped", "starting", nil, "stop", "stopping" },
  { "stopping", "stopped", "stopped", nil, "none", "stopped" },
  { "stopping", "stopped", "absent", nil, "none", "stopped" },
  { "stopping", "stopped", "lost", nil, "none", "stopped" },
  { "stopping", "stopped", "failed", nil, "none", "failed" },
  { "stopped", "stopped", "stopped", nil, "none", "stopped" },
  { "stopped", "stopped", "running", nil, "stop", "stopped" },

  { "provisioning", "destroyed", "unknown", never, "deprovision", "destroying" },
  { "running", "destroyed", "absent", nil, "deprovision", "destroying" },
  { "failed", "destroyed", "failed", nil, "deprovision", "destroying" },
  { "stopping", "destroyed", "running", nil, "deprovision", "destroying" },
  { "destroying", "destroyed", "unknown", nil, "none", "destroying" },
  { "destroying", "destroyed", "running", nil, "deprovision", "destroying" },
  { "destroying", "destroyed", "stopped", nil, "deprovision", "destroying" },
  { "destroying", "destroyed", "absent", nil, "none", "destroyed" },
  { "destroying", "running", "absent", nil, "none", "destroyed" }, -- there is no way back
  { "destroyed", "destroyed", "absent", nil, "none", "destroyed" },
  { "destroyed", "running", "running", nil, "none", "destroyed" },
}

describe("decide_instance", function()
  for _, row in ipairs(ROWS) do
    local state, desired, seen, more, op, to = row[1], row[2], row[3], row[4], row[5], row[6]
    local note = more == never and ", never operated" or more == older and ", an older generation"
      or more == moved and ", another release" or more == unstarted and ", not started" or ""
    it(("%s, wanted %s, seen %s%s: %s, then %s"):format(state, desired, seen, note, op, to), function()
      local decision = decide(state, desired, seen, more)
      assert.same({ op, to }, { decision.op, decision.state })
      assert.is_true(model.transition("instance", state, decision.state))
    end)
  end

  it("settles from every state in a few steps, whatever is seen, and never repeats a state", function()
    for _, state in ipairs(model.states.instance) do
      for _, desired in ipairs { "running", "stopped", "destroyed" } do
        for _, seen in ipairs { "unknown", "absent", "starting", "running", "stopped", "failed", "lost" } do
          local now, steps = state, 0
          repeat
            local decision = decide(now, desired, seen)
            assert.is_true(model.transition("instance", now, decision.state))
            local moved_on = decision.state ~= now and decision.op == "none"
            now, steps = decision.state, steps + 1
            assert.is_true(steps < 5, ("%s, wanted %s, seen %s walks in a circle"):format(state, desired, seen))
          until not moved_on
        end
      end
    end
  end)

  it("hands on what the provider says, and says why itself where the provider is silent", function()
    assert.equal("no such file", decide("starting", "running", "failed", { message = "no such file" }).message)
    assert.equal("it gave up", decide("starting", "running", "failed").message)
    assert.equal("it gave up", decide("stopping", "stopped", "failed", { message = "" }).message)
    assert.equal("back-off 4 s", decide("running", "running", "starting", { message = "back-off 4 s" }).message)
    assert.matches("vanished", decide("running", "running", "absent").message)
    assert.matches("went away", decide("running", "running", "lost").message)
  end)

  it("refuses words it does not know", function()
    local decision, err = model.decide_instance { state = "runing" }
    assert.is_nil(decision)
    assert.same({ "invalid", "state", "did you mean 'running'?" }, { err.code, err.field, err.hint })
  end)
end)
