-- 6 [DAMAGES]  power loss at every sync of a store, ten damages each (20000 damages)
local power_loss = require "spec.support.power_loss"

local damages = tonumber(arg[1]) or 20000
local seed = tonumber(os.getenv "CP_SEED") or os.time() % 1000000
local started, all_points, all_done = os.time(), 0, 0
while all_done < damages do
  local points, done = power_loss.run(math.min(5000, damages - all_done), seed)
  all_points, all_done, seed = all_points + points, all_done + done, seed + 1
  print(("%d damages at %d sync points, %d s; next seed %d"):format(all_done, all_points, os.time() - started, seed))
  io.stdout:flush()
end
print "every acknowledged turn whole, no half turn"
