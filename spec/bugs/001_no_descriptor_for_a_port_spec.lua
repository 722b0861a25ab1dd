-- ctest: timeout=60 labels=process
--- Without a free descriptor the process provider tried each of its 12,000 ports with a socket that it could not have, at
--- every retry, and then said that no port was free.
local ffi = require "ffi"
local process = require "spec.support.process"

ffi.cdef [[
struct cp_bug_rlimit { unsigned long cur, max; };
int setrlimit(int, const struct cp_bug_rlimit *);
int getrlimit(int, struct cp_bug_rlimit *);
]]
local NOFILE = 7

describe("a port that cannot be looked for", function()
  local world
  before_each(function() world = process.open() end)
  after_each(function() world:close() end)

  it("is not said to be taken, and the others are not tried", function()
    local spec = world:instance { command = { "sleep", "774" }, ports = { { name = "http" } } }
    local old, few = ffi.new "struct cp_bug_rlimit", ffi.new "struct cp_bug_rlimit"
    ffi.C.getrlimit(NOFILE, old)
    collectgarbage()
    local lowest = ffi.C.socket(1, 1, 0) -- the number that the next descriptor would have
    ffi.C.close(lowest)
    few.cur, few.max = lowest, old.max
    ffi.C.setrlimit(NOFILE, few)
    local began = os.clock()
    local ok, err = world.provider:operate("provision", spec)
    local used = os.clock() - began
    ffi.C.setrlimit(NOFILE, old)
    assert.is_nil(ok)
    assert.equal("provider_unavailable", err.code)
    assert.matches("cannot look for a port for app: Too many open files", err.message)
    assert.is_true(used < 0.05, used .. " s of CPU")
    assert(world.provider:operate("provision", spec))
    world:wait_seen(spec, "running")
  end)
end)
