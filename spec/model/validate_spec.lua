--- Validation of services: each rule with the field it names, what it says and what it suggests.
local model = require("ctrlplane.core").model

--- A service that is fine, with changes.
local function service(changes)
  local result = { name = "app", image = "./app", ports = { { name = "http", container = 8080 } } }
  for key, value in pairs(changes or {}) do
    result[key] = value
  end
  return result
end

local function sidecar(name, changes)
  changes = changes or {}
  changes.name, changes.role, changes.ports = name, changes.role or "sidecar", changes.ports or {}
  return service(changes)
end

local function refused(services, field, message, hint, code)
  local ok, err = model.validate(services)
  assert.is_nil(ok, "it was let through")
  assert.same({ code or "invalid", field }, { err.code, err.field }, err.message)
  assert.matches(message, err.message)
  if hint then
    assert.matches(hint, err.hint or "(no hint)")
  end
end

describe("services that are fine", function()
  local ROWS = {
    ["one with a name and an image"] = { { name = "a", image = "x" } },
    ["one with a name and a command of the host"] = { { name = "a", command = { "sleep", "9" } } },
    ["a name of 63 characters"] = { service { name = ("a"):rep(63) } },
    ["a main, a sidecar and inits in a chain"] = {
      sidecar("migrate", { role = "init", depends_on = { "wait" } }),
      sidecar("wait", { role = "init" }),
      service { depends_on = { "proxy", "migrate" } },
      sidecar "proxy",
    },
    ["a diamond of dependencies"] = {
      service { depends_on = { "b", "c" } },
      sidecar("b", { depends_on = { "d" } }),
      sidecar("c", { depends_on = { "d" } }),
      sidecar "d",
    },
    ["the same port number for tcp and udp"] = {
      service { ports = { { name = "a", container = 53 }, { name = "b", container = 53, protocol = "udp" } } },
    },
    ["ports without numbers"] = { service { ports = { { name = "a" }, { name = "b" } } } },
    ["the same number on the host and inside"] = { service { ports = { { name = "a", container = 80, host = 80 } } } },
    ["a check by number, by name and by command"] = {
      service { health_check = { port = 8080 } },
      sidecar("b", { ports = { { name = "x" } }, health_check = { type = "tcp", port = "x" } }),
      sidecar("c", { health_check = { type = "command", command = { "true" } } }),
    },
    ["references to ports, own and others'"] = {
      service { env = { A = "${port.http} ${port.admin} ${instance.id} ${workload.slug}" }, args = { "${port.http}" } },
      sidecar("b", { ports = { { name = "admin" } }, command = { "x", "${instance.index}" },
        config_files = { { name = "c", path = "c", content = "${workload.name} ${instance.name}" } } }),
    },
    ["dollars of others (D7)"] = {
      service { env = { H = "$2b$12$abcdefghijklmnopqrstuv", P = "100%$", L = "$${port.htpp}", S = "${HOME}" },
        command = { "sh", "-c", "echo ${1:-x} $$ ${a.b}" } },
    },
    ["files with modes"] = {
      service { config_files = { { name = "a", path = "etc/a", mode = "644" }, { name = "b", path = "/b", mode = "7777" },
        { name = "c", path = "x..y/...z", mode = "00600" } } },
    },
    ["volumes"] = { service { volumes = { { name = "data", mount_path = "/data", size_mb = 10 },
      { name = "logs", mount_path = "logs" } } } },
    ["a check of the first port"] = { service { health_check = {} } },
    ["annotations"] = { service { annotations = { ["team/owner"] = "a b", x = "" } } },
    ["a path with short names in it"] = { service { config_files = { { name = "a", path = "ab/cd/..x" } } } },
    ["other numbers for each port"] = {
      service { ports = { { name = "a", container = 1, host = 2 }, { name = "b", container = 2, host = 1 } } },
    },
    ["an empty argument"] = { service { args = { "", "x" } } },
    ["numbers as texts in env"] = { service { env = { PORT = 8080 } } },
    ["a stop signal and no time to stop"] = { service { stop_signal = "QUIT", stop_timeout = 0 } },
    ["32 services"] = (function()
      local list = { service() }
      for i = 2, 32 do
        list[i] = sidecar("s" .. i)
      end
      return list
    end)(),
  }
  for what, services in pairs(ROWS) do
    it("are " .. what, function() assert.is_true(model.validate(services)) end)
  end
end)

