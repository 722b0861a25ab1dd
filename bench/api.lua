--- What a caller gets: durable mutations per second through a plane with 64 requests in flight, beside plain SQLite
--- with one row in each commit; and GETs of a workload per second over the socket, beside bare evhttp saying hello.
--- Rivals are measured in turns in the same run; the best of the rounds counts.
local ctrlplane = require "ctrlplane"
local house = require "spec.support.house"
local plain = require "bench.support.plain"

local ROUNDS, SECONDS, IN_FLIGHT, CONNECTIONS = 3, 2, 64, 32
local folder = house.folder()

local function spec_of(name, replicas)
  return { name = name, replicas = replicas, services = { { name = "app", image = "app" } }, wait = "30s" }
end

--- Mutations: every one writes its workload's row and an event.
local function mutations()
  local floor = plain.open(folder .. "/plain.db")
  local plane = assert(ctrlplane.open { store = folder .. "/mutations.db", provider = "sim" })
  local ids = {}
  for i = 1, IN_FLIGHT do
    plane:spawn(function() ids[i] = assert(plane.workloads:create(spec_of("w" .. i, 1))).id end)
  end
  plane:run()

  local function plain_round()
    local start, done = house.now(), 0
    while house.now() - start < SECONDS do done = done + floor.run(done) end
    return done / (house.now() - start)
  end
  local function plane_round()
    local start, done = house.now(), 0
    for i = 1, IN_FLIGHT do
      plane:spawn(function()
        while house.now() - start < SECONDS do
          assert(plane.workloads:update(ids[i], { labels = { round = tostring(done) } }))
          done = done + 1
        end
      end)
    end
    plane:run()
    return done / (house.now() - start)
  end
  local best_plain, best_plane = 0, 0
  for _ = 1, ROUNDS do
    best_plain = math.max(best_plain, plain_round())
    best_plane = math.max(best_plane, plane_round())
  end
  floor.close()
  plane:close()
  return best_plain, best_plane
end

local function built(name, flags)
  local out = folder .. "/" .. name
  local command = "cc -O2 -D_GNU_SOURCE %s bench/support/%s.c -o %s $(pkg-config --cflags --libs libevent) -ldl"
  local code, _, err = house.run { "/bin/sh", "-c", command:format(flags, name, out) }
  assert(code == 0, err)
  return out
end

--- Requests per second that wrk gets from a unix socket.
local function load(preload, socket, path)
  local code, out, err = house.run({ "/usr/bin/wrk", "-t1", "-c" .. CONNECTIONS, "-d" .. SECONDS .. "s",
    "http://127.0.0.1:80" .. path }, { LD_PRELOAD = preload, OVER_UNIX = socket })
  assert(code == 0, err .. out)
  assert(not out:find "Non%-2xx", out)
  return (assert(tonumber(out:match "Requests/sec:%s+([%d.]+)"), out))
end

--- Both servers in turns: requests per second of each.
local function measure_gets(preload, hello_socket, socket)
  house.wait_for("hello answers", function() return house.get(hello_socket, "/", { timeout = 1 }) == 200 end)
  house.wait_for("the engine answers", function() return house.get(socket, "/readyz", { timeout = 1 }) == 200 end)
  local plane = assert(ctrlplane.connect { socket = socket })
  assert(plane.workloads:create(spec_of("web", 3)))
  plane:close()
  local best_hello, best_get = 0, 0
  for _ = 1, ROUNDS do
    best_hello = math.max(best_hello, load(preload, hello_socket, "/"))
    best_get = math.max(best_get, load(preload, socket, "/v1/workloads/web"))
  end
  return best_hello, best_get
end

local function gets()
  local preload = built("over_unix", "-shared -fPIC")
  local hello_socket, store = folder .. "/hello.sock", folder .. "/gets.db"
  local socket = store .. ".sock"
  local hello = house.spawn { built("evhttp_hello", ""), hello_socket }
  local serve = house.spawn { house.program "ctrlplane", "serve", "--store", store, "--provider", "sim" }
  local ok, best_hello, best_get = pcall(measure_gets, preload, hello_socket, socket)
  hello:kill()
  serve:signal "TERM"
  serve:wait(20)
  serve:kill()
  assert(ok, best_hello)
  return best_hello, best_get
end

local rows = { { "durable mutations per s, 64 in flight", "plain SQLite, 1 row a commit", 5, mutations() },
  { "GET of a workload per s", "bare evhttp saying hello", 0.5, gets() } }
house.remove(folder)

print(("best of %d rounds of %d s, in %s"):format(ROUNDS, SECONDS, folder:match "^(.*)/"))
print(("%-38s %10s   %-30s %10s %7s %5s"):format("", "ours", "beside", "theirs", "ratio", "aim"))
for _, row in ipairs(rows) do
  local what, beside, aim, theirs, ours = unpack(row)
  print(("%-38s %10.0f   %-30s %10.0f %7.2f %5.1f %s"):format(what, ours, beside, theirs, ours / theirs, aim,
    ours / theirs >= aim and "met" or "missed"))
end
