locals {
  schedules = merge([
    for name, workflow in var.workflows : {
      for schedule_name, schedule in workflow.schedules :
      "${name}/${schedule_name}" => merge(schedule, { workflow = name, name = schedule_name })
    }
  ]...)
}

resource "google_service_account" "scheduler" {
  project      = var.project_id
  account_id   = "${local.name}-scheduler"
  display_name = "Calls the scheduled functions of ${local.name}"

  depends_on = [google_project_service.enabled["iam.googleapis.com"]]
}

resource "google_cloud_scheduler_job" "schedule" {
  for_each = local.schedules

  project     = var.project_id
  region      = var.region
  name        = "${local.function_names[each.value.workflow]}-${each.value.name}"
  description = "Schedule ${each.value.name} of workflow ${each.value.workflow}."
  schedule    = each.value.cron
  time_zone   = each.value.time_zone
  paused      = local.overrides[each.value.workflow].paused

  # The function answers within its timeout; what takes longer has failed, and is delivered again.
  attempt_deadline = "${each.value.deadline_seconds}s"

  # A delivery that fails comes again with the same job name and schedule time, which makes it the same run.
  retry_config {
    retry_count          = each.value.retries
    min_backoff_duration = "10s"
    max_backoff_duration = "300s"
    max_doublings        = 5
  }

  http_target {
    http_method = "POST"
    uri         = google_cloudfunctions2_function.workflow[each.value.workflow].service_config[0].uri
    body        = base64encode(each.value.body)

    headers = {
      "Autopilot-Schedule" = each.value.name
      "Content-Type"       = "application/json"
    }

    oidc_token {
      service_account_email = google_service_account.scheduler.email
      audience              = google_cloudfunctions2_function.workflow[each.value.workflow].service_config[0].uri
    }
  }

  # A tick before the role would be refused.
  depends_on = [
    google_cloud_run_v2_service_iam_member.scheduler,
    google_project_service.enabled["cloudscheduler.googleapis.com"],
  ]
}
