-- An engine without a descriptor to look at a lock with took the service's shim for dead: it would have started a
-- second one, or removed the folder under the first.
local ffi = require "ffi"
local process = require "spec.support.process"

ffi.cdef [[
struct cp_spec_limit { unsigned long soft, hard; };
int getrlimit(int, struct cp_spec_limit *);
int setrlimit(int, const struct cp_spec_limit *);
int dup(int);
]]
local NOFILE = 7

describe("an engine that is out of descriptors", function()
  local world
  before_each(function() world = process.open() end)
  after_each(function() world:close() end)

  --- Runs what it is given without a descriptor to be had.
  local function without(what)
    local limit = ffi.new "struct cp_spec_limit"
    assert(ffi.C.getrlimit(NOFILE, limit) == 0)
    local highest = ffi.C.dup(0)
    ffi.C.close(highest)
    assert(ffi.C.setrlimit(NOFILE, ffi.new("struct cp_spec_limit", highest, limit.hard)) == 0)
    local ok, result = pcall(what)
    assert(ffi.C.setrlimit(NOFILE, limit) == 0)
    return assert(ok and result, result)
  end

  it("takes no service for dead", function()
    local spec = world:provision(world:script "echo $$; sleep 1000")
    world:wait_seen(spec, "running")
    assert.equal("starting", without(function() return world:status(spec) end).seen) -- nobody knows
    assert.equal("running", world:status(spec).seen)
    assert.equal(1, #world:log(spec, "app"))
  end)
end)
