-- 16 [ROUNDS]  services that ignore signals, hide, flood, end at once, make zombies; all at the same time (20 rounds)
local house = require "spec.support.house"

local rounds = tonumber(arg[1]) or 20
os.exit(os.execute(("CP_ROUNDS=%d dev/spec '%s' spec/process/unkind_spec.lua"):format(rounds, house.build())) == 0 and 0 or 1)
