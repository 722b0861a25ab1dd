-- ctest: timeout=180
--- The whole engine on a disk in memory whose calls fail (testing plan, row 7): the simulated runtime, the virtual clock.
--- No answer is contradicted, no effect follows a failed commit, and the engine gets over it without a restart.
local core = require "ctrlplane.core"
local lab = require "spec.support.lab"
require("posix.stdlib").setenv("CP_LOG", "none") -- each fault is logged

describe("the engine on a failing disk (row 7)", function()
  local disk, plane, web
  local function open(seed)
    disk = core.testing.store.disk(seed)
    plane = lab.open { seed = seed, store = "plane.db", vfs = disk:vfs() }
    web = lab.workload(plane, { replicas = 3 })
  end
  local function close()
    disk:fail(nil)
    lab.close(plane)
    disk:free()
  end

  local function label() return tonumber((plane.workloads:get(web.id).labels or {}).n or "0") end

  --- Sets the label n. "done", "not_done" or "unknown".
  local function set(n)
    local value, err = plane.workloads:update(web.id, { labels = { n = tostring(n) } })
    if value then return "done" end
    assert.equal("storage_failed", err.code, tostring(err))
    return err.details and err.details.outcome or "not_done"
  end

  --- Mutations under the fault; then the disk is repaired, the power fails, and everything that was answered must hold.
  local function try(fault, seed)
    open(seed)
    local context = ("call %s, n %d, times %d, full %s, seed %d"):format(fault.call, fault.n, fault.times, tostring(fault.full), seed)
    disk:fail(fault)
    local possible, refused, came = { [0] = true }, {}, false
    local scaled = plane.workloads:scale(web.id, { replicas = 5 })
    for n = 1, 12 do
      local outcome = set(n)
      if outcome == "done" then
        possible = { [n] = true }
        assert.equal(n, label(), context)
      elseif outcome == "not_done" then
        refused[n] = true
        assert.is_nil(refused[label()], context)
      else
        possible[n] = true
      end
      if n == 6 and fault.n % 3 == 0 then -- the power fails before it is repaired
        came = came or disk:came()
        disk:crash(seed)
        plane = lab.crash(plane)
        local found = label()
        assert.is_true(possible[found] == true and not refused[found], context .. ", label " .. found)
        possible = { [found] = true }
      end
      if n == 8 then -- it is repaired
        came = came or disk:came()
        disk:fail(nil)
      end
      if n > 8 then plane.clock:advance "10s" end
    end
    assert.equal("done", set(50), context) -- taken again, by itself
    possible = { [50] = true }
    plane.clock:advance "5m"
    local now = assert(plane.workloads:get(web.id))
    local wanted = now.replica_count
    assert.is_true(wanted == 5 or (not scaled and wanted == 3), context)
    assert.equal("active", now.state, context)
    assert.equal(wanted, now.ready_replicas, context)
    disk:crash(seed)
    plane = lab.crash(plane)
    plane.clock:advance "5m"
    assert.is_true(possible[label()], context .. ", label " .. label())
    now = assert(plane.workloads:get(web.id))
    assert.equal(wanted, now.ready_replicas, context)
    for i, event in ipairs(lab.events(plane)) do assert.equal(i, event.seq, context) end
    close() -- which fails when an instance was made twice
    return came
  end

  it("keeps its word, call by call, once and for ever", function()
    local came = 0
    for _, call in ipairs { "write", "sync", "read", "truncate" } do
      for _, times in ipairs { 1, 0 } do
        for n = 1, 60, call == "sync" and 1 or 4 do
          if not try({ call = call, n = n, times = times, full = n % 2 == 0 }, n) then break end
          came = came + 1
        end
      end
    end
    assert.is_true(came >= 30, came .. " faults came")
  end)

  it("does nothing outside for a turn whose commit failed", function()
    open(5)
    local before = lab.live(plane, web)
    disk:fail { call = "sync", n = 1, times = 0 }
    local value, err = plane.workloads:scale(web.id, { replicas = 9 })
    assert.is_nil(value)
    assert.equal("unknown", err.details.outcome)
    plane.clock:advance "10m"
    assert.same(before, lab.live(plane, web))
    assert.equal(3, #lab.world(plane):list())
    disk:fail(nil)
    plane.clock:advance "1m"
    assert(plane.workloads:scale(web.id, { replicas = 4, wait = "5m" }))
    assert.equal(4, #lab.world(plane):list())
    close()
  end)
end)
