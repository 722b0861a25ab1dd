--- The corpus of bad input against a plane: code, field and message of each, and a store that is as it was, byte by byte.
local core = require "ctrlplane.core"
local corpus = require "spec.corpus.bad_input"
local lab = require "spec.support.lab"

describe("bad input", function()
  local plane, ids

  setup(function()
    plane = lab.open {}
    local web = lab.workload(plane, { replicas = 2 })
    local idle = lab.workload(plane, { name = "idle" })
    local gone = lab.workload(plane, { name = "gone" })
    assert(plane.workloads:pause(idle.id, { wait = "10m" }))
    assert(plane.workloads:delete(gone.id, { wait = "10m" }))
    ids = {
      WEB = web.id,
      GONE = gone.id,
      RELEASE = web.current_release_id,
      OTHER = idle.current_release_id,
      INSTANCE = lab.instances(plane, web)[1].id,
      DEPLOYMENT = assert(plane.workloads:list_deployments(web.id)).items[1].id,
    }
  end)

  teardown(function() lab.close(plane) end)

  local function fill(text)
    return text and (text:gsub("%$(%u+)", ids))
  end

  local function matches(text, patterns)
    for pattern in patterns:gmatch "[^|]+" do
      if text:find(pattern) then return true end
    end
    return patterns == ""
  end

  --- The first row that differs, for the message.
  local function difference(before, after)
    local old = {}
    for line in before:gmatch "[^\n]+" do old[line] = true end
    for line in after:gmatch "[^\n]+" do
      if not old[line] then return line:sub(1, 200) end
    end
    return "a row is gone"
  end

  it("has 150 cases at least, each with a name of its own", function()
    assert.is_true(#corpus >= 150, #corpus .. " cases")
    local seen = {}
    for _, case in ipairs(corpus) do
      assert.is_nil(seen[case.name], case.name .. " is there twice")
      seen[case.name] = true
    end
  end)

  for _, case in ipairs(corpus) do
    it(("refuses %s"):format(case.name:gsub("%%", "%%%%")), function()
      local before = core.testing.model.dump(plane)
      local result, err = core.testing.model.call(plane, case.operation, fill(case.id), fill(case.args))
      assert.is_true(result == nil, "it was accepted")
      local said = ("%s at %s: %s%s"):format(err.code, tostring(err.field), err.message,
        err.hint and " (" .. err.hint .. ")" or "")
      assert.equal(case.code, err.code, said)
      if case.field ~= false then assert.equal(case.field, err.field, said) end
      assert.is_true(matches(err.message .. " " .. (err.hint or ""), case.message),
        ("the message does not say '%s': %s"):format(case.message, said))
      assert.is_nil(err.message:find "[%c]", "a message is one line")
      assert.is_true(#err.message < 400, "a message is short: " .. #err.message)
      local after = core.testing.model.dump(plane)
      assert.is_true(before == after, "the store has changed: " .. difference(before, after))
    end)
  end
end)
