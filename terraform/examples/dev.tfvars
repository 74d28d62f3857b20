# A place to try things: a destroy leaves nothing behind, and a schedule can be paused.

project_id  = "my-project"
environment = "dev"
region      = "europe-west1"

deletion_protection = false

# overrides = { uptime_check = { paused = true, max_instances = 1 } }
