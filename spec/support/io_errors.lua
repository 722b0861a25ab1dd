--- I/O errors in a store on a disk in memory: the n-th call of a kind fails, once, some times or for ever. A turn that
--- failed is never seen again once the store has recovered; one that was acknowledged always is. Used by the spec at its
--- small size and by dev/soak to completion.
local store = require("ctrlplane.core").testing.store
local ledger = require "spec.support.ledger"
local M = {}

--- What a crash at this moment would leave: between low and high, and whole.
local function expect_after_crash(disk, low, high, what)
  for seed = 1, 2 do
    local copy = disk:clone()
    copy:crash(seed)
    local db, err = store.open("plane.db", copy:vfs())
    local ok, at = pcall(function()
      assert(db, err)
      assert(db:check())
      return ledger.read(db)
    end)
    if db then db:close() end
    copy:free()
    assert(ok, ("after a crash %s (seed %d): %s"):format(what, seed, tostring(at)))
    assert(at >= low and at <= high, ("after a crash %s (seed %d) the store is at turn %d, not %d..%d"):format(what, seed, at, low, high))
  end
end

--- A failed turn: writes are refused, reads answer, and the marker makes it certain. Returns when the store has recovered.
local function recover(disk, db, acked, failed, fault)
  assert(db:failed(), "a commit failed and the store does not know it")
  expect_after_crash(disk, acked, failed, "between failure and marker")
  local ok, err = ledger.write(db, failed)
  assert(not ok and err.code == "storage_failed", "a write was taken before the marker")
  local rows, why = db:each "instance"
  assert(rows or why.code == "storage_failed", "a read broke")
  for _ = 1, 5 do
    ok, err = db:recover()
    if ok then break end
    assert(err.code == "storage_failed" and db:failed(), tostring(err))
  end
  if not ok and fault.times == 0 then
    disk:fail(nil) -- it was repaired
    ok, err = db:recover()
  end
  if not ok and fault.times > 1 then ok, err = db:recover() end
  assert(ok, tostring(err))
  assert(not db:failed())
  -- the marker is in: the failed turn is gone for good, whatever comes now
  expect_after_crash(disk, acked, acked, "behind the marker")
end

--- One fault against a fresh store. turns: how many are tried. Returns whether the fault came at all.
function M.run(fault, turns)
  local disk, db, acked, came = store.disk(fault.n * 7 + 1), nil, 0, false
  local ok, err = pcall(function()
    disk:fail(fault)
    local begun, opened = 0, false
    while begun < turns do
      if not db then
        local why
        db, why = store.open("plane.db", disk:vfs())
        if not db then
          assert(why.code == "storage_failed" or why.code == "invalid_state" and not opened, tostring(why))
          assert(disk:came(), "opening failed without a fault: " .. tostring(why))
          for _ = 1, 2 do -- it fails at most three times
            if not db and fault.times ~= 0 then db = store.open("plane.db", disk:vfs()) end
          end
          if fault.times == 0 then disk:fail(nil) end -- it was repaired
          expect_after_crash(disk, acked, acked, "after a failed opening")
          db = db or assert(store.open("plane.db", disk:vfs()))
        end
        opened = true
        assert(db:exec "PRAGMA wal_autocheckpoint = 12" or disk:came())
        local fine, at = pcall(ledger.read, db)
        assert(fine and at == acked or disk:came(), ("opened at turn %s, not %d"):format(tostring(at), acked))
      end
      begun = begun + 1
      local written = ledger.write(db, acked + 1, begun % 7 == 0)
      local committed, why = db:commit()
      assert(written or not committed, "half a turn was committed")
      if committed then
        acked = acked + 1
      else
        assert(why.code == "storage_failed", tostring(why))
        assert(disk:came(), "a commit failed without a fault: " .. tostring(why))
        recover(disk, db, acked, acked + 1, fault)
        assert(ledger.read(db) == acked, "behind the marker the store is not at the last acknowledged turn")
      end
      if begun % 9 == 0 then
        db:close()
        db = nil
      end
    end
    came = disk:came()
    expect_after_crash(disk, acked, acked, "at the end")
  end)
  if db then db:close() end
  disk:free()
  if not ok then
    error(("call %s, n %d, times %d, full %s: %s"):format(fault.call, fault.n, fault.times, tostring(fault.full), tostring(err)), 0)
  end
  return came
end

--- Every kind of call, n = 1..most (to the last call when nil), once and for ever -- and with `thorough` three times, and
--- both EIO and ENOSPC for each n instead of in turns. Returns how many faults came.
function M.sweep(most, turns, thorough, report)
  local came = 0
  for _, call in ipairs { "open", "read", "write", "sync", "truncate", "delete" } do
    for _, times in ipairs(thorough and { 1, 0, 3 } or { 1, 0 }) do
      local n = 1
      while not most or n <= most do
        local ran = M.run({ call = call, n = n, times = times, full = n % 2 == 0 }, turns)
        if thorough then M.run({ call = call, n = n, times = times, full = n % 2 == 1 }, turns) end
        if not ran then break end -- there is no n-th call
        came, n = came + 1, n + 1
      end
      if report then report(call, times, n - 1) end
    end
  end
  return came
end

return M