describe("names", function()
  it("are given", function() refused({ { image = "x" } }, "services[0].name", "name") end)
  for _, name in ipairs { "App", "a_b", "-a", "a-", "a.b", "a b", "ä" } do
    it(("are DNS labels, which '%s' is not"):format(name), function()
      refused({ service { name = name } }, "services[0].name", "DNS label")
    end)
  end
  it("come with what would do", function()
    refused({ service { name = "My App" } }, "services[0].name", "'My App'", "'my%-app' would do")
    for _, name in ipairs { "数", "a\nb" } do
      local _, err = model.validate { service { name = name } }
      assert.is_nil(err.hint)
    end
  end)
  it("have at most 63 characters", function()
    refused({ service { name = ("a"):rep(64) } }, "services[0].name", "64 bytes")
  end)
  it("are unique", function()
    refused({ service(), sidecar "app" }, "services[1].name", "'app', as is services%[0%].name")
  end)
end)

describe("images", function()
  it("are given where no command is", function()
    refused({ { name = "a" } }, "services[0].image", "image")
    refused({ service { image = "" } }, "services[0].image", "is empty; give")
    refused({ service { image = "  " } }, "services[0].image", "blank")
  end)
  it("are one line", function()
    refused({ service { image = "a\nb" } }, "services[0].image", "0x0a")
    refused({ service { image = "a\127" } }, "services[0].image", "0x7f")
  end)
end)

describe("roles", function()
  it("have exactly one main", function()
    refused({ service(), service { name = "b", ports = {} } }, "services[1].role", "'app'", "sidecar or init")
    refused({ sidecar "a" }, "services", "no service with the role main")
  end)
  it("are words", function()
    refused({ service { role = "sidcar" } }, "services[0].role", "sidcar", "did you mean 'sidecar'")
  end)
end)

describe("dependencies", function()
  it("are known", function()
    refused({ service { depends_on = { "prxy" } }, sidecar "proxy" }, "services[0].depends_on[0]", "'prxy'",
      "did you mean 'proxy'")
    refused({ service { depends_on = { "zzzzzz" } } }, "services[0].depends_on[0]", "no such service")
  end)
  it("have no cycle, which is reported as its path", function()
    refused({ service { depends_on = { "b" } }, sidecar("b", { depends_on = { "c" } }),
      sidecar("c", { depends_on = { "app" } }) }, "services[2].depends_on[0]", "app %-> b %-> c %-> app")
    refused({ service { depends_on = { "app" } } }, "services[0].depends_on[0]", "cycle: app %-> app$")
    refused({ service { depends_on = { "b" } }, sidecar("b", { depends_on = { "c" } }),
      sidecar("c", { depends_on = { "b" } }) }, "services[2].depends_on[0]", "cycle: b %-> c %-> b")
  end)
  it("of an init are inits", function()
    refused({ service(), sidecar("i", { role = "init", depends_on = { "app" } }) }, "services[1].depends_on[0]",
      "after every init")
  end)
end)

describe("numbers", function()
  it("of services are 1 to 32", function()
    refused({}, "services", "0 services")
    local many = {}
    for i = 1, 33 do
      many[i] = sidecar("s" .. i)
    end
    refused(many, "services", "33")
  end)
  it("of resources are not negative", function()
    for _, key in ipairs { "cpu_millis", "memory_mb", "disk_mb", "gpu" } do
      refused({ service { resources = { [key] = -1 } } }, "services[0].resources." .. key, "%-1")
    end
  end)
  it("of checks have bounds", function()
    refused({ service { health_check = { interval = 0 } } }, "services[0].health_check.interval", "0")
    refused({ service { health_check = { timeout = "301s" } } }, "services[0].health_check.timeout", "301")
    refused({ service { health_check = { retries = 0 } } }, "services[0].health_check.retries", "0")
    refused({ service { health_check = { start_period = "x" } } }, "services[0].health_check.start_period", "x")
    refused({ service { stop_timeout = "25h" } }, "services[0].stop_timeout", "90000")
  end)
end)

