--- Bad specs, ids, parameters and requests, each with the code, field and message (a pattern) that it must get. None may
--- change the store. Requests are raw JSON, as they come over HTTP. `$WEB`, `$RELEASE`, `$DEPLOYMENT`, `$INSTANCE`,
--- `$OTHER` (a release of another workload) and `$GONE` (a workload that was deleted) stand for ids.
local M = {}

local function add(name, operation, id, args, code, field, message)
  M[#M + 1] = { name = name, operation = operation, id = id, args = args, code = code, field = field, message = message }
end

--- A create with the fields of one service named as JSON.
local function service(name, fields, field, message, code)
  add("a service with " .. name, "workloads.create", nil,
    ('{"name":"new","services":[{"name":"app","image":"app",%s}]}'):format(fields), code or "invalid",
    field and "services[0]." .. field, message)
end

local function services(name, list, field, message, code)
  add("services with " .. name, "workloads.create", nil, ('{"name":"new","services":%s}'):format(list),
    code or "invalid", field, message)
end

local function create(name, fields, field, message, code)
  add("a create with " .. name, "workloads.create", nil,
    ('{"name":"new","services":[{"name":"app","image":"app"}],%s}'):format(fields), code or "invalid", field, message)
end

local function deploy(name, fields, field, message, code)
  add("a deploy with " .. name, "workloads.deploy", "web", ("{%s}"):format(fields), code or "invalid", field, message)
end

-- ---- texts that are no JSON, or no request ----

for _, row in ipairs {
  { "an empty text", "", "not JSON" },
  { "half an object", '{"name":"new"', "not JSON" },
  { "two values", '{} {}', "not JSON" },
  { "a bare word", "web", "not JSON" },
  { "single quotes", "{'name':'new'}", "not JSON" },
  { "a trailing comma", '{"name":"new",}', "not JSON" },
  { "a comment", '{"name":"new" /* x */}', "not JSON" },
  { "the same key twice", '{"name":"a","replicas":1,"replicas":50,"services":[]}', "replicas.*line 1" },
  { "the same key twice, deep", '{"name":"a","services":[{"name":"a","image":"x","env":{"A":"1"},"env":{}}]}', "env" },
  { "a NUL in a text", '{"name":"a\\u0000b","services":[]}', "NUL" },
  { "bytes that are not UTF-8", '{"name":"a\255","services":[]}', "" },
  { "a lone surrogate", '{"name":"\\ud800","services":[]}', "" },
  { "33 levels", ("["):rep(33) .. ("]"):rep(33), "32" },
  { "100,000 levels", ("["):rep(100000), "" },
  { "a number beyond all", '{"name":"a","replicas":123456789012345678901234567890}', "" },
  { "an exponent beyond all", '{"name":"a","replicas":1e999}', "" },
  { "NaN", '{"name":"a","replicas":NaN}', "not JSON" },
} do
  add("a request with " .. row[1], "workloads.create", nil, row[2], "invalid", false, row[3])
end
add("a request of more than a MiB", "workloads.create", nil, '{"name":"' .. ("x"):rep(1024 * 1024) .. '"}', "too_large",
  false, "1048576")
for _, row in ipairs { { "a list", "[]" }, { "a text", '"web"' }, { "a number", "5" }, { "null", "null" },
  { "true", "true" } } do
  add("a request that is " .. row[1], "workloads.create", nil, row[2], "invalid", nil, "object")
end

-- ---- names ----

for _, row in ipairs {
  { "no name", '"x"', "", "name is missing" },
  { "an empty name", '"name"', '""', "name is empty" },
  { "a blank name", '"name"', '"  "', "blank" },
  { "a name with a newline", '"name"', '"a\\nb"', "0x0a" },
  { "a name with a DEL", '"name"', '"a\127"', "0x7f" },
  { "a name of 64 bytes", '"name"', '"' .. ("n"):rep(64) .. '"', "64" },
  { "a name of 300 bytes of ß", '"name"', '"' .. ("ß"):rep(150) .. '"', "300" },
  { "a name that is a number", '"name"', "5", "number 5; it must be text" },
  { "a name that is null", '"name"', "null", "null" },
  { "a name that is a list", '"name"', '["a"]', "array" },
} do
  local named = row[3] ~= "" and ("%s:%s,"):format(row[2], row[3]) or ""
  add("a create with " .. row[1], "workloads.create", nil,
    ('{%s"services":[{"name":"app","image":"app"}]}'):format(named), "invalid", "name", row[4])
end
add("a create with a name whose slug is taken", "workloads.create", nil,
  '{"name":"WEB","services":[{"name":"app","image":"app"}]}', "already_exists", "name", "web")

-- ---- fields of a create ----

create("an unknown field", '"replcas":3', "replcas", "did you mean|unknown")
create("a field of the engine", '"state":"active"', "state", "unknown field 'state'")
create("an id of its own", '"id":"wkl_01h455vb4pex5vsknk084sn02q"', "id", "unknown field 'id'")
create("replicas as text", '"replicas":"3"', "replicas", "'3'; it must be a whole number")
create("half a replica", '"replicas":1.5', "replicas", "1.5; it must be a whole number")
create("10,001 replicas", '"replicas":10001', "replicas", "10001")
create("replicas as a list", '"replicas":[3]', "replicas", "array; it must be a whole number")
create("a kind that is none", '"kind":"statefulset"', "kind", "deployment or stateful_set")
create("a kind in capitals", '"kind":"DEPLOYMENT"', "kind", "deployment or stateful_set")
create("an unknown provider", '"provider_name":"dokcer"', "provider_name", "dokcer", "provider_not_found")
create("a label of the engine", '"labels":{"ctrlplane.workload":"x"}', "labels.ctrlplane.workload", "reserved")
create("a label with a blank key", '"labels":{"a b":"x"}', "labels.a b", "letters")
create("a label with an empty key", '"labels":{"":"x"}', "labels.", "letters")
create("a label of 257 bytes", '"labels":{"a":"' .. ("x"):rep(257) .. '"}', "labels.a", "257")
create("a label that is a number", '"labels":{"a":1}', "labels.a", "quotes|text")
create("labels as a list", '"labels":["a"]', "labels", "array")
create("65 labels", '"labels":{' .. (function()
  local list = {}
  for i = 1, 65 do list[i] = ('"l%d":"x"'):format(i) end
  return table.concat(list, ",")
end)() .. "}", "labels", "65")
create("a region of 64 bytes", '"region":"' .. ("r"):rep(64) .. '"', "region", "64")
create("a wait that is no duration", '"wait":"soon"', "wait", "soon")
create("a wait below zero", '"wait":-1', "wait", "%-1")

-- ---- the options of a rollout, in create and deploy ----

for _, ask in ipairs { create, deploy } do
  ask("a surge of oops", '"surge":"oops"', "surge", "oops")
  ask("a surge below zero", '"surge":-1', "surge", "%-1")
  ask("a surge of 10%%", '"surge":"10%%"', "surge", "10%%%%")
  ask("unavailable of urg", '"unavailable":"urg"', "unavailable", "urg")
  ask("unavailable as a list", '"unavailable":[1]', "unavailable", "array")
  ask("min_ready of a while", '"min_ready":"a while"', "min_ready", "a while")
  ask("min_ready below zero", '"min_ready":-5', "min_ready", "%-5")
  ask("a deadline of 5 parsecs", '"progress_deadline":"5 parsecs"', "progress_deadline", "5 parsecs")
  ask("on_failure of explode", '"on_failure":"explode"', "on_failure", "rollback, pause or fail")
  ask("max_failures below zero", '"max_failures":-1', "max_failures", "%-1")
  ask("a strategy that there is not", '"strategy":"rollling"', "strategy", "rollling", "not_found")
  ask("a strategy as a number", '"strategy":5', "strategy", "number 5")
  ask("params as text", '"params":"fast"', "params", "")
  ask("a router strategy, which needs a router", '"strategy":"canary"', "strategy", "canary", "not_found")
end
deploy("a parameter that there is not", '"strategy":"rolling","params":{"bach":2}', "params.bach", "did you mean|batch")
deploy("a parameter of the wrong type", '"strategy":"rolling","params":{"pause_between":"soon"}', "params.pause_between",
  "soon")
deploy("a source that does not compile", '"source":"return {"', nil, "strategy.lua:1", "script_error")
deploy("a source that is no strategy", '"source":"return 5"', nil, "returns a table", "script_error")
deploy("a service that there is not", '"services":[{"name":"ap","image":"x"}]', "services[0].name", "'ap'")
deploy("a service twice", '"services":[{"name":"app","image":"x"},{"name":"app","image":"y"}]', "services[1].name",
  "name it once")
deploy("an empty image", '"services":[{"name":"app","image":""}]', "services[0].image", "0 bytes|empty")
deploy("a field that a deploy does not change", '"services":[{"name":"app","ports":[]}]', "services[0].ports", "ports")
deploy("a service without a name", '"services":[{"image":"x"}]', "services[0].name", "missing")
deploy("a check of the wrong port", '"services":[{"name":"app","health_check":{"port":"htpp"}}]',
  "services[0].health_check.port", "htpp")
deploy("env with an unknown reference", '"services":[{"name":"app","env":{"Q":"${port.htpp}"}}]', "services[0].env.Q",
  "port.htpp")
deploy("services as an object", '"services":{"name":"app"}', "services", "list")
deploy("a release and services", '"release_id":"$RELEASE","services":[{"name":"app","image":"x"}]', "release_id", "give one")
deploy("a release that there is not", '"release_id":"rel_01h455vb4pex5vsknk084sn02q"', "release_id", "", "not_found")
deploy("a release of another workload", '"release_id":"$OTHER"', "release_id", "", "not_found")
deploy("a release id that is none", '"release_id":"v1"', "release_id", "'v1' has no prefix")
deploy("supersede of maybe", '"supersede":"maybe"', "supersede", "maybe")
deploy("an unknown field", '"strategi":"rolling"', "strategi", "strategi")
deploy("replicas", '"replicas":5', "replicas", "replicas")

-- ---- services as a whole ----

services("nothing in them", "[]", "services", "0")
services("an object instead of a list", "{}", "services", "list")
services("a word instead of a service", '["app"]', "services[0]", "app")
services("null instead of a service", "[null]", "services[0]", "null")
services("33 of them", "[" .. (function()
  local list = {}
  for i = 1, 33 do list[i] = ('{"name":"s%d","image":"x","role":"%s"}'):format(i, i == 1 and "main" or "sidecar") end
  return table.concat(list, ",")
end)() .. "]", "services", "33")
services("two of a name", '[{"name":"a","image":"x"},{"name":"a","image":"x","role":"sidecar"}]', "services[1].name",
  "unique")
services("two main ones", '[{"name":"a","image":"x"},{"name":"b","image":"x"}]', "services[1].role", "exactly one")
services("no main one", '[{"name":"a","image":"x","role":"sidecar"}]', "services", "main")
services("a cycle", '[{"name":"a","image":"x","depends_on":["b"]},{"name":"b","image":"x","role":"sidecar","depends_on":["a"]}]',
  "services[1].depends_on[0]", "a %-> b %-> a")
services("one that depends on itself", '[{"name":"a","image":"x","depends_on":["a"]}]', "services[0].depends_on[0]",
  "a %-> a")
services("one that depends on nobody", '[{"name":"a","image":"x","depends_on":["bb"]}]', "services[0].depends_on[0]", "'bb'")
services("an init behind the main one", '[{"name":"a","image":"x"},{"name":"b","image":"x","role":"init","depends_on":["a"]}]',
  "services[1].depends_on[0]", "init")
services("one port twice in a replica",
  '[{"name":"a","image":"x","ports":[{"name":"p","container":80}]},{"name":"b","image":"x","role":"sidecar","ports":[{"name":"p","container":80}]}]',
  "services[1].ports[0].container", "80, as is")
services("no name", '[{"image":"x"}]', "services[0].name", "missing")
services("neither image nor command", '[{"name":"a"}]', "services[0].image", "image")
services("an empty image", '[{"name":"a","image":""}]', "services[0].image", "empty")
for _, name in ipairs { "App", "a_b", "-a", "a-", "a.b", "a b", "é", "" } do
  services(("the name '%s'"):format(name), ('[{"name":"%s","image":"x"}]'):format(name), "services[0].name",
    name == "" and "empty" or "DNS label")
end

-- ---- one service ----

service("an unknown field", '"imagee":"x"', "imagee", "imagee")
service("a role that is none", '"role":"sidcar"', "role", "sidcar")
service("a restart that is none", '"restart":"on-failure"', "restart", "on%-failure")
service("a stop signal with SIG", '"stop_signal":"SIGTERM"', "stop_signal", "SIGTERM")
service("a stop timeout of a day and an hour", '"stop_timeout":"25h"', "stop_timeout", "90000")
service("a stop timeout of words", '"stop_timeout":"ten seconds"', "stop_timeout", "ten seconds")
service("a user with a newline", '"user":"a\\nb"', "user", "0x0a")
service("env as a list", '"env":["A=1"]', "env", "array")
service("a number in env", '"env":{"PORT":8080}', "env.PORT", "8080")
service("true in env", '"env":{"A":true}', "env.A", "true")
service("null in env", '"env":{"A":null}', "env.A", "null")
service("a name with = in env", '"env":{"A=B":"x"}', "env.A=B", "environment variable")
service("an empty name in env", '"env":{"":"x"}', "env.", "environment variable")
service("a name of the engine in env", '"env":{"CTRLPLANE_INSTANCE":"x"}', "env.CTRLPLANE_INSTANCE", "reserved")
service("33 KiB in env", '"env":{"A":"' .. ("x"):rep(33 * 1024) .. '"}', "env.A", "33792")
service("an unknown reference in env", '"env":{"Q":"${port.htpp}"},"ports":[{"name":"http"}]', "env.Q", "port.htpp")
service("an unknown reference in command", '"command":["x","${instance.ip}"]', "command[1]", "instance.ip")
service("an unknown reference in args", '"args":["${workload.}"]', "args[0]", "workload")
service("a command as one text", '"command":"sleep 9"', "command", "list of texts")
service("a number in args", '"args":["--port",8080]', "args[1]", "8080")
service("a command without a program", '"command":[""]', "command[0]", "program")
service("cpu below zero", '"resources":{"cpu_millis":-1}', "resources.cpu_millis", "%-1")
service("memory as text", '"resources":{"memory_mb":"512Mi"}', "resources.memory_mb", "512Mi")
service("an unknown resource", '"resources":{"cpu":1}', "resources.cpu", "unknown field 'cpu'")
service("resources as a number", '"resources":5', "resources", "5")
service("a port without a name", '"ports":[{"container":80}]', "ports[0].name", "missing")
service("a port with a number as its name", '"ports":[{"name":"80"}]', "ports[0].name", "letter")
service("a port called HTTP", '"ports":[{"name":"HTTP"}]', "ports[0].name", "DNS label")
service("port 0", '"ports":[{"name":"a","container":0}]', "ports[0].container", "0; it must be 1..65535")
service("port 65536", '"ports":[{"name":"a","container":65536}]', "ports[0].container", "65536")
service("port 22:22", '"ports":[{"name":"a","container":"22:22"}]', "ports[0].container", "22:22")
service("port -1 on the host", '"ports":[{"name":"a","host":-1}]', "ports[0].host", "%-1")
service("a port of http", '"ports":[{"name":"a","protocol":"http"}]', "ports[0].protocol", "tcp or udp")
service("two ports of a name", '"ports":[{"name":"a"},{"name":"a"}]', "ports[1].name", "unique")
service("ports as an object", '"ports":{"http":80}', "ports", "list")
service("65 ports", '"ports":[' .. (function()
  local list = {}
  for i = 1, 65 do list[i] = ('{"name":"p%d"}'):format(i) end
  return table.concat(list, ",")
end)() .. "]", "ports", "65")
service("a volume without a place", '"volumes":[{"name":"a"}]', "volumes[0].mount_path", "missing")
service("a volume at ..", '"volumes":[{"name":"a","mount_path":"../x"}]', "volumes[0].mount_path", "%.%.")
service("a volume at /", '"volumes":[{"name":"a","mount_path":"/"}]', "volumes[0].mount_path", "inside")
service("a volume of another type", '"volumes":[{"name":"a","mount_path":"/a","type":"tmpfs"}]', "volumes[0].type", "tmpfs")
service("a volume below zero", '"volumes":[{"name":"a","mount_path":"/a","size_mb":-1}]', "volumes[0].size_mb", "%-1")
service("two volumes of a name", '"volumes":[{"name":"a","mount_path":"/a"},{"name":"a","mount_path":"/b"}]',
  "volumes[1].name", "unique")
service("two volumes at a place", '"volumes":[{"name":"a","mount_path":"/a"},{"name":"b","mount_path":"/a"}]',
  "volumes[1].mount_path", "as is")
service("a file outside", '"config_files":[{"name":"a","path":"../../etc/passwd"}]', "config_files[0].path", "%.%.")
service("a file without a path", '"config_files":[{"name":"a"}]', "config_files[0].path", "missing")
service("a file of mode 0888", '"config_files":[{"name":"a","path":"a","mode":"0888"}]', "config_files[0].mode", "octal")
service("a file of mode 420", '"config_files":[{"name":"a","path":"a","mode":420}]', "config_files[0].mode", "420")
service("two files at a path", '"config_files":[{"name":"a","path":"a"},{"name":"b","path":"a"}]', "config_files[1].path",
  "as is")
service("an unknown reference in a file", '"config_files":[{"name":"a","path":"a","content":"${port.x}"}]',
  "config_files[0].content", "port.x")
service("a check without a port", '"health_check":{}', "health_check.port", "no port")
service("a check of an unknown port", '"health_check":{"port":"htpp"},"ports":[{"name":"http"}]', "health_check.port", "htpp")
service("a check of port 70000", '"health_check":{"port":70000}', "health_check.port", "70000")
service("a check of a path without /", '"health_check":{"port":80,"path":"healthz"}', "health_check.path", "start with /")
service("a check by grpc", '"health_check":{"port":80,"type":"grpc"}', "health_check.type", "grpc", "unsupported")
service("a check by https", '"health_check":{"port":80,"type":"https"}', "health_check.type", "https")
service("a check by command without one", '"health_check":{"type":"command"}', "health_check.command", "needs one")
service("a check by http with a command", '"health_check":{"port":80,"command":["true"]}', "health_check.command", "type")
service("a check every 0 s", '"health_check":{"port":80,"interval":0}', "health_check.interval", "0")
service("a check that takes an hour", '"health_check":{"port":80,"timeout":"1h"}', "health_check.timeout", "3600")
service("a check with no retries", '"health_check":{"port":80,"retries":0}', "health_check.retries", "0")
service("an unknown field in a check", '"health_check":{"prt":80}', "health_check.prt", "prt")
service("a check as text", '"health_check":"/healthz"', "health_check", "healthz")
service("secrets, which are not kept yet", '"secrets":[{"key":"a","env":"A"}]', "secrets", "secrets", "unsupported")
service("an annotation of the engine", '"annotations":{"ctrlplane.x":"y"}', "annotations.ctrlplane.x", "reserved")
add("a fixed host port for three replicas", "workloads.create", nil,
  '{"name":"new","replicas":3,"services":[{"name":"app","image":"app","ports":[{"name":"a","host":8080}]}]}', "invalid",
  "replicas", "fixed host port")
add("a fixed host port with surge", "workloads.create", nil,
  '{"name":"new","surge":1,"services":[{"name":"app","image":"app","ports":[{"name":"a","host":8080}]}]}', "invalid",
  "surge", "fixed host port")
add("a stateful set with surge", "workloads.create", nil,
  '{"name":"new","kind":"stateful_set","surge":1,"services":[{"name":"app","image":"app"}]}', "unsupported", "surge",
  "stateful_set")
add("a stateful set with two unavailable", "workloads.create", nil,
  '{"name":"new","kind":"stateful_set","unavailable":2,"services":[{"name":"app","image":"app"}]}', "unsupported",
  "unavailable", "stateful_set")

-- ---- updates ----

local function update(name, fields, field, message, code)
  add("an update with " .. name, "workloads.update", "web", fields, code or "invalid", field, message)
end
create("a source and no such thing", '"sourc":"x"', "sourc", "did you mean 'source'|unknown")
update("a kind, which is immutable", '{"kind":"stateful_set"}', "kind", "kind")
update("replicas, which scale changes", '{"replicas":5}', "replicas", "replicas")
update("an empty name", '{"name":""}', "name", "empty")
update("a name of 64 bytes", '{"name":"' .. ("n"):rep(64) .. '"}', "name", "64")
update("no services", '{"services":[]}', "services", "0")
update("a bad service", '{"services":[{"name":"app","image":"x","restart":"no"}]}', "services[0].restart", "no")
update("two main services", '{"services":[{"name":"a","image":"x"},{"name":"b","image":"x"}]}', "services[1].role", "main")
update("a label of the engine", '{"labels":{"ctrlplane.tenant":"x"}}', "labels.ctrlplane.tenant", "reserved")
update("an unknown field", '{"label":{}}', "label", "label")

-- ---- scale, restart, pause, resume, delete, rollback ----

local function scale(name, fields, field, message)
  add("a scale " .. name, "workloads.scale", "web", fields, "invalid", field, message)
end
scale("to nothing at all", "{}", "replicas", "missing")
scale("below zero", '{"replicas":-1}', "replicas", "%-1; it must be 0..10000")
scale("above the limit", '{"replicas":10001}', "replicas", "10001")
scale("to a text", '{"replicas":"5"}', "replicas", "'5'")
scale("to a half", '{"replicas":2.5}', "replicas", "2.5")
scale("to null", '{"replicas":null}', "replicas", "null")
scale("to 2^53 + 1", '{"replicas":9007199254740993}', "replicas", "")
scale("with an unknown field", '{"replcas":5}', "replcas", "did you mean|replicas")
add("a restart of none at a time", "workloads.restart", "web", '{"parallel":0}', "invalid", "parallel", "0")
add("a restart of many at a time", "workloads.restart", "web", '{"parallel":"all"}', "invalid", "parallel", "all")
add("a pause with a reason", "workloads.pause", "web", '{"reason":"x"}', "invalid", "reason", "reason")
add("a delete with volumes of maybe", "workloads.delete", "web", '{"volumes":"maybe"}', "invalid", "volumes",
  "true or false")
add("a rollback without anything to go back to", "workloads.rollback", "web", "{}", "invalid_state", nil, "")
add("a rollback to a release that there is not", "workloads.rollback", "web",
  '{"release_id":"rel_01h455vb4pex5vsknk084sn02q"}', "not_found", "release_id", "")
add("a rollback with services", "workloads.rollback", "web", '{"services":[]}', "invalid", "services", "services")
add("a deploy while paused", "workloads.deploy", "idle", '{"services":[{"name":"app","image":"x"}]}', "invalid_state",
  nil, "paused")
add("a restart while paused", "workloads.restart", "idle", "{}", "invalid_state", nil, "paused")

-- ---- ids ----

for _, operation in ipairs { "get", "update", "scale", "pause", "resume", "restart", "deploy", "rollback",
  "delete", "list_instances", "list_releases", "list_deployments" } do
  local args = operation == "scale" and '{"replicas":1}' or "{}"
  add(operation .. " of a workload that there is not", "workloads." .. operation, "wkl_01h455vb4pex5vsknk084sn02q", args,
    "not_found", nil, "wkl_01h455vb4pex5vsknk084sn02q")
end
for _, operation in ipairs { "update", "scale", "pause", "resume", "restart", "deploy", "rollback" } do
  local args = operation == "scale" and '{"replicas":1}' or "{}"
  add(operation .. " of a workload that was deleted", "workloads." .. operation, "$GONE", args, "invalid_state", nil,
    "destroyed")
end
for _, row in ipairs {
  { "a slug that there is not", "wbe", "not_found", "wbe" },
  { "an id with a path", "../web", "not_found", "../web" },
  { "an id with a line", "web\nweb", "not_found", "web" },
  { "an id of 5,000 bytes", ("w"):rep(5000), "not_found", "www" },
  { "an id in capitals", "WKL_01H455VB4PEX5VSKNK084SN02Q", "invalid", "'WKL'; it must be 'wkl'" },
  { "an id of an instance", "$INSTANCE", "invalid", "'inst'; it must be 'wkl'" },
  { "an id that overflows", "wkl_81h455vb4pex5vsknk084sn02q", "invalid", "overflows" },
  { "an id that is too short", "wkl_01h455vb4pex5vsknk084sn02", "invalid", "25 characters" },
  { "an id that is too long", "wkl_01h455vb4pex5vsknk084sn02qq", "invalid", "27 characters" },
  { "an id with a capital", "wkl_01h455vb4pex5vsknk084sn02Q", "invalid", "capital 'Q'" },
  { "an id with letters that are none", "wkl_01h455vb4pex5vsknk084sn0il", "invalid", "alphabet" },
} do
  add("get of " .. row[1], "workloads.get", row[2], "{}", row[3], nil, row[4])
end
add("get of an empty id", "workloads.get", "", "{}", "invalid", "id", "needs an id")
add("get_by_slug of an id", "workloads.get_by_slug", "$WEB", "{}", "invalid", "id", "not a slug")
add("get_by_slug of a slug that there is not", "workloads.get_by_slug", "wbe", "{}", "not_found", nil, "wbe")
for _, row in ipairs { { "instances.get", "inst" }, { "releases.get", "rel" }, { "deployments.get", "dep" },
  { "deployments.pause", "dep" }, { "deployments.resume", "dep" }, { "deployments.abort", "dep" },
  { "deployments.cancel", "dep" }, { "deployments.why", "dep" } } do
  local id = row[2] .. "_01h455vb4pex5vsknk084sn02q"
  add(row[1] .. " of one that there is not", row[1], id, "{}", "not_found", nil, id)
  add(row[1] .. " of a workload's id", row[1], "$WEB", "{}", "invalid", nil, ("'wkl'; it must be '%s'"):format(row[2]))
end
for _, verb in ipairs { "pause", "resume", "abort", "cancel" } do
  add(verb .. " of a deployment that is over", "deployments." .. verb, "$DEPLOYMENT", "{}", "invalid_state", nil,
    "succeeded")
end

-- ---- lists ----

for _, row in ipairs {
  { "limit 0", '{"limit":0}', "limit", "0" },
  { "limit 501", '{"limit":501}', "limit", "501" },
  { "a limit in words", '{"limit":"ten"}', "limit", "ten" },
  { "a cursor that is none", '{"cursor":"x"}', "cursor", "cursor" },
  { "a cursor of another kind", '{"cursor":"$INSTANCE"}', "cursor", "cursor" },
  { "a state that is none", '{"state":"runing"}', "state", "runing" },
  { "an unknown filter", '{"regoin":"x"}', "regoin", "regoin" },
} do
  add("a list with " .. row[1], "workloads.list", nil, row[2], "invalid", row[3], row[4])
end
add("releases with a cursor that is none", "workloads.list_releases", "web", '{"cursor":"%%%"}', "invalid", "cursor", "cursor")
add("deployments with limit -1", "workloads.list_deployments", "web", '{"limit":-1}', "invalid", "limit", "%-1")
add("events with a cursor that is none", "events.list", nil, '{"cursor":"-5"}', "invalid", "cursor", "cursor")
add("events with types as text", "events.list", nil, '{"types":"deploy.*"}', "invalid", "types", "list of texts")
add("events of a workload that there is not", "events.list", nil, '{"workload":"wbe"}', "not_found", nil, "wbe")

return M
