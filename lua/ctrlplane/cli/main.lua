--- What the `ctrlplane` program runs: the command line, on the program's own arguments. Returns the exit code.
local argv = { ... }
if #argv == 0 and arg then argv = { unpack(arg) } end
return require("ctrlplane.cli.app").run(argv)
