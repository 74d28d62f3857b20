# What people rely on: schedules tick, the history is protected, alerts reach somebody.

project_id  = "my-project"
environment = "prod"
region      = "europe-west1"

dashboard_members     = ["group:operations@example.com"]
invokers              = ["group:operations@example.com"]
notification_channels = ["projects/my-project/notificationChannels/1234567890"]

# secret_versions = { FEED_DIGEST_WEBHOOK_URL = "1" }
