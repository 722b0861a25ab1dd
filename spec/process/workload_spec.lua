-- Workloads of real processes: what model.md says of scale, pause, resume and restart, checked against what really runs.
local ctrlplane = require "ctrlplane"
local house = require "spec.support.house"
local signal = require "posix.signal"

local function hello(more)
  local service = {
    name = "app",
    image = house.program "hello",
    command = { "./hello", "--port", "${port.http}" },
    env = { INDEX = "${instance.index}" },
    ports = { { name = "http" } },
    health_check = { path = "/healthz", interval = "1s" },
  }
  for key, value in pairs(more or {}) do
    service[key] = value
  end
  return { service }
end

describe("a workload of processes", function()
  local folder, plane

  local function open() plane = assert(ctrlplane.open { store = folder .. "/plane.db" }) end

  before_each(function()
    folder = house.folder()
    open()
  end)
  after_each(function()
    for _, item in ipairs(assert(plane.workloads:list { limit = 500 }).items) do
      assert(plane.workloads:delete(item.id, { volumes = true, wait = "30s" }))
    end
    plane:close()
    house.remove(folder)
  end)

  --- index -> { id, pid }: who answers at each replica's endpoint, and that it is the process of that instance.
  local function servers(id)
    local found = {}
    for _, instance in ipairs(assert(plane.workloads:list_instances(id)).items) do
      local status, body = house.get(instance.endpoints[1].port, "/")
      assert.equal(200, status)
      local pid, index = body:match "pid (%d+) index (%d+)"
      assert.equal(instance.replica_index, tonumber(index))
      local mine = false
      for _, process in ipairs(house.with_environment("CTRLPLANE_INSTANCE", instance.id)) do
        mine = mine or process.pid == tonumber(pid)
      end
      assert.is_true(mine, "pid " .. pid .. " is not of " .. instance.id)
      found[instance.replica_index] = { id = instance.id, pid = tonumber(pid) }
    end
    return found
  end

  local function indices(found)
    local list = {}
    for index in pairs(found) do
      list[#list + 1] = index
    end
    table.sort(list)
    return list
  end

  --- Turns the loop until check() holds.
  local function until_true(what, check, seconds)
    local deadline = house.now() + (seconds or 20)
    while true do
      local value, detail = check()
      if value then
        return value
      end
      assert(house.now() < deadline, ("waited in vain: %s (%s)"):format(what, tostring(detail)))
      plane:step(0.05)
    end
  end

  it("keeps ids, indices and counts through scale, pause, resume and restart", function()
    local web = assert(plane.workloads:create { name = "web", replicas = 3, services = hello(), wait = "30s" })
    assert.equal("active", web.state)
    assert.equal(3, web.ready_replicas)
    local three = servers(web.id)
    assert.same({ 0, 1, 2 }, indices(three))

    assert.equal("active", assert(plane.workloads:scale(web.id, { replicas = 5, wait = "30s" })).state)
    local five = servers(web.id)
    assert.same({ 0, 1, 2, 3, 4 }, indices(five))
    for index, server in pairs(three) do
      assert.same(server, five[index]) -- the same process
    end

    assert.equal("active", assert(plane.workloads:scale(web.id, { replicas = 2, wait = "30s" })).state)
    local two = servers(web.id)
    assert.same({ [0] = three[0], [1] = three[1] }, two)
    for index = 2, 4 do
      assert.is_false(house.alive(five[index].pid))
      assert.same({}, house.with_environment("CTRLPLANE_INSTANCE", five[index].id))
    end

    assert.equal("paused", assert(plane.workloads:pause(web.id, { wait = "30s" })).state)
    for _, server in pairs(two) do
      assert.is_false(house.alive(server.pid))
    end
    web = assert(plane.workloads:resume(web.id, { wait = "30s" }))
    assert.equal("active", web.state)
    assert.equal(2, web.replica_count)
    local again = servers(web.id)
    assert.same({ 0, 1 }, indices(again))
    assert.not_equal(two[0].id, again[0].id)

    web = assert(plane.workloads:restart(web.id, { wait = "30s" }))
    assert.equal("active", web.state)
    local restarted = servers(web.id)
    for index, server in pairs(again) do
      assert.equal(server.id, restarted[index].id)
      assert.not_equal(server.pid, restarted[index].pid)
      assert.is_false(house.alive(server.pid))
    end
  end)

  it("comes back when a replica is killed by kill -9", function()
    local web = assert(plane.workloads:create { name = "web", replicas = 3, services = hello(), wait = "30s" })
    local before = servers(web.id)
    signal.kill(before[1].pid, signal.SIGKILL)
    until_true("it is seen", function() return assert(plane.workloads:get(web.id)).ready_replicas == 2 end)
    until_true("it is back", function() return assert(plane.workloads:get(web.id)).ready_replicas == 3 end)
    local after = servers(web.id)
    assert.same(before[0], after[0])
    assert.equal(before[1].id, after[1].id)
    assert.not_equal(before[1].pid, after[1].pid)
    assert.equal(1, assert(plane.instances:get(before[1].id)).restarts)
  end)

  it("comes back also while the engine is down, and is adopted as it is", function()
    local web = assert(plane.workloads:create { name = "web", replicas = 2, services = hello(), wait = "30s" })
    local before = servers(web.id)
    local port = assert(plane.workloads:list_instances(web.id)).items[1].endpoints[1].port
    plane:close()
    signal.kill(before[0].pid, signal.SIGKILL)
    house.wait_for("the runtime starts it again", function()
      local status, body = house.get(port, "/")
      return status == 200 and body and not body:find("pid " .. before[0].pid .. " ", 1, true)
    end)
    open()
    until_true("it is seen", function() return assert(plane.workloads:get(web.id)).ready_replicas == 2 end)
    local after = servers(web.id)
    assert.same(before[1], after[1])
    assert.equal(before[0].id, after[0].id)
    assert.not_equal(before[0].pid, after[0].pid)
  end)

  it("fails with the reason when its command does not exist", function()
    local web = assert(plane.workloads:create {
      name = "web",
      services = hello { command = { "./nothing" } },
      wait = "30s",
    })
    assert.equal("failed", web.state)
    local event = assert(plane.events:list { types = { "instance.failed" } }).items[1]
    assert.matches("nothing", event.payload.message)
    local deployment = assert(plane.workloads:list_deployments(web.id)).items[1]
    assert.equal("failed", deployment.state)
    assert.matches("nothing", deployment.error.message)
  end)

  it("is ready when its check passes, and not when it fails", function()
    local marker = folder .. "/healthy"
    local checks = {
      command = { type = "command", command = { "test", "-e", marker }, interval = "200ms", retries = 2 },
      tcp = { type = "tcp", port = "http", interval = "200ms" },
    }
    local tcp = assert(plane.workloads:create { name = "tcp", services = hello { health_check = checks.tcp }, wait = "30s" })
    assert.equal(1, tcp.ready_replicas)
    local web = assert(plane.workloads:create { name = "web", services = hello { health_check = checks.command } })
    local instance = until_true("it runs, and its check was asked", function()
      local one = assert(plane.workloads:list_instances(web.id)).items[1]
      return one and one.state == "running" and one.service_status[1].message and one
    end)
    assert.is_false(instance.ready)
    assert.matches("ended with 1", instance.service_status[1].message)
    house.write(marker, "")
    until_true("it is ready", function() return assert(plane.workloads:get(web.id)).state == "active" end)
    os.remove(marker)
    until_true("it is not ready", function() return assert(plane.workloads:get(web.id)).ready_replicas == 0 end)
    assert.equal("active", assert(plane.workloads:get(web.id)).state)
    house.write(marker, "")
    until_true("it is ready again", function() return assert(plane.workloads:get(web.id)).ready_replicas == 1 end)
    local types = {}
    for _, event in ipairs(assert(plane.events:list { types = { "health.*" }, workload = web.id }).items) do
      table.insert(types, 1, event.type)
    end
    assert.same({ "health.passed", "health.failed", "health.recovered" }, types)
  end)

  it("is not ready at an unhealthy server, whose answer it names", function()
    local web = assert(plane.workloads:create {
      name = "web",
      services = hello { command = { "./hello", "--port", "${port.http}", "--unhealthy" } },
      progress_deadline = "3s",
      wait = "30s",
    })
    assert.equal("failed", web.state)
    local instance = assert(plane.workloads:list_instances(web.id)).items[1]
    assert.equal("running", instance.state)
    assert.is_false(instance.ready)
    assert.matches("503", instance.service_status[1].message)
  end)
end)
