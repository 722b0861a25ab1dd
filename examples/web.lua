-- Three replicas of the example server. `ctrlplane up examples/web.lua`
return {
  name = "web",
  replicas = 3,
  services = {
    {
      name = "app",
      image = "../build/hello", -- an executable, beside this file
      env = { VERSION = "v1", INDEX = "${instance.index}" },
      ports = { { name = "http" } }, -- a free one for each replica, in $PORT
      health_check = { path = "/healthz", interval = "1s" },
    },
  },
}
