# A place to try things: nothing runs by itself, and a destroy leaves nothing behind.

project_id  = "my-project"
environment = "dev"
region      = "europe-west1"

deletion_protection = false

overrides = {
  feed_digest  = { paused = true }
  uptime_check = { paused = true, max_instances = 1 }
}
