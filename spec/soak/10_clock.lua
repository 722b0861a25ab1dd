-- 10 [STEPS]  steps of the wall clock under a running engine, then the engine stopped for 30 s (1000 steps)
local house = require "spec.support.house"

local steps = tonumber(arg[1]) or 1000
os.exit(os.execute(("CP_STEPS=%d CP_STOP=30 dev/spec '%s' spec/process/clock_spec.lua"):format(steps, house.build())) == 0 and 0 or 1)
