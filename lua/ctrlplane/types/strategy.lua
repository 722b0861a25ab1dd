---@meta ctrlplane.strategy
-- What a strategy file returns and the `rollout` that its run is given, by hand. A spec compares names with the program.
-- Durations are texts like "30s" or numbers of seconds; a share is a count or a text like "25%".

---@class ctrlplane.Strategy a strategy file returns one
---@field name? string default: the file's name
---@field summary? string one line
---@field doc? string
---@field params? table<string, ctrlplane.Parameter>
---@field guards? ctrlplane.Guards what it needs by default; a request goes before it
---@field needs? string[] what it cannot run without, such as "router"
---@field run fun(rollout: ctrlplane.Rollout, params: table)

---@class ctrlplane.Parameter
---@field type "duration"|"share"|"percent"|"int"|"number"|"bool"|"string"|"enum"|"list" durations arrive as seconds
---@field default? any
---@field doc? string
---@field min? any lowest value, or shortest text
---@field max? any
---@field values? string[] of an enum
---@field of? string type of a list's items
---@field required? boolean

---@class ctrlplane.Guards
---@field surge? string|number instances above the replica count, at most
---@field unavailable? string|number instances below it that may be unavailable
---@field min_ready? string|number
---@field progress_deadline? string|number "none": never
---@field on_failure? "rollback"|"pause"|"fail"
---@field max_failures? integer

---@class ctrlplane.Wait
---@field timeout? string|number raises `timeout` when it has passed

---@class ctrlplane.BakeOptions: ctrlplane.Wait
---@field max_unhealthy? integer default 0
---@field max_restarts? integer default 0

---@class ctrlplane.Reached what a goal came to
---@field replicas integer
---@field new integer
---@field old integer

---@class ctrlplane.SetStatus
---@field goal integer
---@field live integer
---@field ready integer
---@field available integer ready for at least min_ready
---@field healthy integer
---@field weight number

---@class ctrlplane.RolloutStatus
---@field replicas integer
---@field failures integer instances that gave up
---@field new ctrlplane.SetStatus
---@field old ctrlplane.SetStatus
---@field abandoned ctrlplane.SetStatus

---@class ctrlplane.RolloutInstance
---@field id string
---@field name string
---@field replica_index integer
---@field set "new"|"old"|"abandoned"
---@field state string
---@field ready boolean
---@field available boolean
---@field restarts integer

---@class ctrlplane.Rollout
---@field id string
---@field params table
---@field guards ctrlplane.Guards
---@field workload { id: string, name: string, slug: string, kind: string, replicas: integer, labels: table<string, string>? }
---@field release { id: string, version: integer, notes: string?, commit_sha: string? }
---@field previous? { id: string, version: integer, notes: string?, commit_sha: string? }
---@field router? table nil without one
local rollout = {}

---The new set's goal is that share; the old set stays. Done when they are available.
---@param share string|number
---@param options? ctrlplane.Wait
---@return ctrlplane.Reached
function rollout:launch(share, options) end

---New takes that share, old keeps the rest, step by step within the guards. Done when reached.
---@param share string|number
---@param options? ctrlplane.Wait
---@return ctrlplane.Reached
function rollout:replace(share, options) end

---The old set gives up that share of the replicas (all of it). Done when they are gone.
---@param share? string|number
---@param options? ctrlplane.Wait
---@return ctrlplane.Reached
function rollout:retire(share, options) end

---Watches the new set; raises `health_check_failed` when it gets worse than the options allow.
---@param duration string|number
---@param options? ctrlplane.BakeOptions
function rollout:bake(duration, options) end

---@param duration string|number
---@param options? ctrlplane.Wait
function rollout:sleep(duration, options) end

---Until fn returns true. It is asked when the status changes, never polled, and may only look.
---@param fn fun(status: ctrlplane.RolloutStatus): boolean?
---@param options? ctrlplane.Wait
---@return ctrlplane.RolloutStatus status that satisfied it
function rollout:wait_until(fn, options) end

---@param text any a line for people
---@param fields? table
function rollout:log(text, fields) end

---@param name string what the rollout does now
function rollout:phase(name) end

---@param percent number
---@param text? string
function rollout:progress(percent, text) end

---New = 100%, old = 0; what run returning does as well. Ends the script.
---@param options? ctrlplane.Wait
function rollout:finish(options) end

---Ends here: the deployment fails with that reason.
---@param reason? string
function rollout:fail(reason) end

---@return integer
function rollout:replicas() end

---@return ctrlplane.RolloutStatus
function rollout:status() end

---@param set? "new"|"old"|"abandoned"
---@return ctrlplane.RolloutInstance[]
function rollout:instances(set) end

---Seconds since the epoch, at the last command's end.
---@return number
function rollout:now() end

---Random numbers as math.random gives them, the same in every replay.
---@param low? integer
---@param high? integer
---@return number
function rollout:random(low, high) end
