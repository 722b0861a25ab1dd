-- Retention took 500 events a minute, whatever came: an engine with more than eight a second grew without end.
local lab = require "spec.support.lab"

describe("retention", function()
  it("removes more where more is due", function()
    local plane, clock = lab.open { seed = 5 }
    local web = lab.workload(plane)
    for i = 1, 5000 do assert(plane.workloads:update(web.id, { labels = { i = tostring(i) } })) end
    local function count() return plane.events:list({ limit = 1 }).total end
    local before = count()
    assert.is_true(before > 5000)
    clock:advance "168h"
    clock:advance "1m"
    local first = before - count()
    assert.is_true(first >= 900, "it removed " .. first)
    clock:advance "1h"
    assert.is_true(count() < 100, "it left " .. count())
    lab.close(plane)
  end)
end)
