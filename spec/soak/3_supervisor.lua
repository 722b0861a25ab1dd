-- 3 [ROUNDS]  kill -9 of shims, of shims and the engine, reboots, pids that strangers have got (1000 rounds of each)
local house = require "spec.support.house"

local rounds = tonumber(arg[1]) or 1000
os.exit(os.execute(("CP_ROUNDS=%d dev/spec '%s' spec/process/supervisor_spec.lua"):format(rounds, house.build())) == 0 and 0 or 1)
