---@meta ctrlplane
-- The module, planes, tasks and streams, by hand; api.lua is made of the tables. A spec compares names with the program.

---@class ctrlplane.Error what can go wrong in operation: the second result
---@field code string one of the public codes: "invalid", "not_found", "timeout" ...
---@field message string one line: what is wrong, with which value
---@field field? string path, such as "services[1].image"
---@field hint? string what would be right
---@field where? string "file:line"
---@field details? table

---@class ctrlplane.LogEvent
---@field workload_id string
---@field instance_id string
---@field replica_index integer
---@field service_name string
---@field stream "stdout"|"stderr"
---@field at string
---@field line string text; bytes that are not UTF-8 are U+FFFD
---@field line_base64? string the bytes, where they are not UTF-8
---@field partial? boolean a piece of a longer line
---@field cursor? string the position behind it, for `after`

---@class ctrlplane.Why what holds a rollout back, or ended it
---@field guard string a guard, a command, "person", "failure", "instance" ...
---@field value number
---@field needed number
---@field message string one line for people
---@field since string
---@field deadline? string when waiting for it fails
---@field instance_id? string
---@field release_id? string
---@field error? ctrlplane.Error

---@class ctrlplane.StrategyInfo
---@field name string
---@field summary string
---@field params table<string, ctrlplane.Parameter>
---@field guards? ctrlplane.Guards
---@field needs? string[]
---@field hash? string of its sources (in `get`)
---@field sources? table<string, string> path to text (in `get`)

---@class ctrlplane.Provider
---@field name string
---@field type string
---@field default boolean workloads that name none run here
---@field capabilities string[]
---@field info? table what the provider tells of itself

---@class ctrlplane.Task a coroutine that waits by suspending
local task = {}

---Waits for its end.
---@param options? { timeout: string|number }
---@return any ... what its function returned; nil and the error when it failed
function task:wait(options) end

---Ends it: what it waits for answers nil, `cancelled`; one that has not started never does.
function task:cancel() end

---@return "ready"|"waiting"|"running"|"done"|"failed"|"cancelled"
function task:status() end

---@class ctrlplane.Stream<T>: { [integer]: T } for event in stream do ... end; raises when it breaks off
local stream = {}

---The next event; nil at the end, nil and the error when it broke off.
---@param options? { timeout: string|number }
---@return any? event
---@return ctrlplane.Error? err
function stream:next(options) end

---Ends it; what is queued is dropped.
function stream:close() end

---@class ctrlplane.Clock
local clock = {}

---Moves the time of a plane that was opened with `clock = "virtual"`; what is due happens, in order.
---@param duration string|number
function clock:advance(duration) end

---@return number seconds since 1970, with milliseconds
function clock:now() end

---@class ctrlplane.Plane: ctrlplane.Namespaces
---@field clock ctrlplane.Clock
local plane = {}

---Detaches: waits in flight answer nil, `cancelled`; workloads go on.
function plane:close() end

---Starts a task of this plane.
---@param fn fun(...): any
---@return ctrlplane.Task
function plane:spawn(fn, ...) end

---Runs a function as a task and returns what it returns; without one: until every task of this plane has ended.
---@param fn? fun(...): any
---@return any ...
function plane:run(fn, ...) end

---One turn of the loop; waits up to `seconds` for something to do. For programs with a loop of their own.
---@param seconds? number
---@return integer done how many things were done
function plane:step(seconds) end

---@return integer fd readable when plane:step() has something to do
function plane:fd() end

---@param duration string|number
---@return true? ok
---@return ctrlplane.Error? err
function plane:sleep(duration) end

---@return { tasks: integer, calls: integer, streams: integer } open what is still open
function plane:pending() end

---Figures of the engine: its commits, its longest stall, what is in flight.
---@return table? stats
---@return ctrlplane.Error? err
function plane:stats() end

---Does anybody answer?
---@return true? ok
---@return ctrlplane.Error? err
function plane:ping() end

---Asks the engine on the other side to end; workloads go on.
---@return true? ok
---@return ctrlplane.Error? err
function plane:stop_server() end

---@class ctrlplane.OpenOptions
---@field store string a file, or ":memory:"
---@field provider? "process"|"sim" the runtime of workloads that name none (default process)
---@field data_dir? string of the process provider (default: the store with .d)
---@field clock? "real"|"virtual"
---@field seed? integer of a virtual clock and the sim provider
---@field scenario? table of the sim provider
---@field strategies? string[] folders with strategies of your own
---@field vfs? string the SQLite VFS

---@class ctrlplane
---@field null any JSON's null
---@field remove any in an override: takes the value away
---@field version string
---@field model table the pure decisions
local ctrlplane = {}

---Opens a store and runs its engine in this program.
---@param options ctrlplane.OpenOptions
---@return ctrlplane.Plane? plane
---@return ctrlplane.Error? err
function ctrlplane.open(options) end

---Talks to an engine that is served: the same methods, over HTTP. Nothing is sent before the first call.
---@param options { socket: string }|{ url: string }
---@return ctrlplane.Plane? plane
---@return ctrlplane.Error? err
function ctrlplane.connect(options) end

---Runs a function as a script: a task whose own coroutines may wait as well.
---@param script fun(...): any
---@return any ...
function ctrlplane.run_script(script, ...) end

return ctrlplane
