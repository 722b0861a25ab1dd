-- The HTTP server in this process, over its unix socket: what comes back for what is sent, byte by byte where it matters.
local poll = require "posix.poll"
local signal = require "posix.signal"
local socket = require "posix.sys.socket"
local stat = require "posix.sys.stat"
local core = require "ctrlplane.core"
local ctrlplane = require "ctrlplane"
local house = require "spec.support.house"

describe("the HTTP server", function()
  local plane, server, folder, path, open

  setup(function()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN) -- as the binary does: a library must not
    folder = house.folder()
    path = folder .. "/engine.sock"
    plane = assert(ctrlplane.open {
      store = ":memory:",
      provider = "sim",
      scenario = { latency = "1ms", old = { start_delay = "5ms" }, new = { start_delay = "5ms" } },
    })
    server = assert(core.testing.api.serve(plane, path))
    assert(plane.workloads:create {
      name = "web",
      replicas = 2,
      wait = "20s",
      services = { { name = "app", image = "app" } },
    })
  end)
  teardown(function()
    server:close()
    plane:close()
    house.remove(folder)
  end)
  before_each(function() open = {} end)
  after_each(function()
    for _, fd in ipairs(open) do
      house.close(fd)
    end
  end)

  --- A connection; the engine's loop is turned by read().
  local function connect()
    local fd = assert(house.connect(path))
    open[#open + 1] = fd
    return fd
  end

  --- Reads until `done(text)` or the end of the connection; the text.
  local function read(fd, done)
    local text = ""
    house.wait_for("the answer (so far: " .. text:sub(1, 200) .. ")", function()
      plane:step(0.005)
      while poll.rpoll(fd, 0) == 1 do
        local piece = socket.recv(fd, 65536)
        if not piece or piece == "" then -- it hung up, perhaps with something unread
          return true
        end
        text = text .. piece
      end
      return done and done(text)
    end)
    return text
  end

  local function parse(text)
    local status, head, body = text:match "^HTTP/1%.1 (%d+)(.-)\r\n\r\n(.*)$"
    assert.is_truthy(status, "no answer: " .. text)
    local headers = {}
    for name, value in head:gmatch "\r\n([^:]+): ([^\r]*)" do
      headers[name:lower()] = value
    end
    return tonumber(status), body, headers
  end

  local function raw(text)
    local fd = connect()
    while #text > 4096 do -- it is this process that has to read it, 4 KiB a turn
      house.send(fd, text:sub(1, 4096))
      text = text:sub(4097)
      plane:step(0.001)
    end
    house.send(fd, text)
    return parse(read(fd))
  end

  local function ask(method, target, body, headers)
    local lines = { ("%s %s HTTP/1.1"):format(method, target), "Host: engine", "Connection: close" }
    if body then
      lines[#lines + 1] = "Content-Type: application/json"
      lines[#lines + 1] = "Content-Length: " .. #body
    end
    for _, line in ipairs(headers or {}) do
      lines[#lines + 1] = line
    end
    local status, text, head = raw(table.concat(lines, "\r\n") .. "\r\n\r\n" .. (body or ""))
    local json = head["content-type"] == "application/json" and core.json.decode(text)
    return status, json or text, head
  end

  local function refused(status, code, ...)
    local got, answer, head = ask(...)
    local err = assert.is_table(answer.error) and answer.error
    assert.same({ status, code }, { got, err.code }, err.message)
    assert.matches("^req%-%x+%-%d+$", err.request_id)
    assert.equal(err.request_id, head["x-request-id"])
    return err, head
  end

  it("makes its socket for its user only", function()
    local mode = assert(stat.lstat(path)).st_mode
    assert.equal(tonumber("600", 8), mode % 512)
  end)

  it("answers /healthz and /readyz", function()
    assert.same({ 200, "ok\n" }, { (ask("GET", "/healthz")), (select(2, ask("GET", "/healthz"))) })
    local status, body = ask("GET", "/readyz")
    assert.same({ 200, "ready\n" }, { status, body })
  end)

  it("gets a workload by slug and by id", function()
    local status, web = ask("GET", "/v1/workloads/web")
    assert.equal(200, status)
    assert.equal("web", web.slug)
    assert.equal(2, web.ready_replicas)
    local _, same = ask("GET", "/v1/workloads/" .. web.id)
    assert.equal(web.id, same.id)
  end)

  it("keeps a connection for the next request", function()
    local fd = connect()
    house.send(fd, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    local whole = function(text) return text:sub(-3) == "ok\n" end
    read(fd, whole)
    house.send(fd, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    read(fd, whole)
  end)

  it("says which route was probably meant", function()
    local err = refused(404, "not_found", "GET", "/v1/workload/web")
    assert.equal("there is no route /v1/workload/web", err.message)
    assert.equal("did you mean '/v1/workloads/web'?", err.hint)
    err = refused(404, "not_found", "POST", "/v1/workloads/web/scales", "{}")
    assert.equal("did you mean '/v1/workloads/web/scale'?", err.hint)
    for _, odd in ipairs { "/", "/v1", "/v1/", "/v1//", "/v2/workloads", "/v1/a/b/c/d/e/f", "/v1/workloads/web/" } do
      refused(404, "not_found", "GET", odd)
    end
  end)

  it("says which methods a route has", function()
    local err, head = refused(405, "unsupported", "PUT", "/v1/workloads/web", "{}")
    assert.equal("PUT is not a method of /v1/workloads/web; it has GET, PATCH, DELETE", err.message)
    assert.equal("GET, PATCH, DELETE", head.allow)
    refused(405, "unsupported", "GET", "/v1/stop")
  end)

  it("types query parameters by the operation's descriptor", function()
    local status, page = ask("GET", "/v1/workloads?limit=1&state=active")
    assert.equal(200, status)
    assert.equal(1, #page.items)
    local err = refused(400, "invalid", "GET", "/v1/workloads?limit=ten")
    assert.equal("limit", err.field)
    assert.equal("limit is 'ten'; it must be a whole number", err.message)
    err = refused(400, "invalid", "GET", "/v1/workloads?limit=1&limit=2")
    assert.equal("limit is given twice", err.message)
    err = refused(400, "invalid", "GET", "/v1/workloads?limmit=1")
    assert.matches("limit", err.hint)
    refused(400, "invalid", "GET", "/v1/workloads?limit=99999999999999999999")
    refused(400, "invalid", "GET", "/v1/workloads?region=%ff")
    status, page = ask("GET", "/v1/events?types=workload.created,deploy.started&types=instance.created")
    assert.equal(200, status)
    assert.equal(4, #page.items)
  end)

  it("takes JSON objects only, and says where they are broken", function()
    local err = refused(400, "invalid", "POST", "/v1/workloads/web/scale", '{"replicas": 2')
    assert.matches("line 1", err.message)
    err = refused(400, "invalid", "POST", "/v1/workloads/web/scale", "[2]")
    assert.matches("not an object", err.message)
    err = refused(400, "invalid", "POST", "/v1/workloads/web/scale", '{"replicas": 2, "replicas": 50}')
    assert.matches("replicas", err.message)
    local status, answer = raw(
      "POST /v1/workloads/web/scale HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\nContent-Type: text/xml\r\n\r\n{}"
    )
    assert.equal(400, status)
    assert.matches("Content%-Type is 'text/xml'; send application/json", answer)
    err = refused(400, "invalid", "POST", "/v1/workloads/web/scale?replicas=3", '{"replicas": 2}')
    assert.equal("replicas is given twice", err.message)
    assert.equal(2, select(2, ask("GET", "/v1/workloads/web")).replica_count)
  end)

  it("refuses a body over 1 MiB with its size", function()
    local err = refused(413, "too_large", "POST", "/v1/workloads", '{"name":"' .. ("x"):rep(1048600) .. '"}')
    assert.matches("at most 1048576", err.message)
  end)

  it("answers a mutation at once, or when it is settled", function()
    local status, web = ask("POST", "/v1/workloads/web/scale", '{"replicas": 3}')
    assert.equal(200, status)
    assert.equal(3, web.replica_count)
    status, web = ask("POST", "/v1/workloads/web/scale?wait=20s", '{"replicas": 2}')
    assert.equal(200, status)
    assert.same({ 2, 2, "active" }, { web.replica_count, web.ready_replicas, web.state })
  end)

  it("changes a workload only when its ETag is the one that was seen", function()
    local _, _, head = ask("GET", "/v1/workloads/web")
    assert.matches('^"%x+"$', head.etag)
    local status = ask("PATCH", "/v1/workloads/web", '{"labels":{"a":"1"}}', { "If-Match: " .. head.etag })
    assert.equal(200, status)
    local err = refused(409, "conflict", "PATCH", "/v1/workloads/web", '{"labels":{"a":"2"}}', { "If-Match: " .. head.etag })
    assert.equal("If-Match", err.field)
    local _, web, now = ask("GET", "/v1/workloads/web")
    assert.equal("1", web.labels.a)
    assert.not_equal(head.etag, now.etag)
    assert.equal(200, (ask("PATCH", "/v1/workloads/web", '{"labels":{"a":"3"}}', { "If-Match: *" })))
  end)

  it("changes no count by a PATCH that names none (faults A7)", function()
    local _, before = ask("GET", "/v1/workloads/web")
    local _, page = ask("GET", "/v1/events?types=workload.scaled")
    local status, after = ask("PATCH", "/v1/workloads/web", '{"labels":{"a":"b"}}')
    assert.equal(200, status)
    assert.equal(before.replica_count, after.replica_count)
    assert.equal(page.total, select(2, ask("GET", "/v1/events?types=workload.scaled")).total)
    local err = refused(400, "invalid", "PATCH", "/v1/workloads/web", '{"replicas":1}')
    assert.equal("replicas", err.field)
  end)

  it("tells the engine's errors with field and hint", function()
    local err = refused(400, "invalid", "POST", "/v1/workloads", '{"name":"x","services":[{"name":"app","imagee":"a"}]}')
    assert.equal("services[0].imagee", err.field)
    assert.matches("image", err.hint)
    refused(404, "not_found", "GET", "/v1/workloads/nobody")
    refused(400, "invalid", "GET", "/v1/workloads/a%00b")
    refused(404, "not_found", "GET", "/v1/workloads/..%2f..%2fetc")
  end)

  it("refuses an Idempotency-Key rather than ignoring it", function()
    local err = refused(422, "unsupported", "POST", "/v1/workloads/web/scale", '{"replicas":2}', { "Idempotency-Key: 7" })
    assert.equal("Idempotency-Key", err.field)
  end)

  it("names the user of the socket as the actor", function()
    ask("PATCH", "/v1/workloads/web", '{"labels":{"b":"1"}}')
    local _, page = ask("GET", "/v1/events?types=workload.updated&limit=1")
    local user = require("posix.pwd").getpwuid(require("posix.unistd").getuid()).pw_name
    assert.equal(user, page.items[1].actor_id)
  end)

  local function events_of(text)
    local events = {}
    local body = text:match "\r\n\r\n(.*)$" or ""
    body = body:gsub("%x+\r\n(.-)\r\n", "%1") -- chunks
    for block in body:gmatch "(.-)\n\n" do
      local event = {}
      for name, value in block:gmatch "(%a+): ([^\n]*)" do
        event[name] = value
      end
      events[#events + 1] = event
    end
    return events
  end

  it("streams events from a position, and goes on behind the last one that was seen", function()
    local fd = connect()
    house.send(fd, "GET /v1/events?after=0 HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
    local text = read(fd, function(got) return #events_of(got) >= 3 end)
    assert.matches("Content%-Type: text/event%-stream\r\n", text)
    local events = events_of(text)
    for n = 1, 3 do
      assert.equal(tostring(n), events[n].id)
      assert.equal(n, core.json.decode(events[n].data).seq)
      assert.equal(events[n].event, core.json.decode(events[n].data).type)
    end
    fd = connect()
    house.send(fd, "GET /v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nLast-Event-ID: 2\r\n\r\n")
    text = read(fd, function(got) return #events_of(got) >= 1 end)
    assert.equal("3", events_of(text)[1].id)
    refused(400, "invalid", "GET", "/v1/events", nil, { "Accept: text/event-stream", "Last-Event-ID: two" })
  end)

  it("streams what happens now", function()
    local fd = connect()
    house.send(fd, "GET /v1/events?types=workload.updated HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
    read(fd, function(got) return got:find("\r\n\r\n", 1, true) end)
    ask("PATCH", "/v1/workloads/web", '{"labels":{"c":"1"}}')
    local text = read(fd, function(got) return got:find("workload.updated", 1, true) end)
    assert.matches("event: workload.updated\n", text)
  end)

  it("is not held up by a client that never reads, and by one that goes away", function()
    local deaf = connect()
    house.send(deaf, "GET /v1/events?after=0 HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
    for n = 1, 300 do
      assert(plane.workloads:update("web", { labels = { n = tostring(n), text = ("x"):rep(200) } }))
    end
    assert.equal(200, (ask("GET", "/v1/workloads/web")))
    local gone = connect()
    house.send(gone, "GET /v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
    read(gone, function(got) return got:find("\r\n\r\n", 1, true) end)
    house.close(table.remove(open))
    for _ = 1, 5 do
      plane:step(0.01)
    end
    assert.equal(200, (ask("PATCH", "/v1/workloads/web", '{"labels":{"d":"1"}}')))
    -- whoever reads at last gets every event, in order
    local newest = assert(plane.events:list { limit = 1 }).items[1].seq
    local text = read(deaf, function(got) return got:find(("\nid: %d\n"):format(newest), 1, true) end)
    local last = 0
    for _, event in ipairs(events_of(text)) do
      assert.equal(last + 1, tonumber(event.id))
      last = tonumber(event.id)
    end
    assert.is_true(last > 300)
  end)

  it("forgets a request whose client went away before the answer", function()
    local fd = connect()
    house.send(fd, "POST /v1/workloads/web/scale?wait=5m&replicas=2 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    house.close(table.remove(open))
    for _ = 1, 5 do
      plane:step(0.01)
    end
    assert.equal(200, (ask("GET", "/v1/workloads/web")))
  end)

  it("streams logs as events and as plain lines", function()
    local fd = connect()
    house.send(fd, "GET /v1/workloads/web/logs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    local text = read(fd)
    assert.matches("\nevent: end\ndata: {}\n\n", text)
    assert.matches('"line":"started"', text)
    local status, body = raw "GET /v1/workloads/web/logs HTTP/1.1\r\nHost: x\r\nAccept: text/plain\r\nConnection: close\r\n\r\n"
    assert.equal(200, status)
    assert.matches("started\n", body)
    refused(404, "not_found", "GET", "/v1/workloads/nobody/logs")
  end)

  it("answers what is no HTTP with 400 and goes on", function()
    for _, text in ipairs {
      "nonsense\r\n\r\n",
      "GET / HTTP/9.9\r\n\r\n",
      "GET /" .. ("a"):rep(70000) .. " HTTP/1.1\r\n\r\n",
      "POST /v1/workloads HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
      "\0\1\2\3\r\n\r\n",
    } do
      local fd = connect()
      house.send(fd, text)
      local answer = read(fd)
      local status = tonumber(answer:match "^HTTP/1%.%d (%d+)" or 400) -- or it just hangs up
      assert.is_true(status >= 400 and status < 500, text:sub(1, 40) .. " -> " .. answer:sub(1, 40))
    end
    assert.equal(200, (ask("GET", "/healthz")))
  end)

  it("replaces a stale socket, but neither a live one nor a file", function()
    local again, err = core.testing.api.serve(plane, path)
    assert.is_nil(again)
    assert.equal("conflict", err.code)
    local file = folder .. "/file"
    house.write(file, "mine")
    again, err = core.testing.api.serve(plane, file)
    assert.is_nil(again)
    assert.equal("already_exists", err.code)
    assert.equal("mine", house.read(file))
    local stale = folder .. "/stale"
    local fd = assert(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0))
    assert(socket.bind(fd, { family = socket.AF_UNIX, path = stale }))
    house.close(fd)
    again = assert(core.testing.api.serve(plane, stale))
    again:close()
    assert.is_false(house.exists(stale))
    again, err = core.testing.api.serve(plane, folder .. "/" .. ("x"):rep(120))
    assert.is_nil(again)
    assert.equal("invalid", err.code)
  end)

  it("sends a heartbeat every 15 s to who waits for events", function()
    local still = assert(ctrlplane.open { store = ":memory:", provider = "sim", clock = "virtual" })
    local quiet = assert(core.testing.api.serve(still, folder .. "/quiet"))
    local fd = assert(house.connect(folder .. "/quiet"))
    open[#open + 1] = fd
    house.send(fd, "GET /v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
    local text = ""
    local function drain()
      for _ = 1, 20 do
        still:step(0)
      end
      while poll.rpoll(fd, 0) == 1 do
        text = text .. assert(socket.recv(fd, 65536))
      end
      return select(2, text:gsub(": heartbeat\n\n", ""))
    end
    house.wait_for("the stream", function()
      drain()
      return text:find("\r\n\r\n", 1, true)
    end)
    assert.equal(0, drain())
    still.clock:advance "14s"
    assert.equal(0, drain())
    still.clock:advance "2s"
    assert.equal(1, drain())
    still.clock:advance "15s"
    assert.equal(2, drain())
    quiet:close()
    still:close()
  end)

  it("may be closed with requests and streams under way", function()
    local other = assert(core.testing.api.serve(plane, folder .. "/other"))
    local fds = {}
    for n, text in ipairs {
      "GET /v1/events?after=0 HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n",
      "POST /v1/workloads/web/pause?wait=5m HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
      "GET /v1/workloads/web/logs?follow HTTP/1.1\r\nHost: x\r\n\r\n",
      "POST /v1/workloads HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
    } do
      fds[n] = assert(house.connect(folder .. "/other"))
      open[#open + 1] = fds[n]
      house.send(fds[n], text)
    end
    for _ = 1, 4 do
      plane:step(0.002)
    end
    other:close()
    for _, fd in ipairs(fds) do
      read(fd) -- each ends
    end
    assert.is_false(house.exists(folder .. "/other"))
    assert(plane.workloads:resume("web", { wait = "20s" }))
  end)

  it("stops when it is asked to, after it has said so", function()
    assert.is_false(server:stopped())
    local status, answer = ask("POST", "/v1/stop")
    assert.equal(200, status)
    assert.is_true(answer.stopping)
    house.wait_for("the stop", function()
      plane:step(0.005)
      return server:stopped()
    end)
  end)
end)
