--- The time of one pass of decide_workload at 10,000 instances (aim: under 2 ms), beside a floor: the same rows sorted
--- once by qsort.
local testing = assert(require("ctrlplane.core").testing, "this needs a test build (CP_FAILPOINTS)")

local INSTANCES, REPEATS, AIM = 10000, 30, 0.002
local SCENES = {
  { "steady", "nothing to do" },
  { "rolling", "half new, half old: 2,500 to be stopped" },
  { "down", "scaled to half: 5,000 to be stopped" },
  { "empty", "10,000 to be made" },
}

print(("decide_workload at %d instances, best of %d"):format(INSTANCES, REPEATS))
print(("%-10s %-42s %10s %10s %8s  %s"):format("scene", "", "ms", "qsort ms", "ratio", "aim 2 ms"))
local _, floor = testing.model.bench(INSTANCES, "rolling", REPEATS)
for _, scene in ipairs(SCENES) do
  local took = testing.model.bench(INSTANCES, scene[1], REPEATS)
  print(("%-10s %-42s %10.3f %10.3f %8.2f  %s"):format(scene[1], scene[2], took * 1000, floor * 1000, took / floor,
    took < AIM and "met" or "missed"))
end
