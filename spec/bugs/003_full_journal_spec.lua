-- A script that caught the error of a full journal was let go on for ever, and the loop with it.
local lab = require "spec.support.lab"
local rollouts = require "spec.support.rollouts"

describe("a script whose journal is full", function()
  local plane
  before_each(function() plane = lab.open { seed = 5 } end)
  after_each(function() lab.close(plane) end)

  it("ends there, whatever it catches", function()
    local web = lab.workload(plane)
    local body = "while true do pcall(function() rollout:log 'again' end) end"
    local deployment = assert(rollouts.deploy(plane, web, body, { on_failure = "fail" }))
    local ended = rollouts.settle(plane, deployment)
    assert.same({ "failed", "too_large" }, { ended.state, ended.error.code })
    assert.matches("at most 10000 commands", ended.message, 1, true)
    assert.matches("mine.lua:2", ended.error.details.where, 1, true)
  end)
end)
