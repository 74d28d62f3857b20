# Functions follow the manifest.

mock_provider "google" {
  source = "./tests/google"
}

variables {
  project_id            = "my-project"
  notification_channels = ["projects/my-project/notificationChannels/1"]
  overrides             = { nightly_sync = { environment = { NIGHTLY_SYNC_SOURCE = "https://example.com" } } }
  secret_versions       = { NIGHTLY_SYNC_TOKEN = "1", SHARED_TOKEN = "7" }
}

run "functions_follow_the_manifest" {
  command = plan

  assert {
    condition     = keys(google_cloudfunctions2_function.workflow) == ["nightly_sync", "on_request"]
    error_message = "there is one function for each workflow"
  }

  assert {
    condition     = google_cloudfunctions2_function.workflow["nightly_sync"].name == "autopilot-prod-nightly-sync"
    error_message = "a name is of prefix, environment and workflow"
  }

  assert {
    condition     = google_cloudfunctions2_function.workflow["nightly_sync"].build_config[0].entry_point == "sync"
    error_message = "the entry point is the manifest's"
  }

  assert {
    condition = [
      for config in [google_cloudfunctions2_function.workflow["nightly_sync"].service_config[0]] : [
        config.timeout_seconds, config.available_memory, config.available_cpu, config.max_instance_request_concurrency,
        config.min_instance_count, config.max_instance_count
      ]
    ][0] == [1200, "1Gi", "2", 8, 1, 5]
    error_message = "timeout, size and instances are the manifest's"
  }

  assert {
    condition = google_cloudfunctions2_function.workflow["on_request"].service_config[0].environment_variables == tomap({
      AUTOPILOT_ENVIRONMENT        = "prod"
      AUTOPILOT_FIRESTORE_DATABASE = "autopilot-prod"
      AUTOPILOT_STORE              = "firestore"
      GOOGLE_CLOUD_PROJECT         = "my-project"
    })
    error_message = "a function keeps its history in this environment's database"
  }

  assert {
    condition     = google_cloudfunctions2_function.workflow["nightly_sync"].service_config[0].environment_variables["NIGHTLY_SYNC_SOURCE"] == "https://example.com"
    error_message = "a workflow's configuration is its environment"
  }
}

run "secrets_are_mounted_in_the_versions_that_are_named" {
  command = plan

  assert {
    condition = {
      for secret in google_cloudfunctions2_function.workflow["nightly_sync"].service_config[0].secret_environment_variables : secret.key => "${secret.secret} ${secret.version}"
      } == {
      NIGHTLY_SYNC_TOKEN = "autopilot-prod-nightly-sync-token 1"
      SHARED_TOKEN       = "autopilot-prod-shared-token 7"
    }
    error_message = "each secret is a variable, in its version"
  }

  assert {
    condition = keys(google_secret_manager_secret_iam_member.workflow_reads_secret) == [
      "nightly_sync/NIGHTLY_SYNC_TOKEN", "nightly_sync/SHARED_TOKEN", "on_request/SHARED_TOKEN"
    ]
    error_message = "a workflow reads the secrets that it declares, and no other"
  }
}

run "a_secret_without_a_value_is_made_and_not_mounted" {
  command = plan

  variables {
    secret_versions = {}
  }

  assert {
    condition     = keys(google_secret_manager_secret.variable) == ["NIGHTLY_SYNC_TOKEN", "SHARED_TOKEN"]
    error_message = "there is a secret to put the value in"
  }

  assert {
    condition     = length(google_cloudfunctions2_function.workflow["on_request"].service_config[0].secret_environment_variables) == 0
    error_message = "a function is not given what has no value: it could not be deployed"
  }

  expect_failures = [check.secrets_have_values]
}

run "overrides_change_one_environment" {
  command = plan

  variables {
    overrides = {
      nightly_sync = {
        environment   = { NIGHTLY_SYNC_SOURCE = "https://example.com" }
        max_instances = 1
        memory        = "2Gi"
        min_instances = 0
        paused        = true
      }
    }
  }

  assert {
    condition = [
      for config in [google_cloudfunctions2_function.workflow["nightly_sync"].service_config[0]] : [config.available_memory, config.min_instance_count, config.max_instance_count]
    ][0] == ["2Gi", 0, 1]
    error_message = "memory and instances are overridden"
  }

  assert {
    condition     = google_cloudfunctions2_function.workflow["on_request"].service_config[0].available_memory == "512Mi"
    error_message = "the others are as in the manifest"
  }

  assert {
    condition     = alltrue([for job in google_cloud_scheduler_job.schedule : job.paused])
    error_message = "the schedules of the workflow are paused"
  }

  assert {
    condition     = !google_monitoring_alert_policy.no_success["nightly_sync"].enabled
    error_message = "nothing is missed of a paused workflow"
  }
}

run "two_environments_share_no_name" {
  command = plan

  variables {
    environment = "dev"
    name_prefix = "other"
  }

  assert {
    condition     = google_cloudfunctions2_function.workflow["nightly_sync"].name == "other-dev-nightly-sync"
    error_message = "the function's name"
  }

  assert {
    condition     = google_firestore_database.history.name == "other-dev"
    error_message = "the database's name"
  }

  assert {
    condition     = google_storage_bucket.sources.name == "my-project-other-dev-sources"
    error_message = "the bucket's name"
  }

  assert {
    condition     = google_service_account.workflow["nightly_sync"].account_id != "autopilot-prod-nightly-dc5b53"
    error_message = "the account's id"
  }
}

run "accounts_ids_fit_whatever_the_names_are" {
  command = plan

  variables {
    environment = "abcdefgh"
    name_prefix = "abcdefghi"
  }

  assert {
    condition     = alltrue([for account in google_service_account.workflow : can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", account.account_id))])
    error_message = "6 to 30 characters"
  }

  assert {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", google_service_account.scheduler.account_id))
    error_message = "6 to 30 characters"
  }
}