describe("env", function()
  it("has names that an environment can have", function()
    refused({ service { env = { ["A=B"] = "x" } } }, "services[0].env.A=B", "no environment variable")
    refused({ service { env = { ["A B"] = "x" } } }, "services[0].env.A B", "no environment variable")
    refused({ service { env = { [""] = "x" } } }, "services[0].env.", "no environment variable")
    refused({ service { env = { ["A\n"] = "x" } } }, "services[0].env.A\n", "0x0a")
  end)
  it("leaves the engine's names alone", function()
    refused({ service { env = { CTRLPLANE_INSTANCE = "x" } } }, "services[0].env.CTRLPLANE_INSTANCE", "reserved")
  end)
  it("is bounded", function()
    refused({ service { env = { A = ("x"):rep(32 * 1024 + 1) } } }, "services[0].env.A", "32769 bytes", "config file")
    local env = {}
    for i = 1, 513 do
      env["A" .. i] = "x"
    end
    refused({ service { env = env } }, "services[0].env", "513")
  end)
  it("has texts", function()
    refused({ service { env = { A = true } } }, "services[0].env.A", "true")
  end)
end)

describe("commands", function()
  it("begin with a program", function()
    refused({ service { command = { "" } } }, "services[0].command[0]", "program")
  end)
  it("have words that execve takes", function()
    refused({ service { args = { ("x"):rep(128 * 1024 + 1) } } }, "services[0].args[0]", "131073 bytes")
    refused({ service { command = { "a\0b" } } }, "services[0].command[0]", "NUL")
  end)
  it("run as a user, somewhere", function()
    refused({ service { user = "a\tb" } }, "services[0].user", "0x09")
    refused({ service { workdir = "a\nb" } }, "services[0].workdir", "0x0a")
  end)
  it("end by a signal that exists", function()
    refused({ service { stop_signal = "SIGTERM" } }, "services[0].stop_signal", "SIGTERM", "'TERM'")
    refused({ service { stop_signal = "QIT" } }, "services[0].stop_signal", "QIT", "'QUIT'")
    refused({ service { stop_signal = "9" } }, "services[0].stop_signal", "'9'")
    refused({ service { stop_signal = "" } }, "services[0].stop_signal", "''")
  end)
  it("restart by a word", function()
    refused({ service { restart = "on-failure" } }, "services[0].restart", "on%-failure", "'on_failure'")
  end)
end)

describe("ports", function()
  local function port(changes)
    return { service { ports = { changes } } }
  end
  it("have a name that is a label with a letter", function()
    refused(port { container = 80 }, "services[0].ports[0].name", "name")
    refused(port { name = "HTTP" }, "services[0].ports[0].name", "HTTP", "'http' would do")
    refused(port { name = "80" }, "services[0].ports[0].name", "letter")
  end)
  it("have a protocol", function()
    refused(port { name = "a", protocol = "http" }, "services[0].ports[0].protocol", "tcp or udp")
    refused(port { name = "a", protocol = "" }, "services[0].ports[0].protocol", "tcp or udp")
  end)
  it("are within range", function()
    for _, number in ipairs { 0, -1, 65536, 1.5, "22:22", "80" } do
      refused(port { name = "a", container = number }, "services[0].ports[0].container", "")
      refused(port { name = "a", host = number }, "services[0].ports[0].host", "")
    end
  end)
  it("are unique by name in a service", function()
    refused({ service { ports = { { name = "a" }, { name = "a" } } } }, "services[0].ports[1].name", "'a'")
  end)
  it("are unique by number in a replica", function()
    refused({ service(), sidecar("b", { ports = { { name = "b", container = 8080 } } }) },
      "services[1].ports[0].container", "8080, as is services%[0%].ports%[0%].container")
    refused({ service { ports = { { name = "a", host = 80 }, { name = "b", host = 80 } } } },
      "services[0].ports[1].host", "80, as is")
  end)
  it("with a fixed host port are for one instance", function()
    assert.is_true(model.fixed_port(port { name = "a", host = 8080 }))
    assert.is_true(model.fixed_port { sidecar "b", service { ports = { { name = "a" }, { name = "b", host = 1 } } } })
    assert.is_false(model.fixed_port(port { name = "a", container = 8080 }))
    assert.is_false(model.fixed_port { sidecar "b" })
    local _, err = model.fixed_port { {} }
    assert.equal("services[0].name", err.field)
  end)
end)

