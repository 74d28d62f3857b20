# What is chosen for the plan that inventory.json is of.
api_cors_origins      = ["https://tools.example.com"]
api_public            = true
dashboard_members     = ["group:ops@example.com"]
environment           = "dev"
invokers              = ["group:ops@example.com"]
labels                = { team = "platform" }
notification_channels = ["projects/my-project/notificationChannels/1"]
region                = "europe-west1"
runtime               = "python314"
secret_versions       = { AUTOPILOT_API_KEY = "3", NIGHTLY_SYNC_TOKEN = "1", SHARED_TOKEN = "7" }

overrides = {
  nightly_sync = { environment = { NIGHTLY_SYNC_SOURCE = "https://example.com" } }
  on_request   = { invokers = ["user:a@example.com"], memory = "1Gi" }
}
