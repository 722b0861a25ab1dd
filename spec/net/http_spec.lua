-- The HTTP client against servers that answer byte by byte as the spec wants it.
local socket = require "posix.sys.socket"
local unistd = require "posix.unistd"
local house = require "spec.support.house"
local net = require("ctrlplane.core").testing.net

describe("the HTTP client", function()
  local client, listener, port, open

  before_each(function()
    client = assert(net.open())
    listener = assert(socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0))
    port = house.free_port()
    assert(socket.bind(listener, { family = socket.AF_INET, addr = "127.0.0.1", port = port }))
    assert(socket.listen(listener, 16))
    open = {}
  end)
  after_each(function()
    client:close()
    for _, fd in ipairs(open) do
      unistd.close(fd)
    end
    unistd.close(listener)
  end)

  local function url(path) return ("http://127.0.0.1:%d%s"):format(port, path or "/") end

  --- Turns the client's loop until the listener has a connection with a whole request head.
  local function accept()
    local poll = require "posix.poll"
    house.wait_for("the client connects", function()
      client:turn(5)
      return poll.rpoll(listener, 0) == 1
    end)
    local fd = assert(socket.accept(listener))
    open[#open + 1] = fd
    local head = ""
    house.wait_for("the request", function()
      client:turn(5)
      if poll.rpoll(fd, 0) == 1 then
        head = head .. assert(unistd.read(fd, 65536))
      end
      return head:find("\r\n\r\n", 1, true)
    end)
    return fd, head
  end

  local function say(fd, text) assert(unistd.write(fd, text)) end
  local function hang_up(fd)
    unistd.close(fd)
    for i, other in ipairs(open) do
      if other == fd then
        table.remove(open, i)
      end
    end
  end

  it("gives status, body and content type", function()
    local n = assert(client:send { url = url "/a?b=c" })
    local fd, head = accept()
    assert.matches("^GET /a%?b=c HTTP/1.1\r\n", head)
    say(fd, "HTTP/1.1 203 Fine\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhel")
    client:turn(20)
    assert.equal("pending", client:answer(n))
    say(fd, "lo")
    assert.same({ status = 203, body = "hello", content_type = "text/plain" }, client:answer(n, 5000))
  end)

  it("sends method, headers and body", function()
    local n = assert(client:send { url = url(), method = "PATCH", body = '{"a":1}', header = "If-Match: \"7\"" })
    local fd, head = accept()
    assert.matches("^PATCH / HTTP/1.1\r\n", head)
    assert.matches('\r\nIf%-Match: "7"\r\n', head)
    assert.matches("\r\nContent%-Length: 7\r\n", head)
    assert.is_nil(head:match "Expect:")
    assert.matches('{"a":1}$', head)
    say(fd, "HTTP/1.1 204 No Content\r\n\r\n")
    assert.equal(204, client:answer(n, 5000).status)
    n = assert(client:send { url = url(), method = "POST" })
    say(fd, "") -- the connection is used again
    house.wait_for("the second request", function()
      client:turn(5)
      return require("posix.poll").rpoll(fd, 0) == 1
    end)
    head = unistd.read(fd, 65536)
    assert.matches("^POST / HTTP/1.1\r\n", head)
    assert.matches("\r\nContent%-Length: 0\r\n", head)
    say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert.equal("", client:answer(n, 5000).body)
  end)

  it("never calls back within the call", function()
    local n = assert(client:send { url = "http://127.0.0.1:1/" })
    assert.equal("pending", (function()
      return client:answer(n, 0)
    end)())
    local answer, err = client:answer(n, 5000)
    assert.is_nil(answer)
    assert.equal("provider_unavailable", err.code)
    assert.equal("http://127.0.0.1:1/: Connection refused", err.message)
  end)

  it("speaks over a unix socket", function()
    local folder = house.folder()
    local path = folder .. "/s"
    local unix = assert(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0))
    assert(socket.bind(unix, { family = socket.AF_UNIX, path = path }))
    assert(socket.listen(unix, 4))
    local kept = listener
    listener = unix
    local n = assert(client:send { url = "http://engine/v1/x", unix = path })
    local fd, head = accept()
    assert.matches("^GET /v1/x HTTP/1.1\r\nHost: engine\r\n", head)
    say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert.equal("ok", client:answer(n, 5000).body)
    unistd.close(unix)
    listener = kept
    local gone = assert(client:send { url = "http://engine/", unix = folder .. "/nobody" })
    local _, err = client:answer(gone, 5000)
    assert.equal("provider_unavailable", err.code)
    assert.equal(folder .. "/nobody: No such file or directory", err.message)
    house.remove(folder)
  end)

  it("gives up after its timeout, and only then", function()
    local n = assert(client:send { url = url(), timeout = 0.2 })
    local fd = accept()
    say(fd, "HTTP/1.1 200 OK\r\nContent-Le")
    local began = house.now()
    local _, err = client:answer(n, 5000)
    assert.equal("timeout", err.code)
    assert.equal(url() .. ": no answer in 200 ms", err.message)
    assert.is_true(house.now() - began < 2)
  end)

  it("does not hold a stall of the loop against the other side", function()
    local n = assert(client:send { url = url(), timeout = 1.5 })
    local fd = accept()
    client:turn(0)
    house.sleep(2.8) -- nobody turns the loop: longer than the timeout
    say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert.equal(200, assert(client:answer(n, 5000)).status)
  end)

  it("stops at the size that was asked for", function()
    local n = assert(client:send { url = url(), max = 10 })
    local fd = accept()
    say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world")
    local _, err = client:answer(n, 5000)
    assert.equal("too_large", err.code)
    assert.matches("over 10 bytes", err.message)
  end)

  it("says what was wrong with an answer that is cut off", function()
    for _, text in ipairs { "", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal" } do
      local n = assert(client:send { url = url(), no_reuse = true })
      local fd = accept()
      if text ~= "" then
        say(fd, text)
      end
      hang_up(fd)
      local answer, err = client:answer(n, 5000)
      assert.is_nil(answer)
      assert.equal("provider_unavailable", err.code)
    end
  end)

  it("hands on a stream piece by piece", function()
    local n = assert(client:send { url = url(), stream = true })
    local fd = accept()
    say(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
    house.wait_for("the first piece", function()
      client:turn(5)
      return #client:chunks(n) == 1
    end)
    assert.same({ "one" }, client:chunks(n))
    assert.equal("pending", client:answer(n))
    say(fd, "5\r\ntwo\n3\r\n0\r\n\r\n")
    assert.equal(200, client:answer(n, 5000).status)
    assert.equal("onetwo\n3", table.concat(client:chunks(n)))
  end)

  it("may be cancelled before, while it runs, and from its own pieces", function()
    client:cancel((assert(client:send { url = url() })))
    local n = assert(client:send { url = url(), no_reuse = true })
    accept()
    client:cancel(n)
    n = assert(client:send { url = url(), stream = true, cancel_on_chunk = true })
    local fd = accept()
    say(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n")
    house.wait_for("the piece", function()
      client:turn(5)
      return #client:chunks(n) == 1
    end)
    for _ = 1, 5 do
      client:turn(5)
    end
    assert.equal("pending", client:answer(n)) -- never told
  end)

  it("may be freed from an answer", function()
    local n = assert(client:send { url = url(), close_on_done = true })
    assert(client:send { url = url() })
    local fd = accept()
    say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    client:turn(0)
    local second = accept()
    say(second, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert.equal(200, client:answer(n, 5000).status)
  end)

  it("asks no resolver: names are refused, localhost and addresses are not", function()
    local n, err = client:send { url = "http://example.com/" }
    assert.is_nil(n)
    assert.equal("invalid", err.code)
    assert.equal("'http://example.com/': host 'example.com' is a name; give an address or localhost", err.message)
    for _, bad in ipairs { "ftp://127.0.0.1/", "127.0.0.1", "", "http://" } do
      n, err = client:send { url = bad }
      assert.is_nil(n, bad)
      assert.equal("url", err.field)
    end
    n = assert(client:send { url = ("http://localhost:%d/"):format(port) })
    local fd = accept()
    say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert.equal(200, client:answer(n, 5000).status)
    local tasks = require("posix.dirent").dir "/proc/self/task"
    assert.equal(3, #tasks) -- ".", ".." and one thread
  end)
end)