describe("volumes", function()
  local function volume(...)
    return { service { volumes = { ... } } }
  end
  it("have a name and a place inside", function()
    refused(volume { name = "A", mount_path = "/x" }, "services[0].volumes[0].name", "DNS label")
    refused(volume { name = "a" }, "services[0].volumes[0].mount_path", "mount_path")
    for _, path in ipairs { "/", ".", "..", "../x", "/a/../b", "a/.." } do
      refused(volume { name = "a", mount_path = path }, "services[0].volumes[0].mount_path", "working copy")
    end
  end)
  it("are unique by name and place", function()
    refused(volume({ name = "a", mount_path = "/x" }, { name = "a", mount_path = "/y" }),
      "services[0].volumes[1].name", "unique")
    refused(volume({ name = "a", mount_path = "/x" }, { name = "b", mount_path = "/x" }),
      "services[0].volumes[1].mount_path", "as is")
  end)
  it("are persistent", function()
    refused(volume { name = "a", mount_path = "/x", type = "tmpfs" }, "services[0].volumes[0].type", "persistent")
    refused(volume { name = "a", mount_path = "/x", type = "" }, "services[0].volumes[0].type", "persistent")
  end)
end)

describe("config files", function()
  local function file(...)
    return { service { config_files = { ... } } }
  end
  it("have a name, a path inside and a mode", function()
    refused(file { path = "a" }, "services[0].config_files[0].name", "name")
    refused(file { name = "a\nb", path = "a" }, "services[0].config_files[0].name", "0x0a")
    refused(file { name = "a", path = "../etc/passwd" }, "services[0].config_files[0].path", "'..'")
    refused(file { name = "a", path = "b\nc" }, "services[0].config_files[0].path", "0x0a")
    for _, mode in ipairs { "rw", "0888", "10", "77777", "" } do
      refused(file { name = "a", path = "a", mode = mode }, "services[0].config_files[0].mode", "octal")
    end
  end)
  it("are unique by name and path", function()
    refused(file({ name = "a", path = "x" }, { name = "a", path = "y" }), "services[0].config_files[1].name", "unique")
    refused(file({ name = "a", path = "x" }, { name = "b", path = "x" }), "services[0].config_files[1].path", "as is")
  end)
  it("are bounded", function()
    refused(file { name = "a", path = "a", content = ("x"):rep(256 * 1024 + 1) },
      "services[0].config_files[0].content", "262145")
  end)
end)

describe("health checks", function()
  local function check(health_check, changes)
    changes = changes or {}
    changes.health_check = health_check
    return { service(changes) }
  end
  it("ask a port that there is", function()
    refused(check({ port = "htpp" }), "services[0].health_check.port", "'htpp'", "'http'")
    refused(check({ port = "zzzzzz" }), "services[0].health_check.port", "no such port")
    for _, number in ipairs { 0, 65536, "99999999999999999999" } do
      refused(check({ port = number }), "services[0].health_check.port", "1..65535")
    end
    refused(check({}, { ports = {} }), "services[0].health_check.port", "no port")
  end)
  it("ask for a path", function()
    for _, path in ipairs { "healthz", "/a b", "/a#b" } do
      refused(check { path = path }, "services[0].health_check.path", "start with /")
    end
    refused(check { path = "/a\nb" }, "services[0].health_check.path", "0x0a")
  end)
  it("run a command where the type is command", function()
    refused(check { type = "command" }, "services[0].health_check.command", "needs one")
    refused(check { type = "command", command = { "" } }, "services[0].health_check.command[0]", "program")
    refused(check { command = { "true" } }, "services[0].health_check.command", "http", "type to command")
    refused(check { type = "tcp", command = { "true" } }, "services[0].health_check.command", "tcp")
  end)
  it("are of a type that there is", function()
    refused(check { type = "https" }, "services[0].health_check.type", "https", "'http'")
    refused(check { type = "grpc" }, "services[0].health_check.type", "grpc", nil, "unsupported")
  end)
  it("are not for inits", function()
    refused({ service(), sidecar("i", { role = "init", health_check = {} }) }, "services[1].health_check", "init")
  end)
end)

