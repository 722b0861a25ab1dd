local command = require "spec.support.command"

describe("the command line", function()
  local home
  before_each(function() home = command.open() end)
  after_each(function() home:close() end)

  it("shows an example first in every help", function()
    local app = require "ctrlplane.cli.app"
    local function walk(path, specs)
      for _, spec in ipairs(specs) do
        local words = { unpack(path) }
        words[#words + 1] = spec.name
        local arguments = { unpack(words) }
        arguments[#arguments + 1] = "--help"
        local out = home:ok(arguments)
        assert.equal("Example:\n   $ " .. spec.example .. "\n", out:match "^[^\n]*\n[^\n]*\n", table.concat(words, " "))
        assert.truthy(spec.example:find("ctrlplane " .. table.concat(words, " "), 1, true)
          or spec.name == "rollout" or spec.name == "strategy", spec.example)
        if spec.commands then walk(words, spec.commands) end
      end
    end
    walk({}, app.commands())
  end)

  it("names every command in --help", function()
    local out = home:ok "--help"
    for _, name in ipairs { "serve", "stop", "up", "ls", "get", "ps", "scale", "pause", "resume", "restart", "rm", "deploy",
      "rollback", "rollout", "logs", "events", "run", "demo", "doctor", "version", "strategy" } do
      assert.truthy(out:find("\n   " .. name .. " ", 1, true), name)
    end
  end)

  local wrong = {
    { "a mistyped command", "scal web", "unknown command 'scal'; did you mean 'scale'?" },
    { "a mistyped verb", "rollout wach web", "unknown command 'wach'; did you mean 'watch'?" },
    { "a mistyped option", "scale web --replcas 3", "unknown option '--replcas'; did you mean '--replicas'?" },
    { "a missing option", "scale web", "missing option '--replicas'" },
    { "a missing argument", "scale --replicas 3", "missing argument 'workload'" },
    { "too many arguments", "ls a", "too many arguments" },
    { "no command", "", "a command is required" },
    { "a number that is none", "scale web --replicas many", "--replicas is 'many'; give a whole number" },
    { "a format that there is not", "ls -o yaml", "must be one of 'table', 'wide', 'json', 'jsonl', 'name'" },
    { "a duration that is none", "ls --wait soon", "--wait: " },
  }
  for _, case in ipairs(wrong) do
    it("says what is wrong, with code 2: " .. case[1], function()
      local code, out, err = home:run(case[2])
      assert.equal(2, code)
      assert.equal("", out)
      assert.truthy(err:find("ctrlplane: ", 1, true), err)
      assert.truthy(err:find(case[3], 1, true), err)
    end)
  end

  it("prints one document also when it was called wrongly", function()
    local value, code, err = home:json "scal web"
    assert.equal(2, code)
    assert.same({ code = "invalid", message = "unknown command 'scal'; did you mean 'scale'?" }, value.error)
    assert.equal("", err)
  end)

  it("takes common options before and after the verb", function()
    assert.equal(home:ok "-o json version", home:ok "version -o json")
    assert.equal(home:ok "--output=json version", home:ok "version -ojson")
  end)

  it("prints its version in three ways", function()
    local version = home:json("version").version
    assert.equal("ctrlplane " .. version .. "\n", (home:ok "--version"))
    assert.truthy(home:ok("version"):find("ctrlplane " .. version, 1, true))
    assert.equal(version .. "\n", (home:ok "version -o name"))
  end)
end)
