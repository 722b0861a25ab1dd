--- Replaces replicas step by step within the guards: all in one go, or a batch at a time with a pause between.
return {
  name = "rolling",
  summary = "New replicas replace old ones step by step, within the deployment's guards.",
  params = {
    batch = { type = "share", min = 1, doc = "replicas to replace before the next pause: a count or a percentage" },
    pause_between = { type = "duration", default = "0s", doc = "how long to wait between two batches" },
  },
  run = function(rollout, p)
    if not p.batch then
      rollout:phase "replacing"
      rollout:replace "100%"
      return
    end
    local percent = type(p.batch) == "string" and tonumber(p.batch:match "^(.*)%%$")
    local taken, at = 0, nil
    repeat
      if at and p.pause_between > 0 then
        rollout:phase "pausing between batches"
        rollout:sleep(p.pause_between)
      end
      rollout:phase "replacing"
      taken = taken + (percent or p.batch)
      at = rollout:replace(percent and math.min(taken, 100) .. "%" or taken) -- what was reached, also on replay
    until at.new >= at.replicas
  end,
}
