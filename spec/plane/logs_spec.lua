-- stream_logs: the logs of all replicas as one stream.
local house = require "spec.support.house"
local lab = require "spec.support.lab"

describe("the logs of a workload", function()
  local plane, clock, world, web

  before_each(function()
    plane, clock, world = lab.open { seed = 10 }
    web = lab.workload(plane, {
      replicas = 3,
      services = { { name = "app", image = "app" }, { name = "side", image = "side", role = "sidecar" } },
    })
  end)
  after_each(function() lab.close(plane) end)

  local function write(index, text, service, stderr)
    for _, instance in ipairs(lab.instances(plane, web)) do
      if instance.replica_index == index then
        assert(world:write(instance.id, service or "app", text, stderr))
        return instance.id
      end
    end
    error("no replica " .. index)
  end

  local function read(options)
    local lines = {}
    for event in assert(plane.workloads:stream_logs(web.id, options)) do
      lines[#lines + 1] = event
    end
    return lines
  end

  local function texts(lines)
    local list = {}
    for i, event in ipairs(lines) do
      list[i] = event.line
    end
    return table.concat(list, " ")
  end

  it("are merged by time, each line with where it comes from", function()
    clock:advance "1s"
    local id = write(2, "a")
    clock:advance "1s"
    write(0, "b", "side", true)
    clock:advance "1s"
    write(1, "c")
    local lines = read { since = "2026-01-01T00:00:02.000Z" }
    assert.equal("a b c", texts(lines))
    local a, b = lines[1], lines[2]
    assert.equal(web.id, a.workload_id)
    assert.equal(id, a.instance_id)
    assert.equal(2, a.replica_index)
    assert.equal("app", a.service_name)
    assert.equal("stdout", a.stream)
    assert.equal("2026-01-01T00:00:02.050Z", a.at)
    assert.equal("side", b.service_name)
    assert.equal("stderr", b.stream)
    assert.equal("b", texts(read { service = "side", tail = 1, since = "2026-01-01T00:00:02.000Z" }))
  end)

  it("have a tail per replica", function()
    for i = 1, 5 do
      for index = 0, 2 do
        write(index, index .. "." .. i)
      end
      clock:advance "1s"
    end
    assert.equal("0.4 1.4 2.4 0.5 1.5 2.5", texts(read { tail = 2, service = "app" }))
    assert.equal("", texts(read { tail = 0 }))
  end)

  it("go on behind a cursor, each line once", function()
    for i = 1, 6 do
      write(i % 3, "x" .. i)
      write((i + 1) % 3, "y" .. i)
      clock:advance "10ms"
    end
    local all = read {}
    assert.is_true(#all > 12)
    for at = 1, #all do
      local rest = read { after = all[at].cursor }
      assert.equal(#all - at, #rest, "behind line " .. at)
      if rest[1] then
        assert.equal(all[at + 1].cursor, rest[1].cursor)
      end
    end
  end)

  it("are followed: what comes, new replicas join, gone ones leave", function()
    local seen, ended = {}, false
    plane:spawn(function()
      for event in assert(plane.workloads:stream_logs(web.id, { follow = true, tail = 0, service = "app" })) do
        seen[#seen + 1] = event.replica_index .. ":" .. event.line
      end
      ended = true
    end)
    clock:advance "1s"
    write(1, "one")
    clock:advance "1s"
    assert.same({ "1:one" }, seen)
    assert(plane.workloads:scale(web.id, { replicas = 4, wait = "1m" }))
    write(3, "new")
    clock:advance "1s"
    assert.equal("3:new", seen[#seen])
    assert(plane.workloads:scale(web.id, { replicas = 1, wait = "1m" }))
    write(0, "left")
    clock:advance "1s"
    assert.equal("0:left", seen[#seen])
    assert.is_false(ended)
    assert(plane.workloads:delete(web.id, { wait = "1m" }))
    clock:advance "1s"
    assert.is_true(ended)
  end)

  it("are complete for a slow reader, and do not pile up", function()
    for i = 1, 900 do
      write(0, "line " .. i)
    end
    local count, expected = 0, 1
    for event in assert(plane.workloads:stream_logs(web.id, { service = "app" })) do
      local number = event.line:match "^line (%d+)$"
      if number then
        assert.equal(expected, tonumber(number))
        expected = expected + 1
        count = count + 1
      end
    end
    assert.equal(900, count)
  end)

  it("do not fill the memory for a reader that does not read", function()
    local long = ("x"):rep(256 * 1024)
    for _ = 1, 400 do write(0, long) end
    local function resident() return tonumber(house.read("/proc/self/statm"):match "^%d+ (%d+)") * 4096 end
    collectgarbage()
    local began = resident()
    local stream = assert(plane.workloads:stream_logs(web.id, { service = "app", follow = true }))
    clock:advance "5s"
    for _ = 1, 100 do write(0, long) end -- of these 500 lines the world keeps all
    clock:advance "5s"
    local held = resident() - began - 100 * #long
    if not house.asan() then assert.is_true(held < 30 * 2 ^ 20, held) end
    local count = 0
    while count < 500 do
      if #assert(stream:next { timeout = "5s" }).line == #long then count = count + 1 end
    end
    stream:close()
  end)

  it("carry bytes that are no text beside what can be read of them", function()
    write(0, "ok \255\254 \226\130\172 \195")
    local line = read({ tail = 1, service = "app" })
    local found
    for _, event in ipairs(line) do
      found = event.line_base64 and event or found
    end
    assert.equal("ok \239\191\189\239\191\189 \226\130\172 \239\191\189", found.line)
    assert.equal("b2sg//4g4oKsIMM=", found.line_base64)
  end)

  it("refuse what is not there", function()
    local _, err = plane.workloads:stream_logs(web.id, { service = "ap" })
    assert.equal("not_found", err.code)
    assert.matches("did you mean 'app'", tostring(err), 1, true)
    for _, after in ipairs { "x", "1/2/3", "a/b/c/0/d", "1/inst/app/x/2" } do
      _, err = plane.workloads:stream_logs(web.id, { after = after })
      assert.equal("invalid", err.code, after)
      assert.equal("after", err.field)
    end
  end)
end)
