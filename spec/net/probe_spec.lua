-- Health probes against the example server, which says what it is told to say, and against nobody.
local house = require "spec.support.house"
local net = require("ctrlplane.core").testing.net

describe("a probe", function()
  local client, server, port

  before_each(function()
    client = assert(net.open())
    port = house.free_port()
    server = house.spawn({ house.program "hello" }, { PORT = tostring(port) })
    house.wait_for("the server listens", function() return house.get(port, "/healthz") end)
  end)
  after_each(function()
    client:close()
    server:kill()
  end)

  local function ask(target, timeout)
    local n = assert(client:probe(target:gsub("PORT", tostring(port)), timeout or 5000))
    return client:answer(n, 10000)
  end

  it("by http is healthy at 200 and says the status otherwise", function()
    local result = ask "http://127.0.0.1:PORT/healthz"
    assert.is_true(result.healthy)
    assert.equal(200, result.status_code)
    result = ask "http://127.0.0.1:PORT/nothing"
    assert.is_false(result.healthy)
    assert.equal(404, result.status_code)
    assert.equal("HTTP 404", result.message)
  end)

  it("by tcp is healthy when somebody accepts", function()
    assert.is_true(ask("tcp://127.0.0.1:PORT").healthy)
    assert.is_true(ask("tcp://localhost:PORT").healthy)
  end)

  it("says that the connection was refused", function()
    for _, target in ipairs { "tcp://127.0.0.1:1", "http://127.0.0.1:1/", "tcp://[::1]:1" } do
      local result = ask(target)
      assert.is_false(result.healthy)
      assert.equal("Connection refused", result.message, target)
    end
  end)

  it("gives up after its timeout", function()
    local result = ask("http://127.0.0.1:PORT/slow?60000", 200)
    assert.is_false(result.healthy)
    assert.equal("no answer in 200 ms", result.message)
  end)

  it("may be cancelled", function()
    local n = assert(client:probe(("http://127.0.0.1:%d/slow?60000"):format(port), 5000))
    client:turn(10)
    client:cancel(n)
    n = assert(client:probe(("tcp://127.0.0.1:%d"):format(port), 5000))
    client:cancel(n)
    client:turn(10)
    assert.equal("pending", client:answer(n))
  end)

  it("refuses what is no target and a timeout out of bounds", function()
    for _, bad in ipairs { "tcp://nowhere:80", "tcp://127.0.0.1", "tcp://", "udp://127.0.0.1:1" } do
      local n, err = client:probe(bad, 1000)
      assert.is_nil(n, bad)
      assert.equal("invalid", err.code, bad)
    end
    local n, err = client:probe("tcp://127.0.0.1:80", 0)
    assert.is_nil(n)
    assert.equal("timeout is 0 ms; it must be 1..300000", err.message)
  end)
end)
