-- Lists: filters, pages that move, cursors that are wrong; looking things up.
local lab = require "spec.support.lab"

describe("a list of workloads", function()
  local plane, clock

  before_each(function()
    plane, clock = lab.open { seed = 3 }
  end)
  after_each(function() lab.close(plane) end)

  local function make(prefix, from, to, more)
    local ids = {}
    for i = from, to do
      local spec = { name = prefix .. i, settle = false }
      for key, value in pairs(more or {}) do
        spec[key] = value
      end
      ids[#ids + 1] = lab.workload(plane, spec).id
    end
    return ids
  end

  it("is newest first, in pages, with the total", function()
    local ids = make("w", 1, 7)
    local first = assert(plane.workloads:list { limit = 3 })
    assert.equal(7, first.total)
    assert.equal(ids[7], first.items[1].id)
    assert.equal(ids[5], first.items[3].id)
    local second = assert(plane.workloads:list { limit = 3, cursor = first.next_cursor })
    assert.equal(ids[4], second.items[1].id)
    local third = assert(plane.workloads:list { limit = 3, cursor = second.next_cursor })
    assert.equal(1, #third.items)
    assert.is_nil(third.next_cursor)
  end)

  it("shows every row that matched all the time exactly once, whatever moves between the pages", function()
    local ids = make("w", 1, 120)
    clock:advance "10s"
    local paused, seen, cursor = {}, {}, nil
    local created = 0
    repeat
      local page = assert(plane.workloads:list { limit = 25, state = "active", cursor = cursor })
      for _, item in ipairs(page.items) do
        assert.is_nil(seen[item.id], "twice")
        seen[item.id] = true
      end
      cursor = page.next_cursor
      if cursor then
        local last = page.items[#page.items]
        assert(plane.workloads:delete(last.id, { wait = "1m" }))
        make("new", created + 1, created + 10)
        created = created + 10
        clock:advance "10s"
        for i = 1, 5 do -- rows not yet shown: renamed, or moved out of the filter
          assert(plane.workloads:update(ids[i], { name = "renamed " .. created .. " " .. i }))
        end
        for _, id in ipairs(ids) do
          if not seen[id] and not paused[id] then
            paused[id] = true
            assert(plane.workloads:pause(id))
            break
          end
        end
      end
    until not cursor
    for _, id in ipairs(ids) do
      if not paused[id] then
        assert.is_true(seen[id], id)
      end
    end
  end)

  it("can be narrowed by state, provider and region", function()
    make("here", 1, 2, { region = "eu" })
    make("there", 1, 3, { region = "us" })
    clock:advance "10s"
    assert(plane.workloads:pause "there1")
    assert.equal(2, assert(plane.workloads:list { region = "eu" }).total)
    assert.equal(1, assert(plane.workloads:list { state = "paused" }).total)
    assert.equal(2, assert(plane.workloads:list { region = "us", state = "active" }).total)
    assert.equal(5, assert(plane.workloads:list { provider_name = "sim" }).total)
    assert.equal(0, assert(plane.workloads:list { provider_name = "docker" }).total)
    local _, err = plane.workloads:list { state = "activ" }
    assert.equal("invalid", err.code)
    assert.equal("state", err.field)
  end)

  it("refuses cursors that are cut, made up or of another list", function()
    local ids = make("w", 1, 3)
    local good = assert(plane.workloads:list { limit = 1 }).next_cursor
    assert(plane.workloads:deploy(ids[1], lab.good()))
    clock:advance "1m"
    local other = assert(plane.workloads:list_releases(ids[1], { limit = 1 })).next_cursor
    for _, cursor in ipairs { good:sub(1, -2), good .. "x", "x", "workloads.", other, ids[1] } do
      local _, err = plane.workloads:list { cursor = cursor }
      assert.equal("invalid", err.code, cursor)
      assert.equal("cursor", err.field)
    end
    local _, err = plane.workloads:list_releases(ids[1], { cursor = good })
    assert.equal("invalid", err.code)
  end)

  it("has bounds", function()
    for _, limit in ipairs { 0, -1, 501 } do
      local _, err = plane.workloads:list { limit = limit }
      assert.equal("invalid", err.code)
      assert.equal("limit", err.field)
    end
  end)
end)

describe("looking up", function()
  local plane

  setup(function() plane = lab.open {} end)
  teardown(function() lab.close(plane) end)

  local function refused(code, message, _, err)
    assert.equal(code, err and err.code)
    assert.matches(message, tostring(err))
  end

  it("says what is wrong with an id, and suggests the slug that was meant", function()
    lab.workload(plane, { name = "checkout" })
    refused("not_found", "there is no workload 'chekout'; did you mean 'checkout'", plane.workloads:get "chekout")
    refused("not_found", "there is no workload wkl_01kdvdna00", plane.workloads:get "wkl_01kdvdna00efzvdpd5rfj57f4h")
    refused("invalid", "26", plane.workloads:get "wkl_01kd")
    refused("invalid", "must be 'wkl'", plane.workloads:get "dep_01kdvdna00efzvdpd5rfj57f4h")
    refused("invalid", "capital", plane.workloads:get "wkl_01KDVDNA00EFZVDPD5RFJ57F4H")
    refused("invalid", "not a slug", plane.workloads:get_by_slug "wkl_01kdvdna00efzvdpd5rfj57f4h")
    refused("not_found", "there is no instance", plane.instances:get "inst_01kdvdna00efzvdpd5rfj57f4h")
    refused("not_found", "there is no release", plane.releases:get "rel_01kdvdna00efzvdpd5rfj57f4h")
    refused("invalid", "prefix", plane.instances:get "rel_01kdvdna00efzvdpd5rfj57f4h")
  end)

  it("finds an instance after it is gone", function()
    local web = lab.workload(plane, { name = "short", replicas = 2 })
    local instance = lab.instances(plane, web)[2]
    assert(plane.workloads:scale(web.id, { replicas = 1, wait = "1m" }))
    local gone = assert(plane.instances:get(instance.id))
    assert.equal("destroyed", gone.state)
    assert.equal(1, gone.replica_index)
  end)

  it("lists the runtimes and what they can", function()
    local providers = assert(plane.providers:list()).items
    assert.equal(1, #providers)
    assert.equal("sim", providers[1].name)
    assert.is_true(providers[1].default)
    assert.truthy(table.concat(providers[1].capabilities, " "):find("logs", 1, true))
  end)
end)
