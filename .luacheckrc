std = "luajit"
max_line_length = 120
exclude_files = { "build*/**", "lua/ctrlplane/types/**" } -- types: stubs for editors, made by a program
self = false                                              -- a method need not use its self
files["spec"] = {
  std = "+busted",
  ignore = { "631" }, -- long lines: expected texts stand on one line
}
files["spec/support"] = { std = "+busted" }
files["lua/ctrlplane/prelude.lua"] = { allow_defined_top = true } -- makes the globals of the sandbox
