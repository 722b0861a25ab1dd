-- ctest: timeout=240 labels=process
--- Large images in an engine under `serve`: everything else goes on meanwhile; and what no release names any more goes.
local dkjson = require "dkjson"
local house = require "spec.support.house"
local served = require "spec.support.served"

-- By PATH instead of the real one: hashes of what is called "big" begin when the file `hold` is gone.
local SUM = [[
#!/bin/sh
case $(readlink /proc/self/fd/0) in
*/big) while [ -e FOLDER/hold ]; do sleep 0.02; done ;;
esac
exec /usr/bin/sha256sum "$@"
]]

describe("a large image", function()
  local plane, client, big
  before_each(function()
    plane = served.open()
    client, big = plane.client, plane.folder .. "/big"
    os.execute("mkdir " .. plane.folder .. "/bin")
    house.write(plane.folder .. "/bin/sha256sum", (SUM:gsub("FOLDER", plane.folder)))
    house.write(big, "#!/bin/sh\nexec sleep 1000\n")
    os.execute(("chmod 755 %s/bin/sha256sum %s; truncate -s 300M %s"):format(plane.folder, big, big))
    plane:start { environment = { PATH = plane.folder .. "/bin:" .. os.getenv "PATH" } }
  end)
  after_each(function()
    os.remove(plane.folder .. "/hold")
    plane:close()
  end)

  local function post(workload)
    return house.spawn({ "/usr/bin/curl", "-s", "--max-time", "120", "--unix-socket", plane.store .. ".sock", "-H", "Content-Type: application/json",
      "-d", dkjson.encode(workload), "http://localhost/v1/workloads" })
  end
  local function large(name) return { name = name, services = { { name = "app", image = big, stop_timeout = "1s" } } } end
  local function helpers() return house.run({ "/usr/bin/pgrep", "-f", plane.folder .. "/bin/[s]ha256sum" }) == 0 end
  local function waits() house.wait_for("the helper", helpers) end

  it("holds up no request, no start, no check and no rollout while it is copied; then it runs", function()
    house.write(plane.folder .. "/hold", "")
    local call = post(large "large")
    waits()
    assert(client:post("/workloads", served.hello("web", 2)))
    plane:settle("web", 2)
    assert(client:post("/workloads/web/deploy", { services = { { name = "app", env = { V = "2" } } } }))
    house.wait_for("the rollout", function()
      local w = client:get "/workloads/web"
      return w.state == "active" and w.ready_replicas == 2 and #client:get("/workloads/web/releases").items == 2
    end, 60)
    assert.is_nil(call:poll())
    assert.same({ "web" }, { client:get("/workloads").items[1].slug, client:get("/workloads").items[2] })
    os.remove(plane.folder .. "/hold")
    local slowest, count = 0, 0
    repeat -- now 300 MB are really read, copied and read again
      local began = house.now()
      assert(client:get "/workloads")
      slowest, count = math.max(slowest, house.now() - began), count + 1
    until call:poll()
    assert.matches('"slug":"large"', (call:stdout():gsub("%s", "")))
    assert.is_true(count > 3 and slowest < 1, ("%d requests, the slowest took %g s"):format(count, slowest))
    assert.is_true(assert(client:get "/stats").stall_max_ms < 1000)
    plane:settle("large", 1)
  end)

  it("is copied for who went away as well: the work goes on", function()
    house.write(plane.folder .. "/hold", "")
    local call = post(large "large")
    waits()
    call:kill()
    os.remove(plane.folder .. "/hold")
    house.wait_for("the workload", function() return client:get "/workloads/large" end, 60)
    plane:settle("large", 1)
  end)

  it("is given up when the engine ends: nothing was done, nothing is left", function()
    house.write(plane.folder .. "/hold", "")
    local call = post(large "large")
    waits()
    local began = house.now()
    plane.process:signal "TERM"
    plane.process:wait()
    assert.is_true(house.now() - began < 5, "an engine does not end for a copy")
    assert.is_false(helpers())
    call:wait()
    plane:start()
    assert.same({}, client:get("/workloads").items)
  end)

  it("that is refused says which service's it is", function()
    local workload = large "large"
    workload.services[2] = { name = "two", role = "sidecar", image = plane.folder .. "/none" }
    local _, message, status, problem = client:post("/workloads", workload)
    assert.equal(400, status, message)
    assert.equal("services[1].image", problem.field)
  end)

  it("goes when no release names it any more, and stays as long as one does", function()
    assert(client:post("/workloads", served.hello("web", 1)))
    local web = plane:settle("web", 1)
    os.execute("truncate -s 31 " .. big) -- the script alone
    assert(client:post("/workloads/web/deploy", { services = { { name = "app", image = big } }, progress_deadline = "3s" }))
    local function hash(version)
      for _, release in ipairs(client:get("/workloads/web/releases").items) do
        if release.version == version then return release.services[1].image:match "%x+$" end
      end
    end
    local one, two = house.wait_for("release 1", function() return hash(1) end), house.wait_for("release 2", function() return hash(2) end)
    assert.not_equal(one, two)
    local function stored(name) return house.exists(("%s/images/%s"):format(plane.data, name)) end
    house.wait_for("the rollout", function() return client:get("/workloads/web/deployments").items[1].state ~= "running" end, 60)
    plane:kill()
    plane:start()
    house.sleep(0.3)
    assert.is_true(stored(one) and stored(two))
    plane:kill()
    assert.equal(0, (house.run { "/usr/bin/sqlite3", plane.store, ("DELETE FROM release WHERE workload_id = '%s' AND version = 2"):format(web.id) }))
    plane:start()
    house.wait_for("the image to go", function() return not stored(two) end)
    assert.is_true(stored(one))
    plane:settle("web", 1)
  end)
end)
