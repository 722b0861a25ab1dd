-- A strategy: half of the replicas, a bake, then the rest.
-- `ctrlplane deploy web --set app.env.VERSION=v2 --strategy examples/half.lua`
return {
  name = "half",
  summary = "Half of the replicas, a bake, then the rest.",
  params = { bake = { type = "duration", default = "2s", doc = "time to watch the first half" } },
  run = function(rollout, p)
    rollout:replace "50%"
    rollout:bake(p.bake)
    rollout:replace "100%"
  end,
}
