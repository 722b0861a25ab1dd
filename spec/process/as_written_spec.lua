-- ctest: timeout=60 labels=process
--- From a file to a real process: what was written is what the service gets (D3, D7).
local ctrlplane = require "ctrlplane"
local house = require "spec.support.house"
local specfile = require "ctrlplane.specfile"

local SPEC = [[
name: written
labels: { on: x, 8080: y }
services:
  - name: app
    command: [ sh, -c, 'env; echo "arg $0 $1"; cat etc/a.conf; stat -c "mode %a" etc/a.conf; echo end; exec sleep 60',
      $HOME, '${port.http}' ]
    ports: [{ name: http }]
    env: { COUNTRY: NO, MODE: 0755, T: 22:22, VER: 1.10, EXP: 1e3, HEX: 0x1F, U: 1_000, BIG: 12345678901234567890,
      DAY: 2024-01-01, EMPTY: , TILDE: ~, H: $2b$12$abcdefghijklmnopqrstuv, P: 100%$, L: '$${port.http}',
      W: '${workload.slug}-${instance.index}' }
    config_files:
      - { name: a, path: etc/a.conf, mode: 0640, content: 'conf ${1:-x} $uri $${HOME} ${HOME} ${port.http}' }
]]

describe("a spec from a file", function()
  local folder, plane
  before_each(function()
    folder = house.folder()
    plane = assert(ctrlplane.open { store = folder .. "/plane.db", provider = "process" })
  end)
  after_each(function()
    plane.workloads:delete("written", { wait = "10s" })
    plane:close()
    house.remove(folder)
  end)

  it("reaches the process as it was written", function()
    house.write(folder .. "/web.yaml", SPEC)
    local spec = assert(specfile.read(folder .. "/web.yaml"))
    local workload = assert(plane.workloads:create(spec))
    assert.same({ on = "x", ["8080"] = "y" }, workload.labels)
    local lines, env = {}, {}
    for event in plane.workloads:stream_logs("written", { follow = true, timeout = "20s" }) do
      lines[#lines + 1] = event.line
      local key, value = event.line:match "^([%w_]+)=(.*)$"
      if key then env[key] = value end
      if event.line == "end" then break end
    end
    local text = table.concat(lines, "\n")
    assert.equal("end", lines[#lines], text)
    local port = env.PORT
    assert.matches("^%d+$", port)
    for key, value in pairs { COUNTRY = "NO", MODE = "0755", T = "22:22", VER = "1.10", EXP = "1e3", HEX = "0x1F",
      U = "1_000", BIG = "12345678901234567890", DAY = "2024-01-01", EMPTY = "", TILDE = "~",
      H = "$2b$12$abcdefghijklmnopqrstuv", P = "100%$", L = "${port.http}", W = "written-0" } do
      assert.equal(value, env[key], key)
    end
    assert.is_truthy(text:find("\narg $HOME " .. port .. "\n", 1, true), text)
    assert.is_truthy(text:find("\nconf ${1:-x} $uri ${HOME} ${HOME} " .. port, 1, true), text)
    assert.is_truthy(text:find("mode 640\n", 1, true), text)
  end)

  it("is refused with the field of a reference that is unknown, before anything is made", function()
    local spec = assert(specfile.parse((SPEC:gsub("H: %$2b", "Q: '${port.htpp}', %0")), "yaml", "web.yaml"))
    local workload, err = plane.workloads:create(spec)
    assert.is_nil(workload)
    assert.same({ "invalid", "services[0].env.Q" }, { err.code, err.field })
    assert.matches("'port.http'", err.hint)
    assert.equal(0, assert(plane.workloads:list()).total)
  end)
end)
