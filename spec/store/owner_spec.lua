--- One process owns a store, by whatever name the others come.
local house = require "spec.support.house"
local other = require "spec.support.other"
local store = require("ctrlplane.core").testing.store
local unistd = require "posix.unistd"

describe("the owner of a store", function()
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

  it("is named to whoever comes by the same path, a symbolic link or a hard link", function()
    open()
    unistd.link(path, folder .. "/soft.db", true)
    unistd.link(path, folder .. "/hard.db", false)
    local pid = unistd.getpid()
    for _, name in ipairs { "plane.db", "soft.db", "hard.db", "../" .. folder:match "[^/]+$" .. "/plane.db" } do
      local out = other.run(folder, [[local _, err = store.open(arg[1]) print(err.code, err.message) print(store.owner(arg[1]))]], folder .. "/" .. name)
      assert.matches("^conflict\tstore .* is owned by process " .. pid .. "; stop it first\n" .. pid .. "\n$", out)
    end
  end)

  it("is the process itself, too", function()
    open()
    local second, err = store.open(path)
    assert.is_nil(second)
    assert.equal("conflict", err.code)
    assert.matches("process " .. unistd.getpid(), err.message)
    assert.equal(unistd.getpid(), store.owner(path))
    -- and asking has not let anybody in
    assert.matches("^conflict", other.run(folder, [[local _, err = store.open(arg[1]) print(err.code)]], path))
  end)

  it("is nobody when it has gone, also by kill -9", function()
    local process = other.start(
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
    local shell = other.start(
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
    local second, err = store.open(path)
    assert.is_nil(second)
    assert.equal("conflict", err.code)
    assert.matches("is locked by process " .. shell.pid .. ", which has it open", err.message)
    shell:kill()
    open()
    assert.equal(1, db:count "workload")
  end)

  it("is asked to use the other name when the journal of a file stands beside that", function()
    local hard = folder .. "/hard.db"
    other.run(
      folder,
      [[local db = assert(store.open(arg[1])) assert(db:put("workload", { id = "wkl_1" })) assert(db:commit())
        die()]],
      path
    )
    unistd.link(path, hard, false)
    local second, err = store.open(hard)
    assert.is_nil(second)
    assert.equal("conflict", err.code)
    assert.matches("hard.db is another name of .*plane.db, whose journal .*plane.db%-wal holds commits", err.message)
    open()
    assert.equal(1, db:count "workload")
    db:close()
    db = assert(store.open(hard)) -- closed cleanly, either name is right
    assert.equal(1, db:count "workload")
  end)
end)
