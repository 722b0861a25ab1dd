-- What `cmake --install` puts somewhere works there, without the source or the build.
local house = require "spec.support.house"

local PROGRAM = [[
#include <ctrlplane.h>
#include <stdio.h>
int main(void) {
    cp_error *err = cp_error_new();
    ctrlplane *plane = NULL;
    char *answer = NULL;
    int r = ctrlplane_open("{\"store\": \":memory:\", \"provider\": \"sim\", \"clock\": \"virtual\"}", &plane, err);
    if (r == 0)
        r = ctrlplane_wait(plane, "workloads.create", NULL,
                           "{\"name\": \"web\", \"services\": [{\"name\": \"app\", \"image\": \"x\"}], \"wait\": \"1m\"}", -1,
                           &answer, err);
    printf("%s %s\n", ctrlplane_version(), r == 0 ? answer : cp_error_message(err));
    ctrlplane_free(answer);
    ctrlplane_close(plane);
    cp_error_free(err);
    return r == 0 ? 0 : 1;
}
]]

describe("an installation", function()
  local folder, prefix
  setup(function()
    folder = house.folder()
    prefix = folder .. "/prefix"
    local code, out, err = house.run { "/usr/bin/cmake", "--install", house.build(), "--prefix", prefix }
    assert.equal(0, code, out .. err)
  end)
  teardown(function() house.remove(folder) end)

  local function run(line)
    local code, out, err = house.run({ "/bin/sh", "-c", line }, {
      LUA_PATH = false, LUA_CPATH = false, CTRLPLANE_BUILD = false, PREFIX = prefix, LD_PRELOAD = false,
      PRELOAD = os.getenv "CTRLPLANE_PRELOAD" or "",
    }, { cwd = folder })
    assert.equal(0, code, line .. "\n" .. out .. err)
    return out
  end

  it("runs the command, which finds its Lua half and its shim there", function()
    assert.truthy(run("$PREFIX/bin/ctrlplane version"):match "^ctrlplane %d")
    local out = run "$PREFIX/bin/ctrlplane doctor --store ./plane.db -o json"
    assert.truthy(out:find(prefix .. "/bin/../share/lua/5.1", 1, true), out)
    assert.truthy(out:find(prefix .. "/bin/../libexec/ctrlplane-shim", 1, true), out)
  end)

  it("is found by LuaJIT where it was told to look", function()
    local out = run([[LUA_PATH="$PREFIX/share/lua/5.1/?.lua;$PREFIX/share/lua/5.1/?/init.lua;;" \
      LUA_CPATH="$PREFIX/lib/lua/5.1/?.so;;" LD_PRELOAD=$PRELOAD luajit -e '
      local plane = assert(require("ctrlplane").open { store = ":memory:", provider = "sim", clock = "virtual" })
      local w = assert(plane.workloads:create { name = "web", services = { { name = "app", image = "x" } }, wait = "1m" })
      print(w.state)
      plane:close()']])
    assert.equal("active\n", out)
  end)

  it("is where LuaJIT looks by itself, under the usual prefix", function()
    local pipe = io.popen "env -u LUA_PATH -u LUA_CPATH -u LD_PRELOAD luajit -e 'print(package.path, package.cpath)'"
    local paths = pipe:read "*a"
    pipe:close()
    assert.truthy(paths:find("/usr/local/share/lua/5.1/?/init.lua", 1, true), paths)
    assert.truthy(paths:find("/usr/local/lib/lua/5.1/?.so", 1, true), paths)
    assert.is_true(house.exists(prefix .. "/share/lua/5.1/ctrlplane/init.lua"))
    assert.is_true(house.exists(prefix .. "/lib/lua/5.1/ctrlplane/core.so"))
  end)

  it("lets a C program be built by pkg-config", function()
    house.write(folder .. "/program.c", PROGRAM)
    run "PKG_CONFIG_PATH=$PREFIX/lib/pkgconfig cc program.c $(PKG_CONFIG_PATH=$PREFIX/lib/pkgconfig pkg-config --cflags --libs ctrlplane) -o program"
    local out = run "LD_LIBRARY_PATH=$PREFIX/lib LD_PRELOAD=$PRELOAD ./program"
    assert.truthy(out:find('"state":"active"', 1, true), out)
  end)
end)
