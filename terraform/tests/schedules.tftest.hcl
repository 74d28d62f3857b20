# Schedules follow the manifest.

mock_provider "google" {
  source = "./tests/google"
}

variables {
  project_id            = "my-project"
  notification_channels = ["projects/my-project/notificationChannels/1"]
  overrides             = { nightly_sync = { environment = { NIGHTLY_SYNC_SOURCE = "https://example.com" } } }
  secret_versions       = { NIGHTLY_SYNC_TOKEN = "1", SHARED_TOKEN = "7" }
}

run "a_job_for_each_schedule_and_none_without" {
  command = plan

  assert {
    condition     = keys(google_cloud_scheduler_job.schedule) == ["nightly_sync/hourly", "nightly_sync/nightly"]
    error_message = "a workflow without a schedule has no job"
  }

  assert {
    condition     = google_cloud_scheduler_job.schedule["nightly_sync/hourly"].schedule == "0 * * * *" && google_cloud_scheduler_job.schedule["nightly_sync/hourly"].time_zone == "Europe/Vienna"
    error_message = "cron and time zone are the schedule's"
  }

  assert {
    condition     = google_cloud_scheduler_job.schedule["nightly_sync/hourly"].attempt_deadline == "1200s"
    error_message = "the deadline follows the function's timeout"
  }

  assert {
    condition     = [for job in google_cloud_scheduler_job.schedule : job.retry_config[0].retry_count] == [2, 5]
    error_message = "a failed delivery comes again as often as the schedule says"
  }

  assert {
    condition     = !anytrue([for job in google_cloud_scheduler_job.schedule : job.paused])
    error_message = "schedules tick unless they are paused"
  }
}

run "a_job_calls_its_function_as_the_scheduler" {
  command = apply

  assert {
    condition     = alltrue([for job in google_cloud_scheduler_job.schedule : job.http_target[0].uri == "https://mocked-uc.a.run.app"])
    error_message = "a job calls the function"
  }

  assert {
    condition     = alltrue([for job in google_cloud_scheduler_job.schedule : job.http_target[0].oidc_token[0].audience == "https://mocked-uc.a.run.app"])
    error_message = "its token is for the function"
  }

  assert {
    condition     = alltrue([for job in google_cloud_scheduler_job.schedule : job.http_target[0].oidc_token[0].service_account_email == google_service_account.scheduler.email])
    error_message = "its token is the scheduler's"
  }

  assert {
    condition     = base64decode(google_cloud_scheduler_job.schedule["nightly_sync/hourly"].http_target[0].body) == "{\"name\":\"it's\"}"
    error_message = "the body is the schedule's payload"
  }

  assert {
    condition = google_cloud_scheduler_job.schedule["nightly_sync/hourly"].http_target[0].headers == tomap({
      "Autopilot-Schedule" = "hourly"
      "Content-Type"       = "application/json"
    })
    error_message = "the function is told which schedule it is"
  }

  assert {
    condition     = output.invoke_commands["nightly_sync"] == "curl -X POST https://mocked-uc.a.run.app -H \"Authorization: Bearer $(gcloud auth print-identity-token)\" -H 'Content-Type: application/json' -d '{\"name\":\"it'\\''s\"}'"
    error_message = "a quote in a payload is one in the shell"
  }
}
