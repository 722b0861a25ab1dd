-- ctest: timeout=240 labels=process
--- Log files: the format, rotation, cursors, unkind output, a log that cannot be written.
local ffi = require "ffi"
local process = require "spec.support.process"

ffi.cdef "int getuid(void);"

--- Reads what is followed until `count` lines came (all of them).
local function follow(world, reader, lines, done, ms)
  world:wait("the lines", function()
    for _, line in ipairs((world.provider:lines(reader))) do lines[#lines + 1] = line end
    return done(lines)
  end, ms or 30000)
  return lines
end

local function texts_of(lines)
  local texts = {}
  for i, line in ipairs(lines) do texts[i] = line.text end
  return texts
end

--- luajit code that prints `count` lines "<n>" + 93 x; `extra` may do more for each n.
local function counter(count, extra)
  return { "luajit", "-e", ("local pad = (' x'):rep(46) for n = 1, %d do io.write(('%%07d'):format(n), pad, '\\n') %s end io.flush() os.execute 'exec sleep 99'"):format(count, extra or "") }
end

local function assert_counted(texts, count)
  assert.equal(count, #texts)
  for n = 1, count do
    if tonumber(texts[n]:sub(1, 7)) ~= n then error(("line %d is %q"):format(n, texts[n]:sub(1, 40))) end
  end
end

describe("the log of a service", function()
  local world
  local function open(options) world = process.open(options) end
  after_each(function() world:close() end)

  it("is in CRI format: time, stream, F or P, text", function()
    open()
    local spec = world:provision(world:script "echo one; sleep 0.05; echo two >&2; sleep 0.05; printf three; : > printed; exec sleep 99")
    world:wait("all output", function() return process.read(world:path(spec, "work/app/printed")) and #world:log(spec) == 2 end)
    local raw = process.read(world:path(spec, "app.log"))
    assert.matches("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%d%d%d%d%d%d%dZ stdout F one\n%S+Z stderr F two\n$", raw)
    local _, entries = world:log(spec)
    assert.equal("stderr", entries[2].stream)
    assert.is_false(entries[2].partial)
    assert.is_true(math.abs(entries[1].at_ns / 1e9 - os.time()) < 10)
    assert(world.provider:operate("stop", spec))
    assert.same({ "one", "two", "three" }, (world:log(spec)), "the last line has no newline, and is not lost")
  end)

  it("keeps what comes as it comes: binary, NUL, carriage returns, empty lines, 40,000 x, 9,000 euro signs", function()
    open()
    local lines = { "", "a\0b\1\0\0\5hello", "\255\254 \128", "carriage\rreturn\r", ("x"):rep(40000), ("€"):rep(9000), " leading and trailing  " }
    process.write(world.dir .. "/text", table.concat(lines, "\n") .. "\n")
    local spec = world:provision(world:script(("cat %s/text; exec sleep 99"):format(world.dir)))
    world:wait("all lines", function() return #world:log(spec) == #lines end)
    local texts, entries = world:log(spec)
    assert.same(lines, texts)
    for _, entry in ipairs(entries) do assert.is_false(entry.partial) end
  end)

  it("joins streams that alternate within their lines", function()
    open()
    local spec = world:provision(world:script "for i in 1 2 3; do head -c 20000 /dev/zero | tr '\\0' a; head -c 20000 /dev/zero | tr '\\0' b >&2; done; echo; echo >&2; exec sleep 99")
    world:wait("two lines", function() return #world:log(spec) == 2 end)
    local _, entries = world:log(spec)
    for _, entry in ipairs(entries) do assert.equal((entry.stream == "stdout" and "a" or "b"):rep(60000), entry.text) end
  end)

  it("splits a line over 1 MiB, flagged but for its last part (10 MiB without newline, row 16)", function()
    open()
    local spec = world:provision(world:script("head -c 10485760 /dev/zero | tr '\\0' z; echo end; exec sleep 99"))
    world:wait("the end", function() local texts = world:log(spec) return #texts > 0 and texts[#texts]:match "end$" end)
    local _, entries = world:log(spec)
    local total = 0
    for i, entry in ipairs(entries) do
      total = total + #entry.text
      assert.equal(i < #entries, entry.partial)
      assert.is_true(#entry.text <= 2 ^ 20)
    end
    assert.equal(10485760 + 3, total)
  end)

  it("does not need the service's output: closed stdout and stderr", function()
    open()
    local spec = world:provision(world:script "exec >&- 2>&-; exec sleep 630")
    world:wait("its sleep", function() return #process.processes(spec.instance_id, "^sleep 630") == 1 end)
    assert.equal("running", world:status(spec).seen)
    assert.same({}, (world:log(spec)))
  end)

  it("rotates without losing or doubling a line, at most three old files, each of whole lines", function()
    open { log_max = 100000 }
    local spec = world:provision(world:instance { command = counter(3000) })
    local lines = follow(world, assert(world.provider:logs(spec.instance_id, nil, { follow = true })), {}, function(l) return #l == 3000 end)
    assert_counted(texts_of(lines), 3000)
    local files = process.sh("cd " .. world:path(spec) .. " && ls app.log*")
    assert.equal("app.log\napp.log.1\napp.log.2\napp.log.3\n", files)
    local texts = world:log(spec)
    assert.equal(3000, tonumber(texts[#texts]:sub(1, 7)))
    for i = 2, #texts do assert.equal(tonumber(texts[i - 1]:sub(1, 7)) + 1, tonumber(texts[i]:sub(1, 7))) end
    for suffix in ("-.1-.2-.3"):gmatch "[^-]+" do
      assert.matches("\n$", process.read(world:path(spec, "app.log" .. suffix)))
    end
  end)

  it("goes on exactly behind every cursor, over rotation and a new engine", function()
    open { log_max = 60000 }
    local spec = world:provision(world:instance { command = counter(1500) })
    world:wait("the end", function() local texts = world:log(spec) return #texts > 0 and texts[#texts]:match "^0001500" end)
    local texts, entries = world:log(spec)
    world:reopen()
    for i = 1, #entries, 37 do
      local rest = world:log(spec, nil, { after = entries[i].cursor })
      assert.equal(#texts - i, #rest)
      assert.equal(texts[i + 1], rest[1])
    end
    assert.same({}, (world:log(spec, nil, { after = entries[#entries].cursor })))
    local gone = entries[1].cursor:gsub("^%d+", tostring(1))
    assert.equal(texts[1], world:log(spec, nil, { after = gone })[1], "a place that is gone: the oldest that there is")
  end)

  it("goes on exactly behind a cursor while the other stream is within a line", function()
    open()
    local spec = world:provision(world:script("head -c 20000 /dev/zero | tr '\\0' a; sleep 0.2; echo err >&2; sleep 0.2; echo; echo last; exec sleep 99"))
    world:wait("three lines", function() return #world:log(spec) == 3 end)
    local texts, entries = world:log(spec)
    assert.equal("err", texts[1])
    assert.same({ texts[2], "last" }, (world:log(spec, nil, { after = entries[1].cursor })))
    assert.equal(("a"):rep(20000), texts[2])
  end)

  it("gives the last lines, those since a time, and refuses what is no cursor", function()
    open { log_max = 30000 }
    local spec = world:provision(world:instance { command = counter(600) })
    world:wait("the end", function() local texts = world:log(spec) return #texts > 0 and texts[#texts]:match "^0000600" end)
    local all, entries = world:log(spec)
    for _, tail in ipairs { 0, 1, 5, 250, #all - 1, #all, #all + 1, 100000 } do
      local texts = world:log(spec, nil, { tail = tail })
      assert.equal(math.min(tail, #all), #texts)
      if tail > 0 then
        assert.equal(all[#all], texts[#texts])
        assert.equal(all[math.max(1, #all - tail + 1)], texts[1])
      end
    end
    assert.same({}, (world:log(spec, nil, { since = (entries[#entries].at_ns / 1e6) + 1000 })))
    local ok, err = world.provider:logs(spec.instance_id, nil, { after = "yesterday" })
    assert.is_nil(ok)
    assert.equal("invalid", err.code)
  end)

  it("is followed from its tail on, and over restarts of the service", function()
    open()
    local spec = world:provision(world:script "echo run; sleep 0.1; echo end; exit 1")
    world:wait("two runs", function() return #world:log(spec) >= 3 end)
    local lines = follow(world, assert(world.provider:logs(spec.instance_id, nil, { follow = true, tail = 1 })), {}, function(l) return #l >= 5 end)
    for i = 2, #lines do assert.not_equal(lines[i - 1].text, lines[i].text) end
  end)

  it("ends for who follows when the instance is gone, is kept for a while, and is not found after", function()
    open()
    local spec = world:provision(world:script "mkfifo pipe; exec 9<> pipe; trap 'echo bye; exit 0' TERM; echo hi; read x <&9")
    local reader = assert(world.provider:logs(spec.instance_id, nil, { follow = true }))
    world:wait_log(spec, "hi")
    assert(world.provider:operate("deprovision", spec))
    local lines, ended = {}, false
    world:wait("the end", function()
      local more
      more, ended = world.provider:lines(reader)
      for _, line in ipairs(more) do lines[#lines + 1] = line.text end
      return ended
    end)
    assert.same({ "hi", "bye" }, lines)
    assert.same({ "hi", "bye" }, (world:log(spec, "app")))
    local ok, err = world.provider:logs("inst_unknown", "app", {})
    assert.is_nil(ok)
    assert.equal("not_found", err.code)
    world:reopen()
    os.execute("touch -d '2 hours ago' " .. world.dir .. "/data/gone/" .. spec.instance_id)
    world:reopen()
    world:wait("the old logs to go", function() return (process.sh("ls " .. world.dir .. "/data/gone") == "") end)
  end)

  it("that is removed under the writer is written again at once, and says how many lines went (B3)", function()
    open()
    local spec = world:provision(world:script "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.005; done")
    local lines = {}
    local reader = assert(world.provider:logs(spec.instance_id, nil, { follow = true }))
    follow(world, reader, lines, function(l) return #l >= 50 end)
    os.remove(world:path(spec, "app.log"))
    local at = #lines
    follow(world, reader, lines, function(l) return #l >= at + 50 end)
    assert.is_truthy(process.read(world:path(spec, "app.log")))
    local last, notice = 0, nil
    for _, line in ipairs(lines) do
      local n = tonumber(line.text:match "^line (%d+)")
      if n then
        assert.is_true(n > last, "in order")
        last = n
      else
        notice = line
      end
    end
    assert.matches("^ctrlplane: the log file was removed with %d+ lines in it$", notice.text)
    assert.equal("stderr", notice.stream)
  end)

  it("never blocks the service when the disk is full: what could not be written is counted and said (B3, row 9)", function()
    open()
    if ffi.C.getuid() ~= 0 then return pending "mounting a small tmpfs needs root" end
    -- The instance's folder on a small tmpfs; the service counts on in a file elsewhere, and slows down when told to.
    local spec = world:script(("i=0; while :; do i=$((i+1)); echo line $i; printf x >> %s/count; [ ! -e %s/slow ] || sleep 0.05; done"):format(world.dir, world.dir))
    local dir = world:path(spec)
    os.execute(("mkdir -p '%s' && mount -t tmpfs -o size=8m none '%s'"):format(dir, dir))
    finally(function()
      local shim = world:state(spec).shim
      if shim and process.alive(shim) then process.kill(shim, 15) end -- a failure must not leave it running
      os.execute(("umount -l '%s' 2>/dev/null"):format(dir))
    end)
    world:provision(spec)
    local function count() return #(process.read(world.dir .. "/count") or "") end
    world:wait("it to count", function() return count() > 100 end)
    os.execute(("head -c 9000000 /dev/zero > '%s/filler' 2>/dev/null"):format(dir))
    world.provider:turn(300)
    local then_ = count()
    world.provider:turn(500)
    assert.is_true(count() > then_ + 20, "the counter never stops")
    process.write(world.dir .. "/slow", "")
    os.remove(dir .. "/filler")
    world:wait("the notice, and a line behind it", function()
      local texts, noticed = world:log(spec), false
      for _, text in ipairs(texts) do
        noticed = noticed or text:match "^ctrlplane: %d+ lines could not be written: No space left on device$"
      end
      return noticed and texts[#texts]:match "^line"
    end)
    local last, lost, missing = 0, 0, 0
    for _, text in ipairs((world:log(spec))) do
      local n = tonumber(text:match "^line (%d+)$")
      if n then
        missing = missing + n - last - 1
        last = n
      else
        lost = lost + assert(tonumber(text:match "^ctrlplane: (%d+) lines could not"), text)
      end
    end
    assert.equal(missing, lost, "exactly the missing lines were counted")
    assert(world.provider:operate("stop", spec))
    os.execute(("umount -l '%s'"):format(dir))
  end)

  it("takes 40 MiB with one line of 900 KiB across the mark of 10 MiB, whole and unflagged (B3)", function()
    open()
    local spec = world:provision(world:instance { command = counter(300000, "if n == 74500 then io.write(('%07d'):format(0), ('L'):rep(900 * 1024), '\\n') end") })
    local reader, long, count, last = assert(world.provider:logs(spec.instance_id, nil, { follow = true })), nil, 0, 0
    world:wait("all lines", function()
      for _, line in ipairs((world.provider:lines(reader))) do
        local n = tonumber(line.text:sub(1, 7))
        if n == 0 then
          assert.is_nil(long, "the long line came twice")
          long = line
        else
          assert.equal(last + 1, n)
          last, count = n, count + 1
        end
      end
      return count == 300000
    end, 60000)
    assert.equal(7 + 900 * 1024, #long.text)
    assert.is_false(long.partial)
    local sizes = process.sh("cd " .. world:path(spec) .. " && stat -c %s app.log.*")
    local files = 0
    for size in sizes:gmatch "%d+" do
      files = files + 1
      assert.is_true(tonumber(size) >= 10 * 2 ^ 20 and tonumber(size) < 12 * 2 ^ 20, size)
    end
    assert.equal(3, files)
  end)
end)
