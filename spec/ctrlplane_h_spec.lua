--- The public C API: the header alone, the example against the library, and both against the tables.
local core = require "ctrlplane.core"
local house = require "spec.support.house"

local STRICT = { "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wstrict-prototypes", "-Werror", "-Iengine" }

--- Runs a compiler: code, what it said.
local function compile(compiler, arguments)
  local argv = { compiler }
  for _, argument in ipairs(STRICT) do argv[#argv + 1] = argument end
  for _, argument in ipairs(arguments) do argv[#argv + 1] = argument end
  local code, out, err = house.run(argv)
  return code, out .. err
end

local function compilers()
  local found = {}
  for _, path in ipairs { "/usr/bin/gcc", "/usr/bin/clang" } do
    if house.exists(path) then found[#found + 1] = path end
  end
  return found
end

local WITH_SANITIZERS = house.asan() and "-fsanitize=address,undefined" or "-O1"

describe("ctrlplane.h", function()
  local folder
  setup(function() folder = house.folder() end)
  teardown(function() house.remove(folder) end)

  --- Builds a program against the library and runs it: code, stdout, stderr.
  local function run(source)
    local program = folder .. "/program"
    local code, said = compile("/usr/bin/gcc", { WITH_SANITIZERS, source, "-o", program, "-L" .. house.build(),
      "-Wl,-rpath," .. house.build(), "-lctrlplane" })
    assert.equal(0, code, said)
    return house.run({ program }, { LD_PRELOAD = false })
  end

  it("compiles alone and strictly, twice in one file", function()
    house.write(folder .. "/alone.c", '#include "ctrlplane.h"\n#include "ctrlplane.h"\n')
    for _, compiler in ipairs(compilers()) do
      local code, said = compile(compiler, { "-c", folder .. "/alone.c", "-o", folder .. "/alone.o" })
      assert.equal(0, code, said)
    end
  end)

  it("names every operation of workloads that is no stream, and no other", function()
    local text = house.read "engine/ctrlplane.h"
    local list = assert(text:match "#define CP_WORKLOAD_OPERATIONS%(X%)(.-)#define")
    local there, named = {}, {}
    for name in list:gmatch "X%(([%l_]+)%)" do named["workloads." .. name] = true end
    for _, op in ipairs(core.operations) do
      if op.namespace == "workloads" and not op.stream then there[op.name] = true end
    end
    assert.same(there, named)
  end)

  it("has the codes and the states of the engine", function()
    local function words(path, pattern)
      local found = {}
      for name, value in house.read(path):gmatch(pattern) do found[#found + 1] = name .. (value or "") end
      return table.concat(found, " ")
    end
    local code = "(CP_E_[%u_]+ = %-%d+)"
    assert.equal(words("engine/base/error.h", code), words("engine/ctrlplane.h", code))
    local state = "\n    (CP_WORKLOAD_%u+)"
    assert.equal(words("engine/model/entity.h", state), words("engine/ctrlplane.h", state))
    assert.matches("CP_WORKLOAD_PROVISIONING CP_WORKLOAD_ACTIVE", words("engine/ctrlplane.h", state))
  end)

  it("is enough for the example, which runs a workload", function()
    local code, out, err = run "examples/embed/embed.c"
    assert.equal("", err)
    assert.equal(0, code)
    local lines = {}
    for line in out:gmatch "[^\n]+" do lines[#lines + 1] = line end
    assert.matches('event: .*"workload.created"', lines[1])
    assert.matches('created: .*"state":"active"', lines[2])
    assert.matches('scaled: .*"replica_count":5', out)
  end)

  it("refuses what is wrong, with the words of the engine", function()
    house.write(folder .. "/wrong.c", [[
#include "ctrlplane.h"
#include <stdio.h>
static void done(void *userdata, const char *json, const cp_error *err) {
    (void)userdata;
    printf("%s %s %s\n", json ? json : "-", cp_code_name(cp_error_code(err)), cp_error_field(err) ? cp_error_field(err) : "-");
}
static void say(int r, const cp_error *err) { printf("%s: %s; %s\n", cp_code_name(r), cp_error_message(err), cp_error_hint(err) ? cp_error_hint(err) : ""); }
int main(void) {
    cp_error *err = cp_error_new();
    ctrlplane *plane = NULL;
    say(ctrlplane_open("{\"stoer\": 1}", &plane, err), err);
    say(ctrlplane_open("[]", &plane, err), err);
    if (plane || ctrlplane_open("{\"store\": \":memory:\", \"provider\": \"sim\"}", &plane, NULL) < 0)
        return 1;
    say(ctrlplane_call(plane, "workloads.scael", "web", NULL, done, NULL, err), err);
    say(ctrlplane_call(plane, "workloads.get", NULL, NULL, done, NULL, err), err);
    say(ctrlplane_call(plane, "workloads.get", "web", "nonsense", done, NULL, err), err);
    say(ctrlplane_call(plane, "events.stream", NULL, NULL, done, NULL, err), err);
    say(ctrlplane_advance(plane, 1, err), err);
    say(ctrlplane_wait(plane, "workloads.get", "web", NULL, 1000, NULL, err), err);
    if (cp_workload_scale(plane, "web", "{\"replicas\": -1}", done, NULL, err) < 0)
        return 2;
    while (ctrlplane_step(plane, 100) > 0) {}
    say(cp_workload_validate_transition(CP_WORKLOAD_DESTROYED, CP_WORKLOAD_ACTIVE, err), err);
    if (cp_workload_validate_transition(CP_WORKLOAD_PROVISIONING, CP_WORKLOAD_ACTIVE, NULL) != 0)
        return 3;
    if (cp_workload_get(plane, "web", NULL, done, NULL, err) < 0) /* in flight when the plane is closed */
        return 4;
    ctrlplane_close(plane);
    cp_error_free(err);
    return 0;
}
]])
    local code, out, err = run(folder .. "/wrong.c")
    assert.equal("", err)
    assert.equal(0, code)
    local lines = {}
    for line in out:gmatch "[^\n]+" do lines[#lines + 1] = line end
    assert.matches("^invalid: .*stoer.*did you mean 'store'", lines[1])
    assert.matches("^invalid: the options are not a JSON object", lines[2])
    assert.matches("^not_found: there is no operation 'workloads.scael'; did you mean 'workloads.scale'%?", lines[3])
    assert.matches("^invalid: workloads.get takes the id of a workload; none is given", lines[4])
    assert.matches("^invalid: the options: ", lines[5])
    assert.matches("^invalid: events.stream is a stream; call ctrlplane_stream", lines[6])
    assert.matches("^unsupported: the clock of this plane is real", lines[7])
    assert.matches("^not_found: there is no workload 'web'", lines[8])
    assert.equal("- invalid replicas", lines[9])
    assert.matches("^invalid_state: .*destroyed.*active", lines[10])
    assert.equal(10, #lines)
  end)
end)
