--- A client that never stops writing: luajit spec/support/writer.lua labels|scale SOCKET WORKLOAD ACKS STOP
--- Sends request number 1, 2, 3 ...; a number is written to the file ACKS once its request was answered, and only then
--- is the next one sent. A request without an answer is sent again. Ends when the file STOP exists.
local api = require "spec.support.api"
local house = require "spec.support.house"

local kind, socket, workload, acks_path, stop = unpack(arg)
local engine = api.new(socket)
local acks = assert(io.open(acks_path, "a"))
acks:setvbuf "line"

local send = {
  labels = function(n) return engine:patch("/workloads/" .. workload, { labels = { n = tostring(n) } }, 3) end,
  scale = function(n) return engine:post(("/workloads/%s/scale"):format(workload), { replicas = 3 + n % 2 }, 3) end,
}

local n = 1
while not house.exists(stop) do
  local answer, err, status = send[kind](n)
  if answer then
    acks:write(n, "\n")
    n = n + 1
    house.sleep(kind == "scale" and 0.15 or 0.005)
  elseif status and status < 500 then
    acks:write("refused ", n, ": ", tostring(err), "\n")
    os.exit(1)
  else
    house.sleep(0.01)
  end
end
