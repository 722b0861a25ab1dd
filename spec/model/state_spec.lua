--- The three state machines: every pair of states, allowed or refused.
local model = require("ctrlplane.core").model

local NEXT = {
  workload = {
    provisioning = "active failed deploying scaling paused destroying",
    active = "scaling deploying paused destroying failed",
    scaling = "active deploying paused failed destroying",
    deploying = "active paused failed destroying",
    paused = "scaling active deploying destroying",
    failed = "destroying provisioning scaling deploying active paused",
    destroying = "destroyed failed",
    destroyed = "",
  },
  instance = {
    provisioning = "starting failed destroying",
    starting = "running failed stopping destroying",
    running = "stopping stopped failed destroying",
    stopping = "stopped failed destroying",
    stopped = "starting destroying",
    failed = "starting provisioning destroying",
    destroying = "destroyed failed",
    destroyed = "",
  },
  deployment = {
    pending = "running failed cancelled",
    running = "paused succeeded failed rolled_back cancelled",
    paused = "running succeeded rolled_back cancelled failed",
    succeeded = "",
    failed = "",
    rolled_back = "",
    cancelled = "",
  },
}

for entity, machine in pairs(NEXT) do
  describe("a " .. entity, function()
    for from, words in pairs(machine) do
      it(("that is %s may become what the table says and nothing else"):format(from), function()
        local allowed = { [from] = true } -- the same state is allowed and does nothing
        for word in words:gmatch "%S+" do
          allowed[word] = true
        end
        for _, to in ipairs(model.states[entity]) do
          local ok, err = model.transition(entity, from, to)
          assert.equal(allowed[to], ok, from .. " -> " .. to)
          if not allowed[to] then
            assert.equal("invalid_state", err.code)
            assert.matches(("^%s is %s and cannot become %s"):format(entity, from, to), err.message)
          end
        end
      end)
    end
  end)
end

describe("a refusal", function()
  it("names what is allowed", function()
    local _, err = model.transition("instance", "stopped", "running")
    assert.equal("instance is stopped and cannot become running; allowed: starting, destroying", err.message)
  end)

  it("says that a state is final", function()
    local _, err = model.transition("deployment", "failed", "running")
    assert.equal("deployment is failed and cannot become running; failed is final", err.message)
  end)

  it("raises for words that are no states", function()
    assert.has_error(function() model.transition("workload", "activ", "paused") end,
      "'activ' is no state; did you mean 'active'?")
    assert.error_matches(function() model.transition("house", "built", "sold") end, "'house' is no entity")
  end)
end)
