-- ctest: timeout=240 labels=process serial
--- A full disk (testing plan, row 9): store, data folder and logs on a tmpfs of 4 MiB that is filled, held full and freed.
--- Needs to mount; CP_HOLD seconds of fullness (5; the long size is 60).
local api = require "spec.support.api"
local house = require "spec.support.house"
local leftovers = require "spec.support.leftovers"
local ledger = require "spec.support.ledger"
local store = require("ctrlplane.core").testing.store

local HOLD = tonumber(os.getenv "CP_HOLD") or 5

describe("a full disk (row 9)", function()
  local folder, small, engine, client, mounted
  local fillers = {}
  local free

  before_each(function()
    folder = house.folder()
    small = folder .. "/small"
    assert(os.execute("mkdir " .. small) == 0)
    mounted = os.execute("mount -t tmpfs -o size=4m tmpfs " .. small .. " 2>/dev/null") == 0
  end)
  after_each(function()
    free()
    if engine then
      client:delete "/workloads/web"
      pcall(house.wait_for, "the workload is gone", function() return #client:all "/workloads" == 0 end, 20)
      engine:signal "TERM"
      engine:wait(10)
      engine:kill()
    end
    engine = nil
    leftovers.sweep(folder, folder .. "/data")
    leftovers.sweep(folder, small .. "/data")
    if mounted then os.execute("umount -l " .. small) end
    house.remove(folder)
  end)

  --- Takes every free byte of the small disk; free() gives them back.
  local function fill()
    for size = 20, 9, -1 do -- from 1 MiB down to half a KiB
      local ok
      repeat
        local name = ("%s/filler-%d"):format(small, #fillers)
        local file = assert(io.open(name, "wb"))
        file:setvbuf "no"
        fillers[#fillers + 1] = name
        ok = file:write(("x"):rep(2 ^ size))
        file:close()
      until not ok
    end
  end
  function free()
    for _, name in ipairs(fillers) do os.remove(name) end
    fillers = {}
  end

  it("fails turns, keeps what was acknowledged, and works again when there is room", function()
    if not mounted then return pending "cannot mount a tmpfs here" end
    local db = assert(store.open(small .. "/plane.db"))
    local acked = 0
    local function turn()
      ledger.write(db, acked + 1, true)
      local ok, err = db:commit()
      if ok then acked = acked + 1 end
      return ok, err
    end
    for _ = 1, 5 do assert(turn()) end
    fill()
    local refused, err
    for _ = 1, 10 do
      local ok, why = turn()
      if not ok then refused, err = true, why break end
    end
    assert.is_true(refused)
    assert.equal("storage_failed", err.code)
    assert.matches("database or disk is full", err.message)
    for _ = 1, 20 do
      if db:recover() then
        turn() -- the log made room for a little
      else
        assert.is_true(db:failed())
      end
      assert.equal(acked, ledger.read(db))
    end
    free()
    if db:failed() then assert(db:recover()) end
    for _ = 1, 5 do assert(turn()) end
    assert(db:check())
    db:close()
    db = assert(store.open(small .. "/plane.db"))
    assert.equal(acked, ledger.read(db))
    db:close()
  end)

  it("does not stop a store whose log alone would fill it", function()
    if not mounted then return pending "cannot mount a tmpfs here" end
    local db = assert(store.open(small .. "/plane.db"))
    local acked, failures = 0, 0
    for _ = 1, 400 do -- some 20 MiB of log on 4 MiB
      ledger.write(db, acked + 1, acked % 2 == 0)
      if db:commit() then
        acked = acked + 1
      else
        failures = failures + 1
        assert(db:recover())
      end
    end
    assert.is_true(acked >= 390, acked .. " of 400 turns were taken")
    assert.equal(acked, ledger.read(db))
    assert(db:check())
    db:close()
  end)

  local function serve(store_path, data)
    client = api.new(store_path .. ".sock")
    engine = house.spawn({ house.program "ctrlplane", "serve", "--store", store_path, "--data", data },
      {}, { stdout = "/dev/null", stderr = folder .. "/serve.log" })
    house.wait_for("the engine is ready", function()
      if engine:poll() then error(house.read(folder .. "/serve.log")) end
      return client:ready()
    end, 30)
  end

  local function hello(replicas)
    return {
      name = "web", replicas = replicas,
      services = { { name = "app", image = house.program "hello", ports = { { name = "http" } }, health_check = { path = "/healthz", interval = "1s" } } },
    }
  end

  local function settle(name, replicas)
    house.wait_for(name .. " is active", function()
      local w = assert(client:get("/workloads/" .. name))
      return w.state == "active" and w.ready_replicas == replicas, w.state .. " " .. tostring(w.message)
    end, 60)
  end

  --- Every service answers over HTTP: the pids that answered.
  local function pids()
    local list = {}
    for _, instance in ipairs(assert(client:get "/workloads/web/instances").items) do
      local status, body = house.get(instance.endpoints[1].port, "/")
      assert.equal(200, status)
      list[#list + 1] = body:match "pid (%d+)"
    end
    return list
  end

  --- For HOLD seconds: reads answer, services answer, check() holds.
  local function hold(before, check)
    local deadline = house.now() + HOLD
    repeat
      assert.truthy(client:get "/workloads/web")
      assert.same(before, pids())
      if check then check() end
      house.sleep(0.25)
    until house.now() > deadline
  end

  it("of the store: services run on, reads answer, mutations are refused, and it comes back by itself", function()
    if not mounted then return pending "cannot mount a tmpfs here" end
    serve(small .. "/plane.db", folder .. "/data")
    assert(client:post("/workloads", hello(2)))
    settle("web", 2)
    local before, n = pids(), 0
    local function set()
      n = n + 1
      local value, message, status, err = client:call("PATCH", "/workloads/web", { labels = { n = tostring(n), filler = ("x"):rep(60) } }, 10)
      if value then return true end
      assert.equal(503, status, message)
      assert.equal("storage_failed", err.code, message)
      return false
    end
    assert.is_true(set())
    fill()
    house.wait_for("a refusal", function() return not set() end, 30)
    local refused, taken = 0, 0
    hold(before, function()
      fill() -- the log gave some room back
      if set() then taken = taken + 1 else refused = refused + 1 end
    end)
    assert.is_true(refused > 0, taken .. " taken, none refused")
    free()
    local freed = house.now()
    house.wait_for("a mutation is taken again", set, 10)
    assert.is_true(house.now() - freed < 5, ("%g s after there was room"):format(house.now() - freed))
    assert.equal(tostring(n), client:get("/workloads/web").labels.n)
    assert.same(before, pids())
  end)

  it("of the data folder: services run on, mutations are taken, and new replicas come when there is room", function()
    if not mounted then return pending "cannot mount a tmpfs here" end
    serve(folder .. "/plane.db", small .. "/data")
    assert(client:post("/workloads", hello(2)))
    settle("web", 2)
    local before = pids()
    fill()
    hold(before)
    assert(client:patch("/workloads/web", { labels = { a = "b" } }))
    assert(client:post("/workloads/web/scale", { replicas = 3 }))
    house.wait_for("the new replica says what is short", function()
      for _, instance in ipairs(assert(client:get "/workloads/web/instances").items) do
        if instance.message and instance.message:match "No space left on device" then return true end
      end
    end)
    free()
    settle("web", 3)
    local after = pids()
    assert.same(before, { after[1], after[2] })
  end)

  it("of the logs: a service that writes on is not held up, what is lost is counted, and the log goes on", function()
    if not mounted then return pending "cannot mount a tmpfs here" end
    serve(folder .. "/plane.db", small .. "/data")
    local script = ("i=0; while :; do i=$((i+1)); echo line $i; printf x >> %s/count; sleep 0.002; done"):format(folder)
    assert(client:post("/workloads", { name = "web", services = { { name = "app", command = { "sh", "-c", script }, stop_timeout = "1s" } } }))
    settle("web", 1)
    local id = client:get("/workloads/web/instances").items[1].id
    local function count() return #(house.read(folder .. "/count") or "") end
    local function log() return house.read(("%s/data/instances/%s/app.log"):format(small, id)) or "" end
    house.wait_for("it to write", function() return log():match "line 50\n" end)
    fill()
    local deadline = house.now() + HOLD
    local size = #log()
    while house.now() < deadline do -- what it writes is lost, and it writes on
      local at = count()
      house.wait_for("the service to go on", function() return count() > at + 20 end, 5)
      fill()
    end
    assert.is_true(#log() - size < 8192, "the log grew on a full disk")
    free()
    local freed = house.now()
    house.wait_for("the log goes on", function() return log():match "ctrlplane: %d+ lines could not be written[^\n]*\n.*line %d+\n" end, 10)
    assert.is_true(house.now() - freed < 5, ("%g s after there was room"):format(house.now() - freed))
    local last, missing, lost = 0, 0, 0
    for text in log():gmatch "[^\n]*\n" do
      local number = tonumber(text:match " line (%d+)\n$")
      lost = lost + (tonumber(text:match "ctrlplane: (%d+) lines could not be written") or 0)
      if number then
        missing = missing + number - last - 1
        last = number
      end
    end
    assert.is_true(lost > 100, lost .. " lines")
    assert.equal(missing, lost)
    assert.equal("active", client:get("/workloads/web").state)
  end)
end)
