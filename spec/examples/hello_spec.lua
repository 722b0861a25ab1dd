-- The example server, as the quickstart and other specs count on it.
local house = require "spec.support.house"

describe("examples/hello", function()
  local server, port

  before_each(function()
    port = house.free_port()
    server = house.spawn({ house.program "hello", "--version", "v7" }, { PORT = tostring(port), INDEX = "3" })
    house.wait_for("the server listens", function() return house.get(port, "/healthz") end)
  end)
  after_each(function() server:kill() end)

  it("answers with its version, pid and index", function()
    local status, body = house.get(port, "/")
    assert.equal(200, status)
    assert.equal(("hello v7 pid %d index 3\n"):format(server.pid), body)
  end)

  it("answers other clients while one waits for /slow", function()
    local slow = house.connect(port)
    house.send(slow, "GET /slow?60000 HTTP/1.1\r\n\r\n")
    assert.equal(200, (house.get(port, "/")))
    house.close(slow)
  end)

  it("says which page it does not have", function()
    local status, body = house.get(port, "/nothing")
    assert.equal(404, status)
    assert.equal("no page /nothing here\n", body)
  end)

  it("ends at SIGTERM, also with a slow answer under way", function()
    local slow = house.connect(port)
    house.send(slow, "GET /slow?60000 HTTP/1.1\r\n\r\n")
    server:signal "TERM"
    assert.same({ signal = 15 }, server:wait())
    house.close(slow)
  end)

  it("refuses a port that is none", function()
    local bad = house.spawn({ house.program "hello", "--port", "99999" }, {})
    assert.same({ code = 2 }, bad:wait())
    assert.equal("hello: port '99999' is not in 1..65535; give --port N or set PORT\n", bad:stderr())
    bad:kill()
  end)
end)
