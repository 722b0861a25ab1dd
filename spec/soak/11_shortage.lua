-- 11 [ROUNDS]  an engine that is short of descriptors, of processes, of memory (20 rounds of each)
local house = require "spec.support.house"

local rounds = tonumber(arg[1]) or 20
os.exit(os.execute(("CP_ROUNDS=%d dev/spec '%s' spec/process/shortage_spec.lua"):format(rounds, house.build())) == 0 and 0 or 1)
