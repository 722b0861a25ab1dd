--- decide_workload against the cases of other engines' tests (rolling arithmetic, 1-16), and against the rules that are
--- our own: replacement, unseen instances, stateful sets in place, restarts, blocks.
local model = require("ctrlplane.core").model
local world = require "spec.support.world"

local decide, set, some = world.decide, world.set, world.some

local function acts(output, act, release)
  return world.count(output, act, release)
end

local function guards(input)
  return { model.guards(input) }
end

local function block(output, guard)
  for _, row in ipairs(output.blocks) do
    if row.guard == guard then
      return row
    end
  end
end

local function goals(input)
  local result = {}
  for _, count in ipairs(decide(input).sets) do
    result[#result + 1] = count.goal
  end
  return result
end

describe("rolling arithmetic", function()
  it("rounds surge up and unavailable down (case 1)", function()
    assert.same({ 4, 3 }, guards { replicas = 10, surge = "39%", unavailable = "39%" })
    assert.same({ 0, 3 }, guards { replicas = 10, unavailable = "39%" })
    assert.same({ 10, 0 }, guards { replicas = 10, surge = "100%", unavailable = "0%" })
  end)

  it("lets one be unavailable when both guards come to nothing (case 2)", function()
    assert.same({ 0, 1 }, guards { replicas = 10 })
    assert.same({ 0, 1 }, guards { replicas = 0, surge = "0%", unavailable = "0%" })
    assert.same({ 0, 1 }, guards { replicas = 2, surge = 0, unavailable = "1%" })
  end)

  it("takes no nonsense for a share (case 3)", function()
    for _, field in ipairs { "surge", "unavailable" } do
      local output, err = model.decide_workload { replicas = 10, [field] = "oops" }
      assert.is_nil(output)
      assert.equal("invalid", err.code)
      assert.equal(field, err.field)
      assert.matches("oops", err.message)
    end
  end)

  it("adds nothing at the ceiling, and never more than N (case 4)", function()
    local crowded = decide {
      replicas = 1,
      surge = 1,
      sets = { set("new", "100%"), set("old", 0) },
      instances = { some("new", 5), some("old", 5) },
    }
    assert.equal(0, acts(crowded, "create"))
    local roomy = decide {
      replicas = 6,
      surge = 10,
      sets = { set("new", "100%"), set("old", "100%") },
      instances = { some("new", 2), some("old", 5) },
    }
    assert.equal(4, acts(roomy, "create", "new"))
  end)

  it("freezes the old while the new crash (case 5)", function()
    local input = {
      replicas = 10,
      surge = 3,
      unavailable = 2,
      sets = { set("new", "100%"), set("old", 0) },
      instances = { some("new", 5, { ready = false, available = false }), some("old", 8) },
    }
    local output = decide(input)
    assert.equal(0, acts(output, "destroy"))
    assert.equal("unavailable", output.blocks[1].guard)
    assert.same({ 8, 9 }, { output.blocks[1].value, output.blocks[1].needed })
    assert.matches("^8 instances are to go; 8 are available and 8 must stay so$", output.blocks[1].message)
    input.instances = { some("new", 5, { ready = false, available = false }), some("old", 7),
      some("old", 1, { ready = false, available = false, from = 7 }) }
    assert.equal(0, acts(decide(input), "destroy"), "13 - 8 - 5 = 0: an old one that died frees nobody")
    input.instances = { some("new", 5, { ready = false, available = false, failing = true }), some("old", 8) }
    local failing = decide(input)
    assert.equal(0, acts(failing, "destroy"))
    assert.is_truthy(block(failing, "unhealthy"))
  end)

  it("undoes that with the crashing ones first (case 6)", function()
    local input = {
      replicas = 10,
      surge = 3,
      unavailable = 2,
      returning = true,
      sets = { set("new", 0), set("old", "100%") },
      instances = { some("new", 5, { ready = false, available = false, failing = true }), some("old", 7),
        some("old", 1, { ready = false, available = false, from = 7 }) },
    }
    local output = decide(input)
    assert.equal(4, acts(output, "destroy", "new"))
    assert.equal(0, acts(output, "destroy", "old"))
    assert.equal(0, acts(output, "create"), "13 are live: the ceiling")
    input.instances[1] = some("new", 1, { ready = false, available = false, failing = true })
    assert.equal(2, acts(decide(input), "create", "old"), "then the old set grows back")
  end)

  it("rolls over at the ceiling: the third starts when others went (case 7)", function()
    local input = {
      replicas = 10,
      surge = 3,
      unavailable = 2,
      sets = { set("new", "100%"), set("abandoned", 0), set("old", 0) },
      instances = { some("abandoned", 5), some("old", 8) },
    }
    local output = decide(input)
    assert.equal(0, acts(output, "create"))
    assert.equal(5, acts(output, "destroy"))
    assert.equal(5, acts(output, "destroy", "abandoned"))
    assert.is_truthy(block(output, "ceiling"))
    input.instances = { some("old", 8) }
    assert.equal(5, acts(decide(input), "create", "new"))
  end)
end)

describe("held sizes", function()
  local function held(replicas, was, sizes, surge)
    local roles = { "new", "old", "abandoned" }
    local sets = {}
    for i, size in ipairs(sizes) do
      sets[i] = set(roles[i], nil, { held = size, order = 10 - i })
    end
    return goals { replicas = replicas, held_replicas = was, holding = true, surge = surge or 0, unavailable = 1,
      sets = sets }
  end

  it("scale in proportion (case 8)", function()
    assert.same({ 4, 6 }, held(10, 5, { 2, 3 }))
    assert.same({ 1, 2 }, held(3, 5, { 2, 3 }))
    assert.same({ 4, 0 }, held(4, 9, { 8, 1 }))
    assert.same({ 3, 4, 3 }, held(10, 7, { 2, 3, 2 }))
  end)

  it("give leftovers to the newest and take them from the oldest (case 9)", function()
    assert.same({ 2, 1, 1 }, held(4, 3, { 1, 1, 1 }))
    assert.same({ 1, 1, 0 }, held(2, 3, { 1, 1, 1 }))
    assert.same({ 3, 2 }, goals {
      replicas = 5,
      held_replicas = 4,
      holding = true,
      sets = { set("old", nil, { held = 2, order = 2, release_id = "a" }),
        set("abandoned", nil, { held = 2, order = 1, release_id = "b" }) },
    })
  end)

  it("come down to nothing and back to what they were (case 10)", function()
    assert.same({ 0, 0, 0 }, held(0, 6, { 3, 2, 1 }))
    assert.same({ 3, 2, 1 }, held(6, 6, { 3, 2, 1 }))
    assert.same({ 6, 0 }, goals {
      replicas = 6,
      holding = true,
      sets = { set("new", "100%", { held = 0 }), set("old", 0, { held = 0 }) },
    }, "held at none: goals apply")
  end)

  it("follow size and surge at once, above N while they were above it (case 11)", function()
    assert.same({ 22, 34 }, held(50, 10, { 5, 8 }, 6))
    assert.same({ 5, 8 }, held(10, 10, { 5, 8 }, 3), "N did not change")
  end)

  it("make do without the count they were held at", function()
    assert.same({ 4, 6 }, held(10, nil, { 2, 3 }))
    assert.same({ 5, 8 }, held(10, nil, { 5, 8 }, 3))
    assert.same({ 4, 7 }, held(10, nil, { 5, 8 }, 1))
  end)

  it("replace a crash in its own set", function()
    local output = decide {
      replicas = 5,
      held_replicas = 5,
      holding = true,
      unavailable = 1,
      sets = { set("new", "100%", { held = 2 }), set("old", 0, { held = 3 }) },
      instances = { some("new", 1), some("old", 3) },
    }
    assert.equal(1, acts(output, "create", "new"))
    assert.equal(1, output.actions[1].replica_index)
    assert.equal(0, acts(output, "destroy"))
  end)

  it("shrink with N even beside a new one that fails", function()
    local output = decide {
      replicas = 3,
      held_replicas = 5,
      holding = true,
      unavailable = 1,
      sets = { set("new", "100%", { held = 2 }), set("old", 0, { held = 3 }) },
      instances = { some("new", 1), some("new", 1, { from = 1, ready = false, available = false, failing = true }),
        some("old", 3) },
    }
    assert.equal(1, acts(output, "destroy", "old"))
    assert.equal(1, acts(output, "destroy", "new"))
  end)
end)

describe("a saturated rollout", function()
  it("keeps the old one while the new are broken (case 12)", function()
    local output = decide {
      replicas = 2,
      surge = 1,
      unavailable = 1,
      sets = { set("new", "100%"), set("old", 0) },
      instances = { some("new", 2, { ready = false, available = false }), some("old", 1) },
    }
    assert.equal(0, #output.actions)
    assert.is_false(output.reached)
  end)

  it("is complete when it is complete (case 13)", function()
    local function reached(replicas, new, available, old, unavailable)
      return decide({
        replicas = replicas,
        unavailable = unavailable,
        surge = 1,
        sets = { set("new", "100%"), set("old", 0) },
        instances = { some("new", available), some("new", new - available,
          { from = available, ready = false, available = false }), some("old", old) },
      }).reached
    end
    assert.is_false(reached(5, 5, 4, 0, 1))
    assert.is_false(reached(1, 1, 1, 1, 0))
    assert.is_true(reached(5, 5, 5, 0, 0))
  end)

  it("knows progress from a new best (case 14)", function()
    local function numbers(new, ready, available, old)
      return {
        sets = {
          { release_id = "new", role = "new", live = new, ready = ready, available = available },
          { release_id = "old", role = "old", live = old },
        },
      }
    end
    local made, best = model.progress(nil, numbers(4, 3, 3, 6))
    assert.is_true(made)
    local function progress(...)
      return (model.progress(best, numbers(...)))
    end
    assert.is_false(progress(4, 3, 3, 6), "nothing changed")
    assert.is_true(progress(6, 3, 3, 6), "more new")
    assert.is_true(progress(4, 3, 3, 4), "fewer old")
    assert.is_true(progress(4, 4, 3, 6), "more ready")
    assert.is_true(progress(4, 3, 4, 6), "more available")
    assert.is_false(progress(3, 3, 3, 6), "fewer new")
    local _, low = model.progress(best, numbers(2, 1, 1, 6))
    assert.same(best, low, "falling back changes no best")
    assert.is_false((model.progress(low, numbers(4, 3, 3, 6))), "flapping is not progress")
  end)

  it("counts healthy ones against the budget (case 15)", function()
    for healthy = 0, 4 do
      local input = {
        replicas = 10,
        unavailable = 4,
        sets = { set("new", "100%"), set("old", 0) },
        instances = { some("new", healthy), some("new", 4 - healthy,
          { from = healthy, ready = false, available = false }), some("old", 6) },
      }
      assert.equal(healthy, acts(decide(input), "destroy", "old"), healthy .. " healthy")
      input.instances[3] = some("old", 6)
      if healthy > 0 then
        input.instances[1] = some("new", healthy - 1)
        input.instances[4] = some("new", 1, { from = 8, ready = false, available = false, failing = true })
        local output = decide(input)
        assert.equal(0, acts(output, "destroy"), "one is unhealthy")
        assert.is_truthy(block(output, "unhealthy").instance_id)
      end
    end
  end)

  it("makes what is missing before it replaces (case 16)", function()
    local output = decide {
      replicas = 10,
      unavailable = 4,
      sets = { set("new", "100%"), set("old", 0) },
      instances = { some("old", 7) },
    }
    assert.equal(3, acts(output, "create", "new"))
    assert.equal(1, acts(output, "destroy", "old"))
    assert.equal("create", output.actions[1].act, "up comes first")
    local both = decide {
      replicas = 2,
      surge = 1,
      sets = { set("old", "100%"), set("new", 1), set("abandoned", 0) },
    }
    assert.equal("new", both.actions[1].release_id, "the newest first")
    assert.equal(3, acts(both, "create"))
  end)
end)

describe("goals", function()
  local function pair(replicas, share, surge, old)
    return goals { replicas = replicas, surge = surge, sets = { set("new", share), set("old", old) } }
  end

  it("split a share by largest remainder, and empty neither side (case 17)", function()
    assert.same({ 0, 1 }, pair(1, "49%"))
    assert.same({ 1, 0 }, pair(1, "50%"))
    assert.same({ 1, 1 }, pair(1, "1%", 1))
    assert.same({ 1, 1 }, pair(1, "99%", 1))
    assert.same({ 2, 1 }, pair(3, "50%"))
    assert.same({ 2, 1 }, pair(3, "50%", 1))
    assert.same({ 1, 1 }, pair(2, "1%"))
    assert.same({ 1, 1 }, pair(2, "99%"))
    assert.same({ 1, 9 }, pair(10, "1%"))
    assert.same({ 9, 1 }, pair(10, "99%"))
    assert.same({ 0, 0 }, pair(0, "50%"))
    assert.same({ 0, 5 }, pair(5, "0%"))
    assert.same({ 5, 0 }, pair(5, "100%"))
    assert.same({ 3, 7 }, pair(10, "33.3%", 0, "66.7%"))
  end)

  it("leave to old what a count does not take", function()
    assert.same({ 3, 7 }, pair(10, 3))
    assert.same({ 10, 0 }, pair(10, 12))
    assert.same({ 3, 17 }, pair(20, 3), "the count stays when N grows")
  end)

  it("round a launch up and keep the old set whole", function()
    local function launch(replicas, share, surge)
      return goals {
        replicas = replicas,
        surge = surge,
        sets = { set("new", share, { round_up = true }), set("old", "100%") },
      }
    end
    assert.same({ 2, 3 }, launch(3, "50%", "100%"))
    assert.same({ 1, 10 }, launch(10, "1%", 1))
    assert.same({ 1, 3 }, launch(3, "50%", 1), "the sum stays within N + surge")
    assert.same({ 4, 6 }, goals {
      replicas = 10,
      sets = { set("new", "33%", { round_up = true }), set("old") },
    })
  end)

  it("retire at least one and leave at least one", function()
    local function retire(replicas, rest)
      local new, old = unpack(goals {
        replicas = replicas,
        surge = "100%",
        sets = { set("new", "100%"), set("old", rest) },
      })
      assert.equal(replicas, new)
      return old
    end
    assert.equal(9, retire(10, "99%"))
    assert.equal(1, retire(2, "99%"))
    assert.equal(1, retire(10, "1%"))
    assert.equal(2, retire(3, "50%"))
    assert.equal(0, retire(1, "1%"))
    assert.equal(1, retire(1, "99%"))
    assert.equal(0, retire(10, "0%"))
  end)

  it("give the newer of two the leftover, and an abandoned set nothing", function()
    assert.same({ 1, 2, 0 }, goals {
      replicas = 3,
      sets = { set("old", "50%", { release_id = "a", order = 1 }), set("new", "50%", { order = 2 }),
        set("abandoned", "50%") },
    })
    assert.same({ 2, 1 }, goals {
      replicas = 3,
      sets = { set("new", "50%", { order = 1 }), set("old", "50%", { order = 1 }) },
    }, "of the same age: new")
  end)

  it("without a share: an old set has all, a new one nothing", function()
    assert.same({ 4 }, goals { replicas = 4, sets = { set("old") } })
    assert.same({ 0 }, goals { replicas = 4, sets = { set("new") } })
    assert.same({}, goals { replicas = 4 })
  end)

  it("are refused with the numbers when the guards can never allow them", function()
    local function check(new, old, surge, unavailable)
      return model.check_goals { replicas = 10, surge = surge, unavailable = unavailable, new = new, old = old }
    end
    assert.is_true(check(5, 5))
    assert.is_true(check(3, 10, 3))
    local _, above = check(5, 10, 3)
    assert.equal("denied", above.code)
    assert.matches("new 5 %+ old 10 = 15 .*10 replicas %+ surge 3 = 13", above.message)
    local _, below = check(0, 5, 0, 2)
    assert.equal("denied", below.code)
    assert.matches("10 replicas %- unavailable 2 = 8", below.message)
    local _, wrong = model.check_goals { replicas = "x" }
    assert.equal("invalid", wrong.code)
  end)
end)

describe("a deployment", function()
  local function steady(replicas, instances, more)
    local input = { replicas = replicas, surge = "25%", sets = { set("new", "100%") }, instances = instances }
    for key, value in pairs(more or {}) do
      input[key] = value
    end
    return decide(input)
  end

  it("takes the lowest free indices", function()
    local output = steady(5, { some("new", 1), some("new", 1, { from = 3 }) })
    assert.same({ 1, 2, 4 }, world.indices(output, "create"))
  end)

  it("replaces what gave up under the same index, once it is gone", function()
    local output = steady(3, { some("new", 2), some("new", 1, { from = 2, state = "failed", ready = false,
      available = false }) })
    assert.same({ 2 }, world.indices(output, "destroy"))
    assert.equal("failed", output.actions[1].reason)
    assert.equal(0, acts(output, "create"))
    local later = steady(3, { some("new", 2), some("new", 1, { from = 2, state = "destroying", desired = "destroyed" }) })
    assert.equal(0, #later.actions)
    assert.equal("stopping", later.blocks[2].guard)
    assert.same({ 2 }, world.indices(steady(3, { some("new", 2) }), "create"))
  end)

  it("does not wait for a twin on the way out when the index is held anyway", function()
    for _, order in ipairs { { 1, 2 }, { 2, 1 } } do
      local twins = { some("new", 1, { state = "destroying" }), some("new", 1) }
      local output = steady(2, { twins[order[1]], twins[order[2]] })
      assert.same({ 1 }, world.indices(output, "create"))
      assert.is_false(output.reached)
    end
  end)

  it("lets what gave up go once", function()
    local output = steady(1, { some("new", 1, { state = "failed", desired = "destroyed", ready = false,
      available = false }) })
    assert.same({}, output.actions)
  end)

  it("lets a ready one that keeps crashing go like any other", function()
    local output = steady(1, { some("new", 1), some("new", 1, { from = 1, failing = true }) })
    assert.same({ 1 }, world.indices(output, "destroy"))
    assert.equal(1, output.sets[1].healthy)
  end)

  it("waits with the healthy when a new one fails, but not on the way back nor when held", function()
    local function blocks(more)
      local input = {
        replicas = 4,
        unavailable = 1,
        sets = { set("old", 0, { held = 1 }), set("new", "100%", { held = 3 }) },
        instances = { some("old", 4), some("new", 1, { ready = false, available = false, failing = true }) },
      }
      for key, value in pairs(more) do input[key] = value end
      local output = decide(input)
      return acts(output, "destroy", "old"), block(output, "unhealthy") and "unhealthy", block(output, "unavailable")
        and "unavailable"
    end
    assert.same({ 0, "unhealthy" }, { blocks {} })
    assert.same({ 1, nil, "unavailable" }, { blocks { returning = true } })
    assert.same({ 1, nil, "unavailable" }, { blocks { holding = true, held_replicas = 4 } })
    local order = decide { replicas = 2, returning = true, surge = 2, sets = { set("old", "100%"), set("new", "50%") } }
    assert.same({ "old", "old", "new" }, { order.actions[1].release_id, order.actions[2].release_id,
      order.actions[3].release_id })
    local reversed = decide { replicas = 2, returning = true, surge = 2, sets = { set("new", 1), set("old", "100%") } }
    assert.equal("old", reversed.actions[1].release_id)
  end)

  it("scales down not-ready ones first, then the highest indices", function()
    local output = steady(3, { some("new", 5), some("new", 1, { from = 5, ready = false, available = false }),
      some("new", 1, { from = 6 }) })
    assert.same({ 5, 6, 4, 3 }, world.indices(output, "destroy"))
    assert.equal("scale_down", output.actions[1].reason)
  end)

  it("stops the younger of two with the same index", function()
    local function order(a, b)
      return steady(1, { some("new", 1, { id = "a", created_at = a }), some("new", 1, { id = "b", created_at = b }) })
    end
    assert.equal("b", order(1, 2).actions[1].instance_id)
    assert.equal("a", order(2, 1).actions[1].instance_id)
    assert.equal(1, #order(1, 1).actions)
  end)

  it("stops ready ones before available ones", function()
    local output = steady(1, { some("new", 1, { available = false }), some("new", 1, { from = 1 }),
      some("new", 1, { from = 2, available = false }) })
    assert.same({ 2, 0 }, world.indices(output, "destroy"))
  end)

  it("destroys everything when it is stopped or scaled to none, and starts nothing", function()
    for _, how in ipairs { { stopped = true }, { replicas = 0 } } do
      local output = steady(3, { some("new", 2), some("new", 1, { from = 2, desired = "destroyed" }) }, how)
      assert.equal(2, #output.actions)
      assert.equal(2, acts(output, "destroy"))
      assert.equal("stopping", output.blocks[1].guard)
      assert.is_false(output.reached)
      local gone = steady(3, {}, how)
      assert.same({}, gone.actions)
      assert.is_true(gone.reached)
    end
  end)

  it("stops nothing while an instance is unseen, and says which", function()
    local instances = { some("new", 4), some("new", 1, { from = 4, seen = false, state = "running" }) }
    local output = steady(3, instances)
    assert.same({}, output.actions)
    assert.equal("unseen", output.blocks[1].guard)
    assert.equal("new-4", output.blocks[1].instance_id)
    assert.same({ 1, 0 }, { output.blocks[1].value, output.blocks[1].needed })
    local fresh = steady(3, { some("new", 3), some("new", 1, { from = 3, seen = false, state = "provisioning" }) })
    assert.same({ 3 }, world.indices(fresh, "destroy"), "one being made is surely not available yet")
  end)

  it("does not call an unseen instance available", function()
    local output = steady(1, { some("new", 1, { seen = false }) })
    assert.is_false(output.reached)
    assert.equal("unseen", output.blocks[1].guard)
    assert.equal("min_ready", output.blocks[2].guard)
  end)

  it("lets instances of a release without a set go", function()
    local output = steady(2, { some("new", 2), some("ghost", 1) })
    assert.equal(1, acts(output, "destroy"))
    assert.equal("ghost-0", output.actions[1].instance_id)
  end)

  it("keeps the floor among available ones of one set", function()
    local output = steady(5, { some("new", 6, { ready = true, available = false }), some("new", 4, { from = 6 }) })
    assert.equal(5, acts(output, "destroy"), "those that are not available cost nothing")
    local tight = steady(5, { some("new", 6) }, { surge = 1, sets = { set("new", 3) } })
    assert.equal(1, acts(tight, "destroy"))
    assert.equal("unavailable", tight.blocks[1].guard)
  end)

  it("replaces old ones of a lower rank first", function()
    local output = decide {
      replicas = 4,
      surge = 4,
      unavailable = 4,
      returning = true,
      sets = { set("new", 0), set("abandoned", 0), set("old", 1) },
      instances = { some("new", 2), some("abandoned", 1), some("old", 2) },
    }
    assert.same({ "abandoned-0", "new-1", "new-0", "old-1" }, world.ids(output, "destroy"))
  end)

  it("waits for min_ready and says so", function()
    local output = steady(2, { some("new", 1), some("new", 1, { from = 1, available = false }) })
    assert.is_false(output.reached)
    assert.equal("min_ready", output.blocks[1].guard)
    assert.equal("new-1", output.blocks[1].instance_id)
    assert.same({ 1, 2 }, { output.blocks[1].value, output.blocks[1].needed })
  end)

  it("names the lowest instance that is not ready", function()
    local output = steady(3, { some("new", 1, { from = 2, ready = false, available = false }),
      some("new", 1, { from = 1, ready = false, available = false }), some("new", 1) })
    assert.equal("ready", output.blocks[1].guard)
    assert.equal("new-1", output.blocks[1].instance_id)
  end)
end)

describe("a stateful set", function()
  local function stateful(input)
    input.kind = "stateful_set"
    return decide(input)
  end

  it("has surge 0 and unavailable 1 whatever is asked", function()
    assert.same({ 0, 1 }, guards { kind = "stateful_set", replicas = 10, surge = "50%", unavailable = 5 })
  end)

  it("updates in place, one at a time, from the highest index", function()
    local input = { replicas = 3, sets = { set("new", "100%"), set("old", 0) }, instances = { some("old", 3) } }
    local output = stateful(input)
    assert.equal(1, #output.actions)
    assert.same({ "update", "old-2", "new" },
      { output.actions[1].act, output.actions[1].instance_id, output.actions[1].release_id })
    input.instances = { some("old", 2), some("new", 1, { from = 2, ready = false, available = false }) }
    assert.same({}, stateful(input).actions)
    input.instances = { some("old", 2), some("new", 1, { from = 2 }) }
    assert.same({ 1 }, world.indices(stateful(input), "update"))
  end)

  it("updates what is not ready first", function()
    local output = stateful {
      replicas = 3,
      sets = { set("new", "100%"), set("old", 0) },
      instances = { some("old", 1, { ready = false, available = false }), some("old", 2, { from = 1 }) },
    }
    assert.same({ 0 }, world.indices(output, "update"))
  end)

  it("updates no old one while a new one fails", function()
    local output = stateful {
      replicas = 3,
      sets = { set("new", "100%"), set("old", 0) },
      instances = { some("old", 2), some("new", 1, { from = 2, failing = true }) },
    }
    assert.same({}, output.actions)
    assert.is_truthy(block(output, "unhealthy"))
  end)

  it("goes back in place, the broken one first", function()
    local output = stateful {
      replicas = 3,
      returning = true,
      sets = { set("new", 0), set("old", "100%") },
      instances = { some("old", 1), some("new", 1, { from = 1 }),
        some("new", 1, { from = 2, ready = false, available = false, failing = true }) },
    }
    assert.same({ 2 }, world.indices(output, "update"))
    assert.equal("old", output.actions[1].release_id)
  end)

  it("scales down from the highest index, whatever is ready and whatever its release", function()
    local output = stateful {
      replicas = 3,
      sets = { set("new", "100%"), set("old", 0) },
      instances = { some("old", 3), some("new", 2, { from = 3 }) },
    }
    assert.same({ 4, 3 }, world.indices(output, "destroy"))
    assert.equal("scale_down", output.actions[1].reason)
    assert.same({ 2 }, world.indices(output, "update"))
    local one = stateful {
      replicas = 2,
      sets = { set("new", "100%") },
      instances = { some("new", 1, { ready = false, available = false }), some("new", 2, { from = 1 }) },
    }
    assert.same({ 2 }, world.indices(one, "destroy"))
  end)

  it("waits with the next index while the floor holds", function()
    local output = stateful {
      replicas = 3,
      sets = { set("new", "100%") },
      instances = { some("new", 2, { ready = false, available = false }), some("new", 3, { from = 2 }) },
    }
    assert.same({ 4 }, world.indices(output, "destroy"))
    assert.equal("unavailable", output.blocks[1].guard)
    local broken = stateful {
      replicas = 2,
      sets = { set("new", "100%") },
      instances = { some("new", 2), some("new", 2, { from = 2, ready = false, available = false }) },
    }
    assert.same({ 3, 2 }, world.indices(broken, "destroy"), "they are not available: they cost nothing")
    local half = stateful {
      replicas = 3,
      sets = { set("new", "100%") },
      instances = { some("new", 1), some("new", 2, { from = 1, ready = false, available = false }),
        some("new", 2, { from = 3 }) },
    }
    assert.same({ 4 }, world.indices(half, "destroy"), "three are available, two must stay so")
    assert.same({ 2, 3 }, { block(half, "unavailable").value, block(half, "unavailable").needed })
    local stuck = stateful {
      replicas = 2,
      sets = { set("new", "100%") },
      instances = { some("new", 1), some("new", 1, { from = 1, ready = false, available = false }),
        some("new", 1, { from = 2 }) },
    }
    assert.same({ 2 }, world.indices(stuck, "destroy"))
  end)

  it("makes again what is missing, under its index, of the release that lacks it", function()
    local output = stateful {
      replicas = 4,
      sets = { set("new", "50%"), set("old") },
      instances = { some("old", 2), some("new", 1, { from = 3 }) },
    }
    assert.same({ 2 }, world.indices(output, "create"))
    assert.equal("new", output.actions[1].release_id)
  end)

  it("makes an index again when its holder is gone, also above N", function()
    local instances = { some("new", 1), some("new", 1, { from = 1, state = "failed", ready = false,
      available = false }), some("new", 1, { from = 2 }) }
    local output = stateful { replicas = 2, sets = { set("new", "100%") }, instances = instances }
    assert.same({ 1, 2 }, world.indices(output, "destroy"))
    local full = stateful { replicas = 2, sets = { set("new", "100%") }, instances = { some("new", 1),
      some("new", 1, { from = 2, desired = "destroyed" }) } }
    assert.same({}, full.actions)
    assert.equal("ceiling", full.blocks[1].guard)
    local twin = stateful { replicas = 2, sets = { set("new", "100%") }, instances = { some("new", 1),
      some("new", 1, { desired = "destroyed" }), some("new", 1, { desired = "destroyed", from = 1 }) } }
    assert.same({}, twin.actions)
  end)

  it("retires without a successor, and launches the same indices again", function()
    local output = stateful { replicas = 3, sets = { set("new", 0), set("old", 2) }, instances = { some("old", 3) } }
    assert.same({ 2 }, world.indices(output, "destroy"))
    assert.equal("replaced", output.actions[1].reason)
    local again = stateful { replicas = 3, sets = { set("new", "100%"), set("old", 0) }, instances = { some("old", 2) } }
    assert.same({ 2 }, world.indices(again, "create"))
    assert.equal("new", again.actions[1].release_id)
  end)

  it("retires no more than lacks a successor", function()
    local output = stateful {
      replicas = 5,
      sets = { set("new", 1), set("old", 3) },
      instances = { some("old", 3, { ready = false, available = false }), some("old", 2, { from = 3 }) },
    }
    assert.equal(1, acts(output, "update"))
    assert.equal(0, acts(output, "destroy"), "one act used the budget")
  end)

  it("stops nothing while an instance is unseen", function()
    local output = stateful {
      replicas = 2,
      sets = { set("new", "100%"), set("old", 0) },
      instances = { some("old", 1), some("old", 1, { from = 1, seen = false }) },
    }
    assert.same({}, output.actions)
    assert.equal("unseen", output.blocks[1].guard)
  end)

  it("is reached when every index runs the release", function()
    assert.is_true(stateful({ replicas = 2, sets = { set("new", "100%") }, instances = { some("new", 2) } }).reached)
  end)
end)

describe("a restart", function()
  local function restart(instances, more)
    local input = { replicas = 3, generation = 2, sets = { set("new", "100%") }, instances = instances }
    for key, value in pairs(more or {}) do
      input[key] = value
    end
    return decide(input)
  end

  it("brings one instance after the other to the generation", function()
    local output = restart { some("new", 3, { generation = 1 }) }
    assert.same({ 0 }, world.indices(output, "restart"))
    assert.is_false(output.reached)
    assert.equal("restart", output.blocks[1].guard)
    assert.same({ 0, 3 }, { output.blocks[1].value, output.blocks[1].needed })
    assert.equal("0 of 3 instances are restarted", output.blocks[1].message)
    local waiting = restart { some("new", 1, { generation = 2, ready = false, available = false }),
      some("new", 2, { from = 1, generation = 1 }) }
    assert.same({}, waiting.actions)
    local unseen = restart { some("new", 1, { generation = 2, seen = false }),
      some("new", 2, { from = 1, generation = 1 }) }
    assert.same({}, unseen.actions)
    local second = restart { some("new", 1, { generation = 2 }), some("new", 2, { from = 1, generation = 1 }) }
    assert.same({ 1 }, world.indices(second, "restart"))
    assert.is_true(restart({ some("new", 3, { generation = 2 }) }).reached)
  end)

  it("takes as many at a time as asked, not-ready ones first", function()
    local output = restart({ some("new", 2, { generation = 1 }),
      some("new", 1, { from = 2, generation = 1, ready = false, available = false }) }, { restart_parallel = 2 })
    assert.same({ 2, 0 }, world.indices(output, "restart"))
    local mixed = restart({ some("new", 1, { generation = 1, ready = false, available = false }),
      some("new", 2, { from = 1, generation = 1 }), some("new", 1, { from = 3, generation = 1, ready = false,
        available = false }) }, { restart_parallel = 4, replicas = 4 })
    assert.same({ 0, 3, 1, 2 }, world.indices(mixed, "restart"))
    local reversed = restart({ some("new", 1, { from = 2, generation = 1 }), some("new", 1, { from = 1, generation = 1 }),
      some("new", 1, { generation = 1 }) }, { restart_parallel = 5 })
    assert.same({ 0, 1, 2 }, world.indices(reversed, "restart"))
  end)

  it("leaves alone what is unseen or on its way out", function()
    local output = restart { some("new", 1, { generation = 1, desired = "destroyed" }),
      some("new", 1, { from = 1, generation = 1, seen = false }), some("new", 1, { from = 2, generation = 1 }) }
    assert.same({}, world.indices(output, "restart"))
    output = restart({ some("new", 1, { generation = 1, desired = "destroyed" }),
      some("new", 1, { from = 1, generation = 1, seen = false }), some("new", 1, { from = 2, generation = 1 }) },
      { restart_parallel = 3 })
    assert.same({ 2 }, world.indices(output, "restart"))
  end)

  it("takes none down while another one is missing, not seen yet or not ready", function()
    local ready = some("new", 2, { generation = 1 })
    local unready = some("new", 1, { from = 2, generation = 1, ready = false, available = false })
    assert.same({}, world.indices(restart { ready }, "restart")) -- the third one is being made
    assert.same({}, world.indices(restart { ready, some("new", 1, { from = 2, generation = 1, seen = false }) }, "restart"))
    assert.same({ 2 }, world.indices(restart { ready, unready }, "restart")) -- that one costs nothing
    assert.same({ 2 }, world.indices(restart({ ready, unready }, { replicas = 4, restart_parallel = 2 }), "restart"))
    assert.same({ 0 }, world.indices(restart({ ready }, { restart_parallel = 2 }), "restart"))
  end)

  it("names the lowest index it has not reached", function()
    local output = restart { some("new", 1, { from = 2, generation = 1 }), some("new", 1, { from = 1, generation = 1 }),
      some("new", 1, { generation = 2 }) }
    assert.equal("new-1", block(output, "restart").instance_id)
    assert.same({ 1, 3 }, { block(output, "restart").value, block(output, "restart").needed })
  end)

  it("does no more once it met a failure", function()
    local output = restart({ some("new", 3, { generation = 1 }) }, { restart_stopped = true })
    assert.same({}, output.actions)
    assert.is_true(output.reached)
  end)

  it("is nothing while the workload is stopped", function()
    assert.equal(3, acts(restart({ some("new", 3, { generation = 1 }) }, { stopped = true }), "destroy"))
  end)
end)

describe("input", function()
  it("is refused with the path of what is wrong", function()
    local output, err = model.decide_workload { replicas = 2, instances = { { id = "a" } } }
    assert.is_nil(output)
    assert.equal("instances[0].release_id", err.field)
    local _, unknown = model.decide_workload { replcas = 2 }
    assert.equal("did you mean 'replicas'?", unknown.hint)
    assert.has_error(function() model.decide_workload() end)
    local _, bad = model.progress({ created = "x" }, {})
    assert.equal("invalid", bad.code)
  end)
end)