describe("references", function()
  it("are known, and the nearest is named (D7)", function()
    refused({ service { env = { Q = "${port.htpp}" } } }, "services[0].env.Q", "port%.htpp", "'port.http'")
    refused({ service { command = { "x", "${instance.idx}" } } }, "services[0].command[1]", "instance.idx",
      "'instance.id'")
    refused({ service { args = { "${workload.slog}" } } }, "services[0].args[0]", "slog", "'workload.slug'")
    refused({ service { config_files = { { name = "a", path = "a", content = "x ${port.zzzzzzzzz}" } } } },
      "services[0].config_files[0].content", "zzz", "literal")
  end)
end)

describe("of several mistakes", function()
  it("the first is told", function()
    local bad, fine = "${port.x}", "fine"
    refused({ service { env = { A = bad, B = fine } } }, "services[0].env.A", "port.x")
    refused({ service { command = { "x", bad, fine } } }, "services[0].command[1]", "port.x")
    refused({ service { args = { bad, fine } } }, "services[0].args[0]", "port.x")
    refused({ service { config_files = { { name = "a", path = "a", content = bad }, { name = "b", path = "b" } } } },
      "services[0].config_files[0].content", "port.x")
    refused({ service { env = { A = bad } }, sidecar "b" }, "services[0].env.A", "port.x")
    refused({ service { image = " " }, sidecar "b" }, "services[0].image", "blank")
    local twice = { { name = "a", container = 1 }, { name = "b", container = 1 }, { name = "c", container = 2 } }
    refused({ service { ports = twice }, sidecar("b", { ports = { { name = "d", container = 3 } } }) },
      "services[0].ports[1].container", "1, as is")
    local host = { { name = "a", host = 1, container = 5 }, { name = "b", host = 1, container = 6 } }
    refused({ service { ports = host } }, "services[0].ports[1].host", "1, as is")
    local udp = { { name = "a", container = 1 }, { name = "b", container = 1, protocol = "udp" }, { name = "c",
      container = 1, protocol = "udp" } }
    refused({ service { ports = udp } }, "services[0].ports[2].container", "as is services%[0%].ports%[1%]")
  end)
end)

describe("labels and the like", function()
  it("bound annotations", function()
    refused({ service { annotations = { ["ctrlplane.x"] = "y" } } }, "services[0].annotations.ctrlplane.x", "reserved")
    refused({ service { annotations = { ["a b"] = "y" } } }, "services[0].annotations.a b", "letters")
    refused({ service { annotations = { [""] = "y" } } }, "services[0].annotations.", "letters")
    refused({ service { annotations = { [("k"):rep(129)] = "y" } } }, "services[0].annotations." .. ("k"):rep(129),
      "128")
    refused({ service { annotations = { a = ("y"):rep(257) } } }, "services[0].annotations.a", "257")
    refused({ service { annotations = { a = "x\ny" } } }, "services[0].annotations.a", "0x0a")
  end)
  it("keep no secrets yet", function()
    refused({ service { secrets = { { key = "a", env = "A" } } } }, "services[0].secrets", "secrets", "env", "unsupported")
  end)
end)

describe("the parts of a spec", function()
  it("are known by name", function()
    refused({ service { imagee = "x" } }, "services[0].imagee", "imagee", "'image'")
    refused({ service { health_check = { pth = "/" } } }, "services[0].health_check.pth", "pth", "'path'")
  end)
  it("have their types", function()
    refused({ service { env = { "x" } } }, "services[0].env", "")
    refused({ service { ports = { name = "a" } } }, "services[0].ports", "list")
    refused({ "app" }, "services[0]", "app")
  end)
end)
