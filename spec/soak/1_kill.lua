-- 1 [CYCLES]  kill -9 of a real engine with writers and a rollout under way (2000 cycles)
local house = require "spec.support.house"
local kill = require "spec.support.kill"

io.stdout:setvbuf "line"
local cycles = tonumber(arg[1]) or 2000
local seed = tonumber(os.getenv "CP_SEED") or os.time()
local folder = house.folder()
local run = kill.new { folder = folder, seed = seed }
local cycle = 0
local ok, err = pcall(function()
  run:open()
  for i = 1, cycles do
    cycle = i
    run:cycle()
    if i % 50 == 0 then print(("%d cycles; %s"):format(i, run:summary())) end
  end
  run:finish()
end)
run:close()
if not ok then
  print(("CP_SEED=%d, cycle %d: %s; the store is in %s"):format(seed, cycle, tostring(err), folder))
  os.exit(1)
end
house.remove(folder)
print(("%d kills with CP_SEED=%d: %s"):format(cycles, seed, run:summary()))
