-- ctest: timeout=240 serial labels=process
--- A real engine that is short of descriptors, processes or memory (testing plan, row 11): it says of what, does not spin,
--- its services run on, and it goes on when there is more. CP_ROUNDS rounds of each (1; the long size is 20).
local dkjson = require "dkjson"
local house = require "spec.support.house"
local served = require "spec.support.served"
local posix = { dirent = require "posix.dirent", unistd = require "posix.unistd" }

local ROUNDS = tonumber(os.getenv "CP_ROUNDS") or 1
local PRLIMIT = "/usr/bin/prlimit"

describe("short of", function()
  local plane, taken, as_user
  before_each(function() plane, taken, as_user = served.open(), {}, {} end)
  local function release()
    for _, fd in ipairs(taken) do house.close(fd) end
    taken = {}
  end
  after_each(function()
    release()
    plane:close()
  end)

  --- The soft limit only: a hard one could not be raised again by everybody.
  local function limit(what)
    local argv = { unpack(as_user) }
    for _, word in ipairs { PRLIMIT, "--pid", tostring(plane.pid), what } do argv[#argv + 1] = word end
    local code, _, err = house.run(argv)
    assert.equal(0, code, err)
  end

  --- Seconds of CPU that the engine has used.
  local function used()
    local fields = {}
    for field in house.read(("/proc/%d/stat"):format(plane.pid)):match "%) (.*)":gmatch "%S+" do fields[#fields + 1] = tonumber(field) or 0 end
    return (fields[12] + fields[13]) / 100
  end

  local function create()
    assert(plane.client:post("/workloads", served.hello("web", 2)))
    plane:settle("web", 2)
    return plane:answers "web"
  end

  --- The share of a core that it uses in two seconds in which nobody asks it anything.
  local function idle_share()
    local cpu, began = used(), house.now()
    house.wait_for("two seconds", function() return house.now() - began > 2 end) -- a span to measure over
    return (used() - cpu) / (house.now() - began)
  end

  --- Nothing happened to the services, and the engine does what it is asked.
  local function recovered(before, replicas)
    plane:settle("web", replicas)
    local after = plane:answers "web"
    for index, replica in pairs(before) do assert.same(replica, after[index]) end
    house.wait_for("a mutation is taken", function() return plane.client:patch("/workloads/web", { labels = { a = "b" } }) end)
    assert(plane.client:post("/workloads/web/scale", { replicas = 2 }))
    plane:settle("web", 2)
  end

  --- A connection that stays open: ask(method, path, body) -> status, value.
  local function line()
    local fd = assert(house.connect(plane.store .. ".sock"))
    return {
      ask = function(method, path, body)
        local text = body and dkjson.encode(body) or ""
        assert(house.send(fd, ("%s /v1%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"):format(method, path, #text, text)))
        local got, deadline = "", house.now() + 10
        repeat
          got = got .. (select(3, house.receive(fd, 0.05)) or "")
          local length = tonumber(got:match "[Cc]ontent%-[Ll]ength: (%d+)")
          local body_at = select(2, got:find("\r\n\r\n", 1, true))
          if length and body_at and #got >= body_at + length then
            return tonumber(got:match "^HTTP/1.1 (%d+)"), dkjson.decode(got:sub(body_at + 1))
          end
        until house.now() > deadline
        error("no answer: " .. got, 2)
      end,
      close = function() house.close(fd) end,
    }
  end

  local function descriptors(pid)
    local list = {}
    for _, name in ipairs(posix.dirent.dir(("/proc/%d/fd"):format(pid))) do
      if name:match "^%d" then list[#list + 1] = tonumber(name) end
    end
    table.sort(list)
    return list
  end

  it("descriptors (row 11): it stops accepting, does not spin, names it, and recovers", function()
    plane:start { before = { PRLIMIT, "--nofile=64:64" } }
    local before = create()
    for _ = 1, ROUNDS do
      local open = line()
      assert.equal(200, (open.ask("GET", "/workloads/web")))
      for _ = 1, 100 do -- the listener's queue takes what the engine does not
        local fd = house.connect(plane.store .. ".sock")
        if fd then taken[#taken + 1] = fd end
      end
      house.wait_for("no descriptor is free", function() return #descriptors(plane.pid) >= 64 end)
      local status = open.ask("POST", "/workloads/web/scale", { replicas = 3 })
      assert.equal(200, status)
      local message = house.wait_for("it says what is short", function()
        local _, list = open.ask("GET", "/workloads/web/instances")
        for _, instance in ipairs(list.items) do
          if instance.message and instance.message:match "Too many open files" then return instance.message end
        end
      end, 20)
      assert.truthy(message)
      local share = idle_share()
      assert.is_true(share < (house.asan() and 0.2 or 0.05), ("it used %.1f %% of a core"):format(share * 100))
      for _, replica in pairs(before) do assert.equal(200, (house.get(replica.port, "/"))) end
      release()
      open.close()
      recovered(before, 3)
    end
    assert.is_nil(plane:events()["instance.failed"])
  end)

  it("processes (row 11): it names it, its services run on, and it goes on when there may be more", function()
    if posix.unistd.getuid() ~= 0 then return pending "another user is needed, and so is root" end
    local user = 64321 -- with no process of its own: only what this engine starts counts
    os.execute(("chmod 755 %s; chown -R %d:%d %s"):format(plane.folder, user, user, plane.folder))
    as_user = { "/usr/bin/setpriv", "--reuid=" .. user, "--regid=" .. user, "--clear-groups" }
    plane:start { before = as_user }
    local before = create()
    for _ = 1, ROUNDS do
      limit "--nproc=2:"
      assert(plane.client:post("/workloads/web/scale", { replicas = 3 }))
      house.wait_for("it says what is short", function()
        local said = {}
        for _, instance in ipairs(plane:instances "web") do
          if instance.message and instance.message:match "Resource temporarily unavailable" then return true end
          said[#said + 1] = ("%s %s"):format(instance.state, tostring(instance.message))
        end
        return nil, table.concat(said, "; ")
      end, 20)
      local share = idle_share()
      assert.is_true(share < (house.asan() and 0.2 or 0.05), ("it used %.1f %% of a core"):format(share * 100))
      for _, replica in pairs(before) do assert.equal(200, (house.get(replica.port, "/"))) end
      limit "--nproc=4096:"
      recovered(before, 3)
    end
    assert.is_nil(plane:events()["instance.failed"])
  end)

  it("memory (row 11): it answers or ends with a word; what it acknowledged is there, and services run on", function()
    if house.asan() then return pending "AddressSanitizer reserves more memory than any limit allows" end
    plane:start()
    local before = create()
    for round = 1, ROUNDS do
      local size = tonumber(house.read(("/proc/%d/status"):format(plane.pid)):match "VmSize:%s+(%d+)") * 1024
      limit(("--as=%d:"):format(size + 2 ^ 20))
      local acked
      local filler = ("x"):rep(900 * 1024)
      for i = 1, 40 do -- bodies under way at the same time
        local fd = house.connect(plane.store .. ".sock")
        if fd then
          taken[#taken + 1] = fd
          house.send(fd, "POST /v1/workloads HTTP/1.1\r\nHost: x\r\nContent-Length: 921600\r\n\r\n" .. filler:sub(1, 100000 + i))
        end
      end
      for i = 1, 20 do
        local n = round * 100 + i
        if plane.client:patch("/workloads/web", { labels = { n = tostring(n) } }, 5) then acked = n end
      end
      release()
      if not plane.process:poll() then pcall(limit, "--as=unlimited:") end
      house.wait_for("it answers or is gone", function() return plane.process:poll() or plane.client:get "/workloads/web" end)
      if plane.process:poll() then
        assert.matches("out of memory", house.read(plane.log))
        plane.process:kill()
        plane:start()
      end
      for _, replica in pairs(before) do assert.equal(200, (house.get(replica.port, "/"))) end
      if acked then assert.is_true(tonumber(plane.client:get("/workloads/web").labels.n) >= acked) end
      recovered(before, 2)
    end
  end)

  it("nothing: a service has descriptors 0, 1, 2 and no other (row 11)", function()
    plane:start()
    assert(plane.client:post("/workloads", { name = "plain", replicas = 3, services = { { name = "app", command = { "sleep", "773" }, stop_timeout = "1s" } } }))
    plane:settle("plain", 3)
    for _, instance in ipairs(plane:instances "plain") do
      local pids = plane:running(instance.id, "^sleep 773")
      assert.equal(1, #pids)
      assert.same({ 0, 1, 2 }, descriptors(pids[1]))
    end
  end)
end)
