---@meta
-- Made by dev/stubs.lua from the tables of operations and descriptors; do not edit.

---One line of a deployment's journal.
---@class ctrlplane.Command
---@field id? string TypeID
---@field created_at? string when it was made
---@field updated_at? string when it last changed
---@field deployment_id? string the deployment
---@field number integer 1, 2, 3 ... in the deployment
---@field name? string the command
---@field args? any its arguments
---@field result? any its result
---@field done boolean the result is known
---@field line? string file:line that issued it
---@field done_wall? string when it was done

---A file that is written before the service starts.
---@class ctrlplane.ConfigFile
---@field name string name, unique in the service
---@field path string where the file is written, inside the working copy
---@field format? string what the content is, for people and tools: json, yaml, ini ...
---@field content? string the text; ${port.<name>}, ${instance.id|name|index} and ${workload.name|slug} are replaced, $${ is a literal ${, everything else stays as it is
---@field mode? string permissions as octal text (default 0644)

---One rollout of a release to a workload.
---@class ctrlplane.Deployment
---@field id? string TypeID
---@field created_at? string when it was made
---@field updated_at? string when it last changed
---@field tenant_id? string the tenant that owns it
---@field workload_id? string its workload
---@field release_id? string the release that is rolled out
---@field previous_release_id? string the last good release before it
---@field state? "pending"|"running"|"paused"|"succeeded"|"failed"|"rolled_back"|"cancelled" its state
---@field strategy? string name of the strategy
---@field strategy_hash? string SHA-256 of the pinned sources
---@field params? any parameters of the strategy, defaults filled in
---@field surge string|number instances above the replica count, at most
---@field unavailable string|number instances below it that may be unavailable by our own act
---@field min_ready number how long an instance is ready before it counts as available
---@field progress_deadline number time without progress that fails it, or none
---@field on_failure? "rollback"|"pause"|"fail" rollback, pause or fail
---@field max_failures integer instances that may give up
---@field services? any the changes as they were asked for
---@field service_progress? table<string, string> per service: pending, running, succeeded or failed
---@field phase? string what it is doing
---@field percent number how far it is, 0..100
---@field message? string one line for people
---@field held_by? string who paused it
---@field awaiting? string what it waits for a person to do
---@field initiator? string who asked for it
---@field notes? string what changed, as people say it
---@field error? any why it failed
---@field started_at? string when it began
---@field finished_at? string when it ended

---Where a port of an instance is reached.
---@class ctrlplane.Endpoint
---@field service? string the service
---@field name? string name of the port
---@field host? string address
---@field port? integer port
---@field protocol? string tcp or udp

---A change, written in the transaction that made it.
---@class ctrlplane.Event
---@field id? string TypeID
---@field seq integer grows without gaps in commit order
---@field type? string what happened: workload.created, instance.failed ...
---@field tenant_id? string the tenant it belongs to
---@field actor_id? string who did it
---@field workload_id? string the workload it tells of
---@field instance_id? string the instance it tells of
---@field deployment_id? string the deployment it tells of
---@field payload? any details
---@field at? string when it happened

---How to tell that a service is ready.
---@class ctrlplane.HealthCheck
---@field type? "http"|"tcp"|"grpc"|"command" how to ask (default http)
---@field port? string name or number of the port (default the first port)
---@field path? string path of the request (http) (default /)
---@field command? string[] command that exits with 0 when the service is healthy (command)
---@field interval? number time between two checks (default 10s)
---@field timeout? number time that a check may take (default 5s)
---@field retries? integer failures in a row that make it unhealthy (default 3)
---@field start_period? number time after a start in which failures do not count (default 0s)

---One replica: all services of a release, running together.
---@class ctrlplane.Instance
---@field id? string TypeID
---@field created_at? string when it was made
---@field updated_at? string when it last changed
---@field tenant_id? string the tenant that owns it
---@field workload_id? string its workload
---@field replica_index integer unique among the live instances of its release
---@field release_id? string the release it runs
---@field name? string <slug>-<index>-<last 5 of id>
---@field kind? "deployment"|"stateful_set" its workload's kind
---@field provider_name? string the provider that runs it
---@field provider_ref? string what the provider calls it
---@field region? string region
---@field state? "provisioning"|"starting"|"running"|"stopping"|"stopped"|"failed"|"destroying"|"destroyed" its state
---@field desired? "running"|"stopped"|"destroyed" what it is wanted to be
---@field generation integer wanted: raised by restart and by an update in place
---@field ready boolean every service of it is ready
---@field message? string what is wrong with it
---@field restarts integer restarts of its services by the runtime
---@field started_at? string when it started
---@field endpoints? ctrlplane.Endpoint[] where its ports are reached
---@field service_status? ctrlplane.ServiceStatus[] what is seen of each service

---A port that a service listens on.
---@class ctrlplane.Port
---@field name string name of the port: ${port.<name>}, PORT_<NAME>
---@field container? integer port inside a container, where the runtime has containers
---@field host? integer fixed port on the host; without it each instance gets a free one
---@field protocol? string tcp or udp (default tcp)

---An immutable snapshot of a workload's services.
---@class ctrlplane.Release
---@field id? string TypeID
---@field created_at? string when it was made
---@field updated_at? string when it last changed
---@field tenant_id? string the tenant that owns it
---@field workload_id? string its workload
---@field version integer 1, 2, 3 ... per workload
---@field services ctrlplane.Service[] the whole snapshot, images resolved
---@field notes? string what changed, as people say it
---@field commit_sha? string the commit it was built from
---@field active boolean it is the current release of its workload

---What a service may use.
---@class ctrlplane.Resources
---@field cpu_millis? integer CPU in thousandths of a core; 0: no limit
---@field memory_mb? integer memory in MiB; 0: no limit
---@field disk_mb? integer disk in MiB; 0: no limit
---@field gpu? integer number of GPUs

---A secret by reference.
---@class ctrlplane.SecretRef
---@field key string name of the secret
---@field env string environment variable that receives it

---One process of a replica.
---@class ctrlplane.Service
---@field name string a DNS label, unique in the workload
---@field image? string what to run: an executable or a folder (process), an image reference (containers); absent: the command is one of the host
---@field role? "main"|"sidecar"|"init" main, sidecar or init; exactly one service is main (default main)
---@field depends_on? string[] services that must run (an init: must have ended well) before this one starts
---@field resources? ctrlplane.Resources what the service may use
---@field env? table<string, string> environment variables; ${port.<name>} and the like are replaced
---@field ports? ctrlplane.Port[] ports that the service listens on
---@field volumes? ctrlplane.Volume[] folders that outlive the process
---@field health_check? ctrlplane.HealthCheck how to tell that it is ready; without one when it has run for a second
---@field secrets? ctrlplane.SecretRef[] secrets by reference
---@field config_files? ctrlplane.ConfigFile[] files that are written before it starts
---@field annotations? table<string, string> notes for people and tools; the engine does not read them
---@field command? string[] command to run instead of the image's own
---@field args? string[] arguments behind the command
---@field restart? "always"|"on_failure"|"never" when the runtime starts it again after an exit (default always)
---@field user? string user to run as: a name or a number
---@field workdir? string working directory
---@field stop_signal? string signal that asks it to end (default TERM)
---@field stop_timeout number time between that signal and the kill (default 10s)

---What a deploy changes of a service; what it does not name stays.
---@class ctrlplane.ServiceDeploy
---@field name string the service to change
---@field image? string the new image
---@field env? table<string, string> replaces all environment variables
---@field health_check? ctrlplane.HealthCheck replaces the health check; null removes it
---@field command? string[] replaces the command
---@field args? string[] replaces the arguments

---What is seen of one service of an instance.
---@class ctrlplane.ServiceStatus
---@field name? string the service
---@field state? string waiting, running, backoff, exited or failed
---@field ready boolean its health check passes
---@field restarts integer restarts by the runtime
---@field message? string what is wrong with it
---@field provider_ref? string what the provider calls it
---@field exit_code? integer of the last exit; absent: none yet

---A folder that outlives the process that writes to it.
---@class ctrlplane.Volume
---@field name string name of the volume, unique in the service
---@field mount_path string where the service finds it
---@field size_mb? integer size in MiB, where the runtime can limit it
---@field type? string persistent (default persistent)

---Services that run together in N replicas.
---@class ctrlplane.Workload
---@field id? string TypeID
---@field created_at? string when it was made
---@field updated_at? string when it last changed
---@field tenant_id? string the tenant that owns it
---@field name string name as people write it
---@field slug string name for URLs, unique among the live workloads of the tenant
---@field datacenter_id? string a label that providers may use for placement
---@field provider_name string the provider that runs it
---@field region string region
---@field kind? "deployment"|"stateful_set" deployment or stateful_set; immutable (default deployment)
---@field services ctrlplane.Service[] the draft; what runs is the current release
---@field labels? table<string, string> labels for people and tools
---@field current_release_id? string the release in effect
---@field replica_count integer replicas wanted
---@field ready_replicas integer replicas that are ready
---@field state? "provisioning"|"active"|"scaling"|"deploying"|"paused"|"failed"|"destroying"|"destroyed" state of the whole
---@field paused_at? string since when it is paused
---@field previous_replicas? integer what resume brings back
---@field template_id? string the template it was made from
---@field message? string why it failed, or what an operation warned of

---a new workload
---@class ctrlplane.CreateOptions
---@field name string its name; the slug is made of it
---@field services ctrlplane.Service[] what each replica runs, together
---@field replicas? integer how many; zero or less means 1 (default 1)
---@field kind? "deployment"|"stateful_set" deployment, or stateful_set: stable identity and volumes (default deployment)
---@field labels? table<string, string> your own marks on it
---@field provider_name? string the runtime; default: the first
---@field datacenter_id? string a label for placement
---@field region? string a label for placement
---@field wait? string|number answer when settled, or when this has passed
---@field strategy? string its name, or a path to its file (default rolling)
---@field params? any the strategy's own parameters
---@field surge? string|number instances above the replica count, at most (default 25%)
---@field unavailable? string|number instances below it that may be unavailable by our own act (default 0)
---@field min_ready? string|number how long an instance is ready before it counts as available (default 0s)
---@field progress_deadline? string|number time without progress that fails it; "none": never (default 10m)
---@field on_failure? "rollback"|"pause"|"fail" rollback, pause, or fail and stay (default rollback)
---@field max_failures? integer new instances that may give up (default 0)
---@field notes? string what changes, as people say it
---@field commit_sha? string the commit it was built from
---@field source? string a strategy's source text; strategy is then only its name
---@field files? table<string, string> with source: what it requires, such as { "steps.lua" = its source text }
---@field timeout? string|number give up waiting after this; the work goes on

---what to remove
---@class ctrlplane.DeleteOptions
---@field volumes? boolean remove its volumes as well
---@field wait? string|number answer when settled, or when this has passed
---@field timeout? string|number give up waiting after this; the work goes on

---what to roll out, and how
---@class ctrlplane.DeployOptions
---@field services? ctrlplane.ServiceDeploy[] the services that change, and what of them; the rest stays
---@field release_id? string an earlier release to roll out again, instead of services
---@field strategy? string its name, or a path to its file (default rolling)
---@field params? any the strategy's own parameters
---@field surge? string|number instances above the replica count, at most (default 25%)
---@field unavailable? string|number instances below it that may be unavailable by our own act (default 0)
---@field min_ready? string|number how long an instance is ready before it counts as available (default 0s)
---@field progress_deadline? string|number time without progress that fails it; "none": never (default 10m)
---@field on_failure? "rollback"|"pause"|"fail" rollback, pause, or fail and stay (default rollback)
---@field max_failures? integer new instances that may give up (default 0)
---@field supersede? string a rollout under way: reject this one, or replace that one (default reject)
---@field notes? string what changes, as people say it
---@field commit_sha? string the commit it was built from
---@field source? string a strategy's source text; strategy is then only its name
---@field files? table<string, string> with source: what it requires, such as { "steps.lua" = its source text }
---@field wait? string|number answer when settled, or when this has passed
---@field timeout? string|number give up waiting after this; the work goes on

---how long to wait
---@class ctrlplane.DeploymentWaitOptions
---@field timeout? string|number answer with what is so far when this has passed (default 10m)
---@field timeout? string|number give up waiting after this; the work goes on

---which events, newest first
---@class ctrlplane.EventsOptions
---@field types? string[] only these types; "deploy.*" is all of a kind
---@field workload? string only of this workload (id or slug)
---@field limit? integer items per page (default 50)
---@field cursor? string next_cursor of the page before
---@field timeout? string|number give up waiting after this; the work goes on

---which events, as they come
---@class ctrlplane.EventsStreamOptions
---@field types? string[] only these types; "deploy.*" is all of a kind
---@field workload? string only of this workload (id or slug)
---@field after? integer begin behind this seq; without it: with what comes from now on
---@field timeout? string|number give up waiting after this; the work goes on

---which workloads, newest first
---@class ctrlplane.ListOptions
---@field state? "live"|"provisioning"|"active"|"scaling"|"deploying"|"paused"|"failed"|"destroying"|"destroyed" only those in this state; live: all but destroyed (default live)
---@field provider_name? string only those on this provider
---@field region? string only those in this region
---@field limit? integer items per page (default 50)
---@field cursor? string next_cursor of the page before
---@field timeout? string|number give up waiting after this; the work goes on

---which lines
---@class ctrlplane.LogsOptions
---@field follow? boolean go on with what comes
---@field since? string only lines from this time on, also of replicas that are gone (for an hour)
---@field after? string begin behind the line with this cursor
---@field tail? integer only the last lines of each replica
---@field service? string only this service
---@field timeout? string|number give up waiting after this; the work goes on

---no options
---@class ctrlplane.NoneOptions
---@field timeout? string|number give up waiting after this; the work goes on

---which page
---@class ctrlplane.PageOptions
---@field limit? integer items per page (default 50)
---@field cursor? string next_cursor of the page before
---@field timeout? string|number give up waiting after this; the work goes on

---how to restart
---@class ctrlplane.RestartOptions
---@field parallel? integer replicas at a time (default 1)
---@field wait? string|number answer when settled, or when this has passed
---@field timeout? string|number give up waiting after this; the work goes on

---which release to go back to, and how
---@class ctrlplane.RollbackOptions
---@field release_id? string an earlier release to roll out again, instead of services
---@field strategy? string its name, or a path to its file (default rolling)
---@field params? any the strategy's own parameters
---@field surge? string|number instances above the replica count, at most (default 25%)
---@field unavailable? string|number instances below it that may be unavailable by our own act (default 0)
---@field min_ready? string|number how long an instance is ready before it counts as available (default 0s)
---@field progress_deadline? string|number time without progress that fails it; "none": never (default 10m)
---@field on_failure? "rollback"|"pause"|"fail" rollback, pause, or fail and stay (default rollback)
---@field max_failures? integer new instances that may give up (default 0)
---@field supersede? string a rollout under way: reject this one, or replace that one (default reject)
---@field notes? string what changes, as people say it
---@field commit_sha? string the commit it was built from
---@field source? string a strategy's source text; strategy is then only its name
---@field files? table<string, string> with source: what it requires, such as { "steps.lua" = its source text }
---@field wait? string|number answer when settled, or when this has passed
---@field timeout? string|number give up waiting after this; the work goes on

---how many
---@class ctrlplane.ScaleOptions
---@field replicas integer how many replicas to run; 0 is pause
---@field wait? string|number answer when settled, or when this has passed
---@field timeout? string|number give up waiting after this; the work goes on

---what to change of a workload
---@class ctrlplane.UpdateOptions
---@field name? string a new name; the slug stays
---@field services? ctrlplane.Service[] the draft: what the next deploy rolls out
---@field labels? table<string, string> replaces all labels
---@field wait? string|number answer when settled, or when this has passed
---@field timeout? string|number give up waiting after this; the work goes on

---how long to wait
---@class ctrlplane.WaitOptions
---@field wait? string|number answer when settled, or when this has passed
---@field timeout? string|number give up waiting after this; the work goes on

---@class ctrlplane.Workloads
local workloads = {}

---Creates a workload and rolls out its first release.
---@param options? ctrlplane.CreateOptions
---@return ctrlplane.Workload? result
---@return ctrlplane.Error? err
function workloads:create(options) end

---Lists workloads, newest first.
---@param options? ctrlplane.ListOptions
---@return { items: ctrlplane.Workload[], total: integer, next_cursor: string? }? result
---@return ctrlplane.Error? err
function workloads:list(options) end

---One workload by id or slug.
---@param id string id or slug
---@param options? ctrlplane.NoneOptions
---@return ctrlplane.Workload? result
---@return ctrlplane.Error? err
function workloads:get(id, options) end

---One workload by its slug.
---@param id string id or slug
---@param options? ctrlplane.NoneOptions
---@return ctrlplane.Workload? result
---@return ctrlplane.Error? err
function workloads:get_by_slug(id, options) end

---Changes name and labels at once; services become the draft of the next deploy.
---@param id string id or slug
---@param options? ctrlplane.UpdateOptions
---@return ctrlplane.Workload? result
---@return ctrlplane.Error? err
function workloads:update(id, options) end

---Changes how many replicas run.
---@param id string id or slug
---@param options? ctrlplane.ScaleOptions
---@return ctrlplane.Workload? result
---@return ctrlplane.Error? err
function workloads:scale(id, options) end

---Stops every replica and remembers how many there were.
---@param id string id or slug
---@param options? ctrlplane.WaitOptions
---@return ctrlplane.Workload? result
---@return ctrlplane.Error? err
function workloads:pause(id, options) end

---Starts what pause stopped.
---@param id string id or slug
---@param options? ctrlplane.WaitOptions
---@return ctrlplane.Workload? result
---@return ctrlplane.Error? err
function workloads:resume(id, options) end

---Restarts every replica in place, a few at a time.
---@param id string id or slug
---@param options? ctrlplane.RestartOptions
---@return ctrlplane.Workload? result
---@return ctrlplane.Error? err
function workloads:restart(id, options) end

---Rolls out changed services, a release, or the draft.
---@param id string id or slug
---@param options? ctrlplane.DeployOptions
---@return ctrlplane.Deployment? result
---@return ctrlplane.Error? err
function workloads:deploy(id, options) end

---Rolls out an earlier release again.
---@param id string id or slug
---@param options? ctrlplane.RollbackOptions
---@return ctrlplane.Deployment? result
---@return ctrlplane.Error? err
function workloads:rollback(id, options) end

---Ends any rollout, destroys every replica, then the workload.
---@param id string id or slug
---@param options? ctrlplane.DeleteOptions
---@return ctrlplane.Workload? result
---@return ctrlplane.Error? err
function workloads:delete(id, options) end

---Its replicas, by index.
---@param id string id or slug
---@param options? ctrlplane.NoneOptions
---@return { items: ctrlplane.Instance[], total: integer, next_cursor: string? }? result
---@return ctrlplane.Error? err
function workloads:list_instances(id, options) end

---Its releases, newest first.
---@param id string id or slug
---@param options? ctrlplane.PageOptions
---@return { items: ctrlplane.Release[], total: integer, next_cursor: string? }? result
---@return ctrlplane.Error? err
function workloads:list_releases(id, options) end

---Its rollouts, newest first.
---@param id string id or slug
---@param options? ctrlplane.PageOptions
---@return { items: ctrlplane.Deployment[], total: integer, next_cursor: string? }? result
---@return ctrlplane.Error? err
function workloads:list_deployments(id, options) end

---Log lines of all replicas.
---@param id string id or slug
---@param options? ctrlplane.LogsOptions
---@return ctrlplane.Stream<ctrlplane.LogEvent>? events
---@return ctrlplane.Error? err
function workloads:stream_logs(id, options) end

---@class ctrlplane.Instances
local instances = {}

---One replica; also after it was destroyed.
---@param id string id of the instance
---@param options? ctrlplane.NoneOptions
---@return ctrlplane.Instance? result
---@return ctrlplane.Error? err
function instances:get(id, options) end

---@class ctrlplane.Releases
local releases = {}

---One release.
---@param id string id of the release
---@param options? ctrlplane.NoneOptions
---@return ctrlplane.Release? result
---@return ctrlplane.Error? err
function releases:get(id, options) end

---@class ctrlplane.Events
local events = {}

---Past events, newest first.
---@param options? ctrlplane.EventsOptions
---@return { items: ctrlplane.Event[], total: integer, next_cursor: string? }? result
---@return ctrlplane.Error? err
function events:list(options) end

---Events as they are committed, from any position.
---@param options? ctrlplane.EventsStreamOptions
---@return ctrlplane.Stream<ctrlplane.Event>? events
---@return ctrlplane.Error? err
function events:stream(options) end

---@class ctrlplane.Providers
local providers = {}

---The runtimes and what they can.
---@param options? ctrlplane.NoneOptions
---@return { items: ctrlplane.Provider[], total: integer, next_cursor: string? }? result
---@return ctrlplane.Error? err
function providers:list(options) end

---@class ctrlplane.Deployments
local deployments = {}

---One rollout of a release.
---@param id string id of the deployment
---@param options? ctrlplane.NoneOptions
---@return ctrlplane.Deployment? result
---@return ctrlplane.Error? err
function deployments:get(id, options) end

---What it waits for: guard, condition or person, with the numbers.
---@param id string id of the deployment
---@param options? ctrlplane.NoneOptions
---@return { items: ctrlplane.Why[], total: integer, next_cursor: string? }? result
---@return ctrlplane.Error? err
function deployments:why(id, options) end

---What its strategy has done, command by command.
---@param id string id of the deployment
---@param options? ctrlplane.NoneOptions
---@return { items: ctrlplane.Command[], total: integer, next_cursor: string? }? result
---@return ctrlplane.Error? err
function deployments:journal(id, options) end

---Holds it: sizes stay as they are, its clocks stop.
---@param id string id of the deployment
---@param options? ctrlplane.WaitOptions
---@return ctrlplane.Deployment? result
---@return ctrlplane.Error? err
function deployments:pause(id, options) end

---Lets a paused one go on.
---@param id string id of the deployment
---@param options? ctrlplane.WaitOptions
---@return ctrlplane.Deployment? result
---@return ctrlplane.Error? err
function deployments:resume(id, options) end

---Goes back to the last good release.
---@param id string id of the deployment
---@param options? ctrlplane.WaitOptions
---@return ctrlplane.Deployment? result
---@return ctrlplane.Error? err
function deployments:abort(id, options) end

---Stops here and keeps what is there, old and new.
---@param id string id of the deployment
---@param options? ctrlplane.WaitOptions
---@return ctrlplane.Deployment? result
---@return ctrlplane.Error? err
function deployments:cancel(id, options) end

---Rolls the same release out again, as a new deployment.
---@param id string id of the deployment
---@param options? ctrlplane.WaitOptions
---@return ctrlplane.Deployment? result
---@return ctrlplane.Error? err
function deployments:retry(id, options) end

---Answers when it is final, paused, or waits for a person.
---@param id string id of the deployment
---@param options? ctrlplane.DeploymentWaitOptions
---@return ctrlplane.Deployment? result
---@return ctrlplane.Error? err
function deployments:wait(id, options) end

---@class ctrlplane.Strategies
local strategies = {}

---The strategies that can be named.
---@param options? ctrlplane.NoneOptions
---@return { items: ctrlplane.StrategyInfo[], total: integer, next_cursor: string? }? result
---@return ctrlplane.Error? err
function strategies:list(options) end

---One strategy: its parameters, guards and source.
---@param id string id of the strategy
---@param options? ctrlplane.NoneOptions
---@return ctrlplane.StrategyInfo? result
---@return ctrlplane.Error? err
function strategies:get(id, options) end

---@class ctrlplane.Namespaces
---@field workloads ctrlplane.Workloads
---@field instances ctrlplane.Instances
---@field releases ctrlplane.Releases
---@field events ctrlplane.Events
---@field providers ctrlplane.Providers
---@field deployments ctrlplane.Deployments
---@field strategies ctrlplane.Strategies
