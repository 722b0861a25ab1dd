--- The store on real files: rows, transactions, savepoints, events, owner, schema.
local house = require "spec.support.house"
local store = require("ctrlplane.core").testing.store
local posix = { sys = require "posix.sys.stat", unistd = require "posix.unistd" }

--- Starts Lua text, with arguments, in another process that has the same modules.
local function start(folder, text, ...)
  local script = house.write(folder .. "/other.lua", [[local core = require "ctrlplane.core"
    local store, failpoint = core.testing.store, core.testing.failpoint
    local function hang() require("posix.time").nanosleep { tv_sec = 60, tv_nsec = 0 } end
    local function die() require("posix.signal").kill(require("posix.unistd").getpid(), 9) end
    ]] .. text)
  return house.spawn({ "/usr/bin/env", "luajit", script, ... })
end

--- The same to its end: what it wrote, how it ended.
local function elsewhere(...)
  local process = start(...)
  local ended = process:wait(20)
  local text = process:stdout() .. process:stderr()
  process:kill()
  return text, ended
end

describe("the store", function()
  local folder, path, db
  before_each(function()
    folder = house.folder()
    path = folder .. "/plane.db"
  end)
  after_each(function()
    if db then db:close() end
    db = nil
    store.schema(0)
    house.remove(folder)
  end)
  local function open(vfs)
    db = assert(store.open(path, vfs))
    return db
  end
  local function reopen()
    db:close()
    return open()
  end

  describe("rows", function()
    it("come back with every column as it was", function()
      open()
      local row = {
        id = "wkl_1", created_at = 1767225600123, updated_at = 5, tenant_id = "ten_1", name = "web ünï'\"%", slug = "web",
        services = { { name = "main", image = "img", stop_timeout = 0, env = { A = "1", B = "" }, role = "sidecar" } },
        labels = { a = "b" }, replica_count = 3, state = "deploying", paused_at = 7, staged = true, generation = -9007199254740991,
        message = ("x"):rep(100000),
      }
      assert(db:put("workload", row))
      assert(db:commit())
      local back = assert(reopen():get("workload", "wkl_1"))
      for key, value in pairs(row) do
        if key ~= "services" then assert.same(value, back[key], key) end
      end
      local service = back.services[1]
      assert.equal(0, service.stop_timeout) -- not the default, though it is empty
      assert.same({ A = "1", B = "" }, service.env)
      assert.equal("sidecar", service.role)
      assert.equal("", back.region)
      assert.same({}, back.labels and back.labels.zzz or {})
    end)

    it("keep shares, doubles, JSON and nothing apart from zero", function()
      open()
      assert(db:put("replica_set", { id = "rel_1", goal = "12.5%", weight = 33.33, held = 0, role = "abandoned" }))
      assert(db:put("replica_set", { id = "rel_2", goal = 3, held = -1 }))
      assert(db:put("replica_set", { id = "rel_3" }))
      assert(db:put("command", { id = "dep_1/000001", deployment_id = "dep_1", number = 1, args = { 1, { a = false } }, done = true }))
      assert(db:put("command", { id = "dep_1/000002", deployment_id = "dep_1", number = 2 }))
      assert(db:commit())
      reopen()
      local sets = assert(db:each "replica_set")
      assert.same({ "12.5%", 3 }, { sets[1].goal, sets[2].goal })
      assert.equal(33.33, sets[1].weight)
      assert.same({ 0, -1, -1 }, { sets[1].held, sets[2].held, sets[3].held })
      assert.equal("abandoned", sets[1].role)
      assert.same({ 1, { a = false } }, db:get("command", "dep_1/000001").args)
      assert.equal(require("ctrlplane.core").null, db:get("command", "dep_1/000002").args)
    end)

    it("are replaced by id, found, counted, ordered, limited and deleted", function()
      open()
      for i = 1, 9 do assert(db:put("instance", { id = "inst_" .. i, workload_id = i % 2 == 0 and "even" or "odd", replica_index = 10 - i })) end
      assert(db:put("instance", { id = "inst_3", workload_id = "odd", replica_index = 70 }))
      assert.equal(9, db:count "instance")
      assert.equal(4, db:count("instance", "workload_id = ?", { "even" }))
      assert.equal(1, db:count("instance", "workload_id = ? AND replica_index > ?", { "odd", "9" }))
      local ids = {}
      for _, row in ipairs(db:each("instance", "workload_id = ?", { "odd" }, "replica_index DESC", 3)) do ids[#ids + 1] = row.id end
      assert.same({ "inst_3", "inst_1", "inst_5" }, ids)
      assert(db:delete("instance", "inst_3"))
      local row, err = db:get("instance", "inst_3")
      assert.is_nil(row)
      assert.equal("not_found", err.code)
      assert.equal("there is no instance 'inst_3'", err.message)
      assert(db:prune("instance", "workload_id = ?", { "even" }))
      assert.equal(4, db:count "instance")
    end)

    it("that cannot be read are named, and are not half read", function()
      open()
      assert(db:put("workload", { id = "wkl_bad" }))
      assert(db:commit())
      assert(db:exec "UPDATE workload SET state = 'flying' WHERE id = 'wkl_bad'")
      local row, err = db:get("workload", "wkl_bad")
      assert.is_nil(row)
      assert.equal("storage_failed", err.code)
      assert.matches("row 'wkl_bad' of workload in .*plane.db: state is the unknown word 'flying'", err.message)
      assert(db:exec "UPDATE workload SET state = 'active', services = '[{' WHERE id = 'wkl_bad'")
      _, err = db:get("workload", "wkl_bad")
      assert.matches("services is not JSON", err.message)
    end)
  end)

  describe("a turn", function()
    it("is there after its commit and gone without one", function()
      open()
      assert.is_false(db:dirty())
      assert(db:put("workload", { id = "wkl_1" }))
      assert.is_true(db:dirty())
      assert(db:commit())
      assert.is_false(db:dirty())
      assert(db:put("workload", { id = "wkl_2" }))
      db:rollback()
      assert.is_false(db:dirty())
      assert(db:put("workload", { id = "wkl_3" }))
      reopen()
      assert.equal(1, db:count "workload")
    end)

    it("survives a kill -9 right after its commit, and dies with one right before", function()
      for point, expected in pairs { after_commit = 1, before_commit = 0 } do
        local file = folder .. "/" .. point .. ".db"
        local out, ended = elsewhere(
          folder,
          [[local db = assert(store.open(arg[1]))
            failpoint(function(name) if name == arg[2] then die() end end)
            assert(db:put("workload", { id = "wkl_1" }))
            assert(db:commit())]],
          file,
          point
        )
        assert.same({ signal = 9 }, ended, out)
        local other = assert(store.open(file))
        assert.equal(expected, other:count "workload", point)
        assert(other:check())
        other:close()
      end
    end)

    it("undoes one request alone", function()
      open()
      assert(db:savepoint())
      assert(db:put("workload", { id = "wkl_1" }))
      db:release()
      assert(db:savepoint())
      assert(db:put("workload", { id = "wkl_2" }))
      assert(db:put("workload", { id = "wkl_1", name = "changed" }))
      db:undo()
      assert(db:savepoint())
      assert(db:put("workload", { id = "wkl_3" }))
      db:release()
      assert(db:commit())
      reopen()
      local ids = {}
      for _, row in ipairs(db:each "workload") do ids[#ids + 1] = row.id .. row.name end
      assert.same({ "wkl_1", "wkl_3" }, ids)
    end)

    it("of undone requests only is no turn", function()
      open()
      local commits = db:stats().commits
      assert(db:savepoint())
      assert(db:put("workload", { id = "wkl_1" }))
      db:undo()
      assert.is_false(db:dirty())
      assert(db:commit())
      assert.equal(commits, db:stats().commits)
    end)

    it("keeps meta facts with it", function()
      open()
      assert.equal("1", db:meta "epoch")
      assert(db:meta("plane_id", "plane_x"))
      db:rollback()
      assert.is_nil(db:meta "plane_id")
      assert(db:meta("plane_id", "plane_y"))
      assert(db:commit())
      assert.equal("plane_y", reopen():meta "plane_id")
    end)
  end)

  describe("events", function()
    local function seqs()
      local list = {}
      for i, row in ipairs(db:each("event", nil, nil, "seq")) do list[i] = row.seq end
      return list
    end

    it("have no gap, whatever was rolled back, undone or failed", function()
      open()
      assert.equal(1, db:event { id = "evt_1", type = "a" })
      assert(db:commit())
      assert.equal(2, db:event { id = "evt_2", type = "a" })
      db:rollback()
      assert.equal(1, db:event_last())
      assert.equal(2, db:event { id = "evt_3", type = "a" })
      assert(db:savepoint())
      assert.equal(3, db:event { id = "evt_4", type = "a" })
      assert.equal(4, db:event { id = "evt_5", type = "a" })
      db:undo()
      assert.equal(3, db:event { id = "evt_6", type = "a" })
      assert(db:commit())
      reopen()
      assert.equal(3, db:event_last())
      assert.equal(4, db:event { id = "evt_7", type = "a" })
      assert(db:commit())
      assert.same({ 1, 2, 3, 4 }, seqs())
    end)

    it("go on with their numbers when retention has taken all of them", function()
      open()
      for i = 1, 5 do assert(db:event { id = "evt_" .. i, type = "a" }) end
      assert(db:commit())
      assert(db:prune("event", "seq <= ?", { "5" }))
      assert(db:commit())
      reopen()
      assert.equal(5, db:event_last())
      assert.equal(6, db:event { id = "evt_6", type = "a" })
    end)
  end)

  describe("the owner", function()
    it("is named to whoever comes by the same path, a symbolic link or a hard link", function()
      open()
      posix.unistd.link(path, folder .. "/soft.db", true)
      posix.unistd.link(path, folder .. "/hard.db", false)
      local pid = posix.unistd.getpid()
      for _, name in ipairs { "plane.db", "soft.db", "hard.db", "../" .. folder:match "[^/]+$" .. "/plane.db" } do
        local out = elsewhere(folder, [[local _, err = store.open(arg[1]) print(err.code, err.message) print(store.owner(arg[1]))]], folder .. "/" .. name)
        assert.matches("^conflict\tstore .* is owned by process " .. pid .. "; stop it first\n" .. pid .. "\n$", out)
      end
    end)

    it("is the process itself, too", function()
      open()
      local other, err = store.open(path)
      assert.is_nil(other)
      assert.equal("conflict", err.code)
      assert.matches("process " .. posix.unistd.getpid(), err.message)
      assert.equal(posix.unistd.getpid(), store.owner(path))
      -- and asking has not let anybody in
      assert.matches("^conflict", elsewhere(folder, [[local _, err = store.open(arg[1]) print(err.code)]], path))
    end)

    it("is nobody when it has gone, also by kill -9", function()
      local process = start(
        folder,
        [[local db = assert(store.open(arg[1]))
          db:put("workload", { id = "wkl_1" }) db:commit() print "open" io.stdout:flush() hang()]],
        path
      )
      house.wait_for("the other process", function() return process:stdout():match "open" end)
      assert.equal(process.pid, store.owner(path))
      local _, err = store.open(path)
      assert.matches("owned by process " .. process.pid, err.message)
      process:kill()
      assert.equal(0, store.owner(path))
      open()
      assert.equal(1, db:count "workload")
    end)

    it("keeps other programs out of the file (E1a), and says which one keeps it out", function()
      open()
      local rows, message = store.sql(path, "SELECT 1 FROM workload")
      -- the same process: only SQLite itself stands in the way here
      assert.is_nil(rows)
      assert.matches("locked", message)
      assert(db:put("workload", { id = "wkl_1" }))
      assert(db:commit())
      db:close()
      db = nil
      local shell = start(
        folder,
        [[local ffi = require "ffi"
          ffi.cdef "int sqlite3_open(const char *, void **); int sqlite3_exec(void *, const char *, void *, void *, void *);"
          local sqlite, db = ffi.load "sqlite3", ffi.new "void *[1]"
          assert(sqlite.sqlite3_open(arg[1], db) == 0)
          assert(sqlite.sqlite3_exec(db[0], "BEGIN; SELECT count(*) FROM workload", nil, nil, nil) == 0)
          print "reading" io.stdout:flush() hang()]],
        path
      )
      house.wait_for("the reader", function() return shell:stdout():match "reading" or nil, shell:stderr() end)
      local other, err = store.open(path)
      assert.is_nil(other)
      assert.equal("conflict", err.code)
      assert.matches("is locked by process " .. shell.pid .. ", which has it open", err.message)
      shell:kill()
      open()
      assert.equal(1, db:count "workload")
    end)

    it("is asked to use the other name when the journal of a file stands beside that", function()
      local hard = folder .. "/hard.db"
      elsewhere(
        folder,
        [[local db = assert(store.open(arg[1])) assert(db:put("workload", { id = "wkl_1" })) assert(db:commit())
          die()]],
        path
      )
      posix.unistd.link(path, hard, false)
      local other, err = store.open(hard)
      assert.is_nil(other)
      assert.equal("conflict", err.code)
      assert.matches("hard.db is another name of .*plane.db, whose journal .*plane.db%-wal holds commits", err.message)
      open()
      assert.equal(1, db:count "workload")
      db:close()
      db = assert(store.open(hard)) -- closed cleanly, either name is right
      assert.equal(1, db:count "workload")
    end)
  end)

  describe("the schema", function()
    local function make_old()
      open()
      assert(db:put("workload", { id = "wkl_1", name = "old" }))
      assert(db:put("replica_set", { id = "rel_1" }))
      assert(db:commit())
      db:close()
      db = nil
      assert(store.sql(path, "ALTER TABLE replica_set DROP COLUMN held; ALTER TABLE workload DROP COLUMN message; PRAGMA user_version"))
    end

    it("is brought forward, new columns with their defaults, and a copy of the old store is kept", function()
      make_old()
      store.schema(1)
      open()
      assert.equal(2, db:stats().schema)
      assert.equal("old", db:get("workload", "wkl_1").name)
      assert.equal(-1, db:get("replica_set", "rel_1").held)
      db:close()
      db = nil
      local copy = path .. ".v1.bak"
      assert.same({ { "1" } }, store.sql(copy, "PRAGMA user_version"))
      assert.same({ { "old" } }, store.sql(copy, "SELECT name FROM workload"))
      assert.same({ { "0" } }, store.sql(copy, "SELECT count(*) FROM pragma_table_info('workload') WHERE name = 'message'"))
    end)

    it("is old or new, never between, when the migration is killed; the next start brings it forward", function()
      for point, expected in pairs { migrate_before_commit = "1", migrate_after_commit = "2" } do
        house.remove(folder)
        folder = house.folder()
        path = folder .. "/plane.db"
        make_old()
        local out, ended = elsewhere(
          folder,
          [[store.schema(1)
            failpoint(function(name) if name == arg[2] then die() end end)
            store.open(arg[1])]],
          path,
          point
        )
        assert.same({ signal = 9 }, ended, out)
        assert.same({ { expected } }, store.sql(path, "PRAGMA user_version"), point)
        store.schema(1)
        open()
        assert.equal("old", db:get("workload", "wkl_1").name)
        assert.equal(-1, db:get("replica_set", "rel_1").held)
        assert(db:check())
        db:close()
        db = nil
        store.schema(0)
      end
    end)

    it("that is newer is refused, and the file is left as it is, byte for byte", function()
      store.schema(1)
      open()
      assert(db:put("workload", { id = "wkl_1" }))
      assert(db:commit())
      db:close()
      db = nil
      store.schema(0)
      local before = house.read(path)
      local other, err = store.open(path)
      assert.is_nil(other)
      assert.equal("invalid_state", err.code)
      assert.matches("plane.db has schema 2; this ctrlplane knows up to 1: use a newer one", err.message)
      assert.is_true(before == house.read(path))
      assert.is_false(house.exists(path .. "-wal"))
      assert.is_false(house.exists(path .. ".v2.bak"))
    end)

    it("that is newer is refused also when only the journal says so", function()
      elsewhere(
        folder,
        [[local db = assert(store.open(arg[1])) assert(db:exec "PRAGMA user_version = 9")
          die()]],
        path
      )
      local before, journal = house.read(path), house.read(path .. "-wal")
      local other, err = store.open(path)
      assert.is_nil(other)
      assert.matches("has schema 9", err.message)
      assert.is_true(before == house.read(path))
      assert.is_true(journal == house.read(path .. "-wal"))
    end)

    it("of another program's file is refused, and so is what is no database", function()
      assert(store.sql(path, "CREATE TABLE t (a); INSERT INTO t VALUES (1)"))
      local before = house.read(path)
      local other, err = store.open(path)
      assert.is_nil(other)
      assert.equal("invalid_state", err.code)
      assert.matches("plane.db is not a store of ctrlplane; give another path", err.message)
      assert.is_true(before == house.read(path))
      for _, text in ipairs { "hello", ("x"):rep(5000), "SQLite format 3\0" } do
        house.write(path, text)
        other, err = store.open(path)
        assert.is_nil(other)
        assert.equal("invalid_state", err.code)
        assert.equal(text, house.read(path))
      end
    end)

    it("is made in a file that is there and empty", function()
      house.write(path, "")
      open()
      assert(db:put("workload", { id = "wkl_1" }))
      assert(db:commit())
    end)
  end)

  it("says what is wrong with a path", function()
    for name, message in pairs {
      ["/no/such/folder/plane.db"] = "cannot open store /no/such/folder/plane.db: No such file or directory",
      ["/dev/null"] = "store /dev/null is not a file",
      [folder] = "Is a directory",
    } do
      local other, err = store.open(name)
      assert.is_nil(other)
      assert.matches(message, err.message, nil, true)
    end
  end)

  it("is readable by its owner alone", function()
    open()
    assert.equal(384, posix.sys.stat(path).st_mode % 512) -- 0600
    assert.equal(384, posix.sys.stat(path .. "-wal").st_mode % 512)
  end)

  it("keeps its journal bounded while nobody reads (E1b)", function()
    open()
    local text, most = ("x"):rep(2000), 0
    for turn = 1, 2000 do
      for i = 1, 10 do assert(db:put("instance", { id = "inst_" .. i, message = text .. turn })) end
      assert(db:event { id = "evt_" .. turn, type = "a" })
      assert(db:commit())
      if turn % 50 == 0 then most = math.max(most, db:stats().wal_bytes) end
    end
    assert.is_true(most > 0 and most <= 16 * 2 ^ 20, tostring(most))
    assert(db:check())
  end)
end)
