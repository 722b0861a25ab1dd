--- The first deployment of a workload, and every one while no release of it was ever good: no steps, no waiting.
return {
  name = "initial",
  summary = "All replicas at once; there is nothing older to protect.",
  run = function(rollout)
    rollout:phase "launching"
    rollout:launch "100%"
  end,
}
