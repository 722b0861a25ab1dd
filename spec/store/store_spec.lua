--- The store on real files: rows, transactions, savepoints, events, the size of its log.
local house = require "spec.support.house"
local other = require "spec.support.other"
local store = require("ctrlplane.core").testing.store
local stat = require "posix.sys.stat"

describe("the store", function()
  local folder, path, db
  before_each(function()
    folder = house.folder()
    path = folder .. "/plane.db"
  end)
  after_each(function()
    if db then db:close() end
    db = nil
    house.remove(folder)
  end)
  local function open()
    db = assert(store.open(path))
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
      err = select(2, db:get("workload", "wkl_bad"))
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
        local out, ended = other.run(
          folder,
          [[local db = assert(store.open(arg[1]))
            failpoint(function(name) if name == arg[2] then die() end end)
            assert(db:put("workload", { id = "wkl_1" }))
            assert(db:commit())]],
          file,
          point
        )
        assert.same({ signal = 9 }, ended, out)
        local found = assert(store.open(file))
        assert.equal(expected, found:count "workload", point)
        assert(found:check())
        found:close()
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

  it("says what is wrong with a path", function()
    for name, message in pairs {
      ["/no/such/folder/plane.db"] = "cannot open store /no/such/folder/plane.db: No such file or directory",
      ["/dev/null"] = "store /dev/null is not a file",
      [folder] = "Is a directory",
    } do
      local second, err = store.open(name)
      assert.is_nil(second)
      assert.matches(message, err.message, nil, true)
    end
  end)

  it("is readable by its owner alone", function()
    open()
    assert.equal(384, stat.stat(path).st_mode % 512) -- 0600
    assert.equal(384, stat.stat(path .. "-wal").st_mode % 512)
  end)

  it("keeps its journal bounded while nobody reads (E1b)", function()
    open()
    local text, most = ("x"):rep(2000), 0
    for turn = 1, 1000 do
      for i = 1, 10 do assert(db:put("instance", { id = "inst_" .. i, message = text .. turn })) end
      assert(db:event { id = "evt_" .. turn, type = "a" })
      assert(db:commit())
      if turn % 50 == 0 then most = math.max(most, db:stats().wal_bytes) end
    end
    assert.is_true(most > 0 and most <= 16 * 2 ^ 20, tostring(most))
    assert(db:check())
  end)
end)
