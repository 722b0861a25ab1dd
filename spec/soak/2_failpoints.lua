-- 2 [ROUNDS]  a real engine dies at each of its failpoints, at another pass each time (50 rounds)
local house = require "spec.support.house"

local rounds = tonumber(arg[1]) or 50
os.exit(os.execute(("CP_ROUNDS=%d dev/spec '%s' spec/process/failpoint_spec.lua"):format(rounds, house.build())) == 0 and 0 or 1)
