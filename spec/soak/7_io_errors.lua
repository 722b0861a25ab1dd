-- 7  the n-th I/O call of a store fails: every call of a run of 60 turns, once, three times, for ever; EIO and ENOSPC
local io_errors = require "spec.support.io_errors"

local started = os.time()
local came = io_errors.sweep(tonumber(arg[1]), 60, true, function(call, times, calls)
  print(("%-8s %s: %d calls failed in turn, %d s"):format(call, times == 0 and "for ever" or times .. " times", calls, os.time() - started))
  io.stdout:flush()
end)
print(("%d faults; no acknowledged turn lost, no failed one came back"):format(came))
