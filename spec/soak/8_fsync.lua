-- 8 [CALLS]  every one of so many calls of fdatasync fails, under the running engine, once and for ever (60)
local house = require "spec.support.house"

local calls = tonumber(arg[1]) or 60
os.exit(os.execute(("CP_CALLS=%d dev/spec '%s' spec/store/fsync_spec.lua"):format(calls, house.build())) == 0 and 0 or 1)
