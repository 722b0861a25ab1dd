-- 9 [SECONDS]  store, data folder and logs on a full disk, held full for so long, three times (60)
local house = require "spec.support.house"

local size = tonumber(arg[1]) or 60
for round = 1, 3 do
  local code = os.execute(("CP_HOLD=%d dev/spec '%s' spec/store/disk_full_spec.lua"):format(size, house.build()))
  if code ~= 0 then
    print("round " .. round .. " failed")
    os.exit(1)
  end
end
