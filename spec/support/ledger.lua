--- Turns whose halves show: each writes its number into many rows and appends one event. Reads back which turn a store is
--- at, and raises when it is between two.
local M = {}
local ROWS = 6

--- Writes turn `number`, without its commit. big: over many pages. True, or nil and the error.
function M.write(db, number, big)
  local filler = ("%d,"):format(number):rep(big and 4000 or 20)
  for i = 1, big and 4 * ROWS or ROWS do
    local ok, err = db:put("instance", { id = "inst_" .. i, generation = i <= ROWS and number or 0, message = filler })
    if not ok then return nil, err end
  end
  local ok, err = db:put("workload", { id = ("wkl_%06d"):format(number), name = filler, replica_count = number })
  if not ok then return nil, err end
  if number > 20 then
    ok, err = db:delete("workload", ("wkl_%06d"):format(number - 20))
    if not ok then return nil, err end
  end
  ok, err = db:event { id = "evt_" .. number, type = "turn", payload = { number = number } }
  if not ok then return nil, err end
  return true
end

--- The turn that the store is at; 0 when none was ever committed.
function M.read(db)
  local at = db:event_last()
  local events = assert(db:each("event", nil, nil, "seq"))
  assert(#events == at, ("%d events, the last is number %d"):format(#events, at))
  for i, event in ipairs(events) do
    assert(event.seq == i and event.payload.number == i, ("event %d is number %s of turn %s"):format(i, event.seq, event.payload.number))
  end
  for i = 1, at > 0 and ROWS or 0 do
    local row = assert(db:get("instance", "inst_" .. i))
    assert(row.generation == at, ("row %d is of turn %d, the events of turn %d"):format(i, row.generation, at))
  end
  local workloads = assert(db:each "workload")
  assert(#workloads == math.min(at, 20), ("%d workloads after turn %d"):format(#workloads, at))
  for i, row in ipairs(workloads) do
    local number = at - #workloads + i
    assert(row.replica_count == number and row.name:sub(1, #tostring(number) + 1) == number .. ",", "a workload of another turn")
  end
  return at
end

return M
