# What is counted of the runs, and who is told when they go wrong. The events are those of the log: see
# "Events" in docs/deploying.md.

locals {
  service_logs = {
    for name, full in local.function_names : name => "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${full}\""
  }
  all_service_logs = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=~\"^(${join("|", values(local.function_names))})$\""

  # A call that a person's own credentials allow, of what follows the address.
  get = { for name in keys(var.workflows) : name => "curl -H \"Authorization: Bearer $(gcloud auth print-identity-token)\" ${local.urls[name]}" }
}

resource "google_logging_metric" "runs" {
  project     = var.project_id
  name        = "${local.metric_prefix}_runs"
  description = "Runs that ended, by workflow and status."
  filter      = "${local.all_service_logs} AND jsonPayload.message=\"workflow_run_completed\""

  label_extractors = {
    status   = "EXTRACT(jsonPayload.status)"
    workflow = "EXTRACT(jsonPayload.workflow)"
  }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"

    labels {
      key         = "status"
      value_type  = "STRING"
      description = "success, failed, skipped or cancelled"
    }

    labels {
      key         = "workflow"
      value_type  = "STRING"
      description = "The name in the manifest."
    }
  }

  depends_on = [google_project_service.enabled["logging.googleapis.com"]]
}

resource "google_logging_metric" "unsaved_runs" {
  project     = var.project_id
  name        = "${local.metric_prefix}_unsaved_runs"
  description = "Endings of runs that could not be written to the run log, by workflow."
  filter      = "${local.all_service_logs} AND jsonPayload.message=\"run_log_persist_failed\""

  label_extractors = {
    workflow = "EXTRACT(jsonPayload.workflow)"
  }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"

    labels {
      key         = "workflow"
      value_type  = "STRING"
      description = "The name in the manifest."
    }
  }

  depends_on = [google_project_service.enabled["logging.googleapis.com"]]
}

# The log itself and not its metric: only a line of the log says which run it was.
resource "google_monitoring_alert_policy" "run_failed" {
  for_each = var.workflows

  project               = var.project_id
  display_name          = "${each.key}: a run failed (${local.name})"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = var.notification_channels
  user_labels           = { environment = var.environment, workflow = each.key }

  conditions {
    display_name = "workflow_run_completed at ERROR"

    condition_matched_log {
      filter           = "${local.service_logs[each.key]} AND jsonPayload.message=\"workflow_run_completed\" AND severity=ERROR"
      label_extractors = { run_id = "EXTRACT(jsonPayload.run_id)" }
    }
  }

  alert_strategy {
    auto_close = "1800s"

    notification_rate_limit {
      period = "300s"
    }
  }

  documentation {
    subject = "${each.key}: a run failed (${local.name})"
    content = <<-EOT
      A run of workflow **${each.key}** ended as failed: `$${log.extracted_label.run_id}`.

      The run, with its error:

          ${local.get[each.key]}/runs/$${log.extracted_label.run_id}

      What to do: docs/deploying.md#a-run-failed in the repository of the bundle.
    EOT
  }

  depends_on = [
    google_cloudfunctions2_function.workflow,
    google_project_service.enabled["monitoring.googleapis.com"],
  ]
}

resource "google_monitoring_alert_policy" "run_not_saved" {
  for_each = var.workflows

  project               = var.project_id
  display_name          = "${each.key}: a run could not be saved (${local.name})"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = var.notification_channels
  user_labels           = { environment = var.environment, workflow = each.key }

  conditions {
    display_name = "run_log_persist_failed"

    condition_matched_log {
      filter           = "${local.service_logs[each.key]} AND jsonPayload.message=\"run_log_persist_failed\""
      label_extractors = { run_id = "EXTRACT(jsonPayload.run_id)" }
    }
  }

  alert_strategy {
    auto_close = "1800s"

    notification_rate_limit {
      period = "3600s"
    }
  }

  documentation {
    subject = "${each.key}: a run could not be saved (${local.name})"
    content = <<-EOT
      The ending of run `$${log.extracted_label.run_id}` of workflow **${each.key}** could not be written to the run log.
      The instance that ran it tries again at its next invocation.

      Whether the run log has it by now:

          ${local.get[each.key]}/runs/$${log.extracted_label.run_id}

      What to do: docs/deploying.md#a-run-could-not-be-saved in the repository of the bundle.
    EOT
  }

  depends_on = [
    google_cloudfunctions2_function.workflow,
    google_project_service.enabled["monitoring.googleapis.com"],
  ]
}

# What no failure shows: a schedule that does not tick, a function that is not reached. A metric-absence condition ends
# at 23.5 hours and never fires for a workflow that has not succeeded once; PromQL has neither limit.
resource "google_monitoring_alert_policy" "no_success" {
  for_each = { for name, workflow in var.workflows : name => workflow.alert_without_success_seconds if workflow.alert_without_success_seconds != null }

  project               = var.project_id
  display_name          = "${each.key}: no successful run for too long (${local.name})"
  combiner              = "OR"
  severity              = "ERROR"
  enabled               = !local.overrides[each.key].paused
  notification_channels = var.notification_channels
  user_labels           = { environment = var.environment, workflow = each.key }

  conditions {
    display_name = "no success in ${each.value} s"

    condition_prometheus_query_language {
      # Half a run: an increase is extrapolated, and one run may count as a little less.
      query               = "(sum(increase(logging_googleapis_com:user_${google_logging_metric.runs.name}{monitored_resource=\"cloud_run_revision\",workflow=\"${each.key}\",status=\"success\"}[${each.value}s])) or vector(0)) < 0.5"
      duration            = "0s"
      evaluation_interval = "60s"

      # The metric appears with the first run.
      disable_metric_validation = true
    }
  }

  documentation {
    subject = "${each.key}: no successful run for too long (${local.name})"
    content = <<-EOT
      Workflow **${each.key}** has had no successful run for ${each.value} seconds.

      Its last run and totals:

          ${local.get[each.key]}

      What to do: docs/deploying.md#no-successful-run-for-too-long in the repository of the bundle.
    EOT
  }

  depends_on = [google_project_service.enabled["monitoring.googleapis.com"]]
}

check "alerts_reach_somebody" {
  assert {
    condition     = length(var.notification_channels) > 0
    error_message = "Alerts are sent to nobody: notification_channels is empty. They are only seen in the console; see \"Alerts\" in README.md."
  }
}
