# Nothing is public, and nobody may do more than they need.

mock_provider "google" {
  source = "./tests/google"
}

variables {
  project_id            = "my-project"
  notification_channels = ["projects/my-project/notificationChannels/1"]
  overrides             = { nightly_sync = { environment = { NIGHTLY_SYNC_SOURCE = "https://example.com" } } }
  secret_versions       = { NIGHTLY_SYNC_TOKEN = "1", SHARED_TOKEN = "7" }
}

run "nothing_is_public" {
  command = apply

  variables {
    dashboard_members = ["group:ops@example.com"]
    invokers          = ["group:ops@example.com"]
    overrides = {
      nightly_sync = { environment = { NIGHTLY_SYNC_SOURCE = "https://example.com" } }
      on_request   = { invokers = ["user:a@example.com"] }
    }
  }

  assert {
    condition = alltrue([
      for member in concat(
        [for binding in google_cloud_run_v2_service_iam_member.api_calls_workflow : binding.member],
        [for binding in google_cloud_run_v2_service_iam_member.api_public : binding.member],
        [for binding in google_cloud_run_v2_service_iam_member.dashboard_member : binding.member],
        [for binding in google_cloud_run_v2_service_iam_member.invoker : binding.member],
        [for binding in google_cloud_run_v2_service_iam_member.scheduler : binding.member],
      ) : !startswith(member, "all")
    ])
    error_message = "functions are called by those who are named"
  }

  assert {
    condition     = google_storage_bucket.sources.public_access_prevention == "enforced" && google_storage_bucket.sources.uniform_bucket_level_access
    error_message = "sources are nobody else's"
  }

  assert {
    condition     = keys(google_cloud_run_v2_service_iam_member.scheduler) == ["nightly_sync"]
    error_message = "the scheduler calls what is scheduled"
  }

  assert {
    condition     = keys(google_cloud_run_v2_service_iam_member.invoker) == ["nightly_sync/group:ops@example.com", "on_request/group:ops@example.com", "on_request/user:a@example.com"]
    error_message = "whoever is listed calls what they are listed for"
  }
}

run "each_workflow_is_somebody_else" {
  command = plan

  assert {
    condition     = length(distinct([for account in google_service_account.workflow : account.account_id])) == 2
    error_message = "each has its own account"
  }

  assert {
    condition = alltrue([
      for binding in google_project_iam_member.workflow_uses_database :
      binding.role == "roles/datastore.user" && binding.condition[0].expression == "resource.name == \"projects/my-project/databases/autopilot-prod\""
    ])
    error_message = "a workflow uses this database and no other"
  }
}
