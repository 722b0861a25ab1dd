-- ctest: timeout=120 labels=process
--- Images are copied and hashed by helpers while the loop goes on, and removed when nobody needs them.
local process = require "spec.support.process"

-- Instead of the real one, by PATH: notes each run, and holds the nth one until the file `hold` n is gone.
local SUM = [[
#!/bin/sh
echo run >> %s/runs
while [ -e %s/hold$(wc -l < %s/runs) ]; do sleep 0.02; done
exec /usr/bin/sha256sum "$@"
]]

describe("preparing images", function()
  local world, path
  before_each(function()
    world, path = process.open(), os.getenv "PATH"
    os.execute(("mkdir %s/bin"):format(world.dir))
    process.write(world.dir .. "/bin/sha256sum", SUM:gsub("%%s", world.dir))
    process.write(world.dir .. "/runs", "")
    os.execute(("chmod 755 %s/bin/sha256sum"):format(world.dir))
    process.setenv("PATH", world.dir .. "/bin:" .. path)
  end)
  after_each(function()
    process.setenv("PATH", path)
    world:close()
  end)

  local function executable(name, text)
    process.write(world.dir .. "/" .. name, "#!/bin/sh\n" .. text .. "\nexec sleep 99\n")
    os.execute(("chmod 755 %s/%s"):format(world.dir, name))
    return { name = "app", image = world.dir .. "/" .. name }
  end
  local function folder(name, text)
    os.execute(("mkdir -p %s/%s"):format(world.dir, name))
    process.write(("%s/%s/text"):format(world.dir, name), text)
    return { name = "app", image = world.dir .. "/" .. name, command = { "cat", "text" } }
  end
  local function hold(n) process.write(world.dir .. "/hold" .. n, "") end
  local function go(n) os.remove(world.dir .. "/hold" .. n) end
  local function runs() return select(2, process.read(world.dir .. "/runs"):gsub("\n", "")) end
  local function images() return process.sh(("ls %s/data/images"):format(world.dir)) end
  local function hash(service) return world.provider:resolve({ service })[1].image:match "sha256:(%x+)$" end

  it("holds up nobody; calls for the same executable share one copy, later ones find it there", function()
    local other = world:provision(world:script "exec sleep 99")
    process.write(world.dir .. "/runs", "")
    hold(1)
    local app = executable("app", "echo v1")
    local first, second = assert(world.provider:prepare { app }), assert(world.provider:prepare { app })
    world:wait("the helper", function() return runs() == 1 end)
    world:wait_seen(other, "running")
    assert.equal("running", world:status(other).seen)
    go(1)
    assert.is_true(world.provider:finish(first))
    assert.is_true(world.provider:finish(second))
    assert.equal(2, runs(), "the source and the copy")
    for _ = 1, 200 do world.provider:resolve { app } end
    assert.equal(2, runs(), "what is known and unchanged is not read again")
    world:reopen()
    world.provider:resolve { app }
    assert.equal(3, runs(), "an engine that was started anew reads it once, and copies nothing")
  end)

  it("looks at a folder anew for a call that came when it was being read already", function()
    hold(1)
    local first = assert(world.provider:prepare { folder("app", "one") })
    world:wait("the helper", function() return runs() == 1 end)
    go(1)
    assert.is_true(world.provider:finish(first))
    local one = hash(folder("app", "one"))
    assert.is_not_nil(images():find(one, 1, true))
    assert.not_equal(one, hash(folder("app", "two")))
    assert.equal(one, hash(folder("app", "one")))
  end)

  it("refuses what changed while it was copied, with its field, and keeps nothing of it", function()
    hold(2)
    local call = assert(world.provider:prepare { { name = "look", command = { "true" } }, executable("app", "echo v1") })
    world:wait("the copy", function() return runs() == 2 end)
    local copy = process.sh(("echo %s/data/images/new-*/file"):format(world.dir)):gsub("%s+$", "")
    os.execute("chmod u+w " .. copy)
    process.write(copy, "another")
    go(2)
    local ok, err = world.provider:finish(call)
    assert.is_nil(ok)
    assert.equal("conflict", err.code)
    assert.equal("services[1].image", err.field)
    assert.matches("changed while it was copied; try again", err.message)
    world:wait("the end of its copy", function() return images() == "" end)
  end)

  it("that is given up ends its helpers; with two calls only when both are", function()
    hold(1)
    local app = executable("app", "echo v1")
    local first, second = assert(world.provider:prepare { app }), assert(world.provider:prepare { app })
    world:wait("the helper", function() return runs() == 1 end)
    local function helpers() return process.sh(("pgrep -f %s/bin/[s]ha256sum"):format(world.dir)):match "%d" ~= nil end
    assert.is_true(helpers())
    world.provider:cancel(first)
    world.provider:turn(50)
    assert.is_true(helpers())
    world.provider:cancel(second)
    world:wait("their end", function() return not helpers() end)
    go(1)
    assert.equal(64, #hash(app))
  end)

  it("of an engine that ends is ended", function()
    hold(1)
    assert(world.provider:prepare { executable("app", "echo v1") })
    world:wait("the helper", function() return runs() == 1 end)
    world:reopen()
    assert.equal("", process.sh(("pgrep -f '^/bin/sh %s/bin/sha256sum'"):format(world.dir)))
  end)

  it("removes what no release, instance or call needs, and nothing else", function()
    local named, unnamed, running = executable("a", "echo a"), folder("b", "b"), executable("c", "echo c")
    local resolved = assert(world.provider:resolve { named })[1].image
    local kept, gone, used = hash(named), hash(unnamed), world:provision(world:instance(running))
    local held = used.services[1].image:match "%x+$"
    os.execute(("cd %s/data/images && mkdir -p new-1/tree old-2/tree && touch notes"):format(world.dir))
    world.provider:retain { resolved }
    world:wait("the leftovers to go", function() return not images():find "new%-1" and not images():find "old%-2" end)
    assert.is_not_nil(images():find(gone, 1, true), "somebody asked for it within this minute")
    world:reopen() -- nobody asked this one
    hold(runs() + 1)
    local call = assert(world.provider:prepare { executable("d", "echo d") })
    world:wait("the helper", function() return process.sh(("pgrep -f %s/bin/[s]ha256sum"):format(world.dir)):match "%d" end)
    world.provider:retain { resolved }
    world:wait("the image to go", function() return not images():find(gone, 1, true) end)
    go(runs())
    assert.is_true(world.provider:finish(call))
    world.provider:retain { resolved }
    local late = hash { name = "app", image = world.dir .. "/d" }
    local names = { kept, held, late, "notes" }
    table.sort(names)
    world:wait("what is under way to end", function() return images() == table.concat(names, "\n") .. "\n" end)
    assert.equal(gone, hash(unnamed), "it is made again when it is asked for again")
  end)
end)
