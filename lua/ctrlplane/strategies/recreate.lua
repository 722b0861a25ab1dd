--- Stops the old release before the new one starts: for what cannot run twice at a time.
return {
  name = "recreate",
  summary = "All old replicas go, then all new ones come; there is a gap without any.",
  guards = { unavailable = "100%", surge = 0 },
  run = function(rollout)
    rollout:phase "retiring"
    rollout:retire()
    rollout:phase "launching"
    rollout:launch "100%"
  end,
}
