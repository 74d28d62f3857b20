# Alerts reach somebody, and say what to do.

mock_provider "google" {
  source = "./tests/google"
}

variables {
  project_id            = "my-project"
  notification_channels = ["projects/my-project/notificationChannels/1"]
  overrides             = { nightly_sync = { environment = { NIGHTLY_SYNC_SOURCE = "https://example.com" } } }
  secret_versions       = { NIGHTLY_SYNC_TOKEN = "1", SHARED_TOKEN = "7" }
}

run "whoever_is_named_is_told" {
  command = plan

  assert {
    condition = alltrue([
      for policy in concat(values(google_monitoring_alert_policy.run_failed), values(google_monitoring_alert_policy.run_not_saved), values(google_monitoring_alert_policy.no_success)) :
      policy.notification_channels == tolist(["projects/my-project/notificationChannels/1"]) && policy.enabled != false
    ])
    error_message = "every alert is sent to the channels"
  }

  assert {
    condition     = keys(google_monitoring_alert_policy.run_failed) == ["nightly_sync", "on_request"] && keys(google_monitoring_alert_policy.run_not_saved) == ["nightly_sync", "on_request"]
    error_message = "a failed and an unsaved run of each workflow are told"
  }

  assert {
    condition     = keys(google_monitoring_alert_policy.no_success) == ["nightly_sync"]
    error_message = "that nothing succeeds is told where the manifest asks for it"
  }

  assert {
    condition     = strcontains(google_monitoring_alert_policy.no_success["nightly_sync"].conditions[0].condition_prometheus_query_language[0].query, "user_autopilot_prod_runs{monitored_resource=\"cloud_run_revision\",workflow=\"nightly_sync\",status=\"success\"}[93600s]")
    error_message = "successes are counted for as long as the manifest says"
  }
}

run "an_alert_says_what_to_do" {
  command = apply

  assert {
    condition = alltrue([
      for name, policy in merge(google_monitoring_alert_policy.run_failed, google_monitoring_alert_policy.run_not_saved) :
      strcontains(policy.documentation[0].content, "**${name}**")
      && strcontains(policy.documentation[0].content, "https://mocked-uc.a.run.app/runs/$${log.extracted_label.run_id}")
      && strcontains(policy.documentation[0].content, "docs/deploying.md#")
    ])
    error_message = "the workflow, the command that shows the run, the section of the runbook"
  }

  assert {
    condition     = strcontains(google_monitoring_alert_policy.no_success["nightly_sync"].documentation[0].content, "https://mocked-uc.a.run.app\n")
    error_message = "the command that shows the last run"
  }
}

run "alerts_without_a_channel_warn" {
  command = plan

  variables {
    notification_channels = []
  }

  expect_failures = [check.alerts_reach_somebody]
}
