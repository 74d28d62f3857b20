# What cannot work is refused at plan.

mock_provider "google" {
  source = "./tests/google"
}

variables {
  project_id            = "my-project"
  notification_channels = ["projects/my-project/notificationChannels/1"]
  overrides             = { nightly_sync = { environment = { NIGHTLY_SYNC_SOURCE = "https://example.com" } } }
  secret_versions       = { NIGHTLY_SYNC_TOKEN = "1", SHARED_TOKEN = "7" }
}

run "values_are_refused_that_google_cloud_would_refuse_later" {
  command = plan

  variables {
    environment           = "production-eu"
    firestore_location    = "Europe"
    invokers              = ["allUsers"]
    name_prefix           = "Autopilot"
    notification_channels = ["ops@example.com"]
    project_id            = "123456789012"
    region                = "us-central1-a"
    runtime               = "python39"
    secret_versions       = { ABSENT = "1" }
  }

  expect_failures = [
    var.environment, var.firestore_location, var.invokers, var.name_prefix, var.notification_channels, var.project_id,
    var.region, var.runtime, var.secret_versions,
  ]
}

run "any_google_account_is_no_invoker" {
  command = plan

  variables {
    invokers = ["allAuthenticatedUsers"]
  }

  expect_failures = [var.invokers]
}

run "an_override_is_of_a_workflow" {
  command = plan

  variables {
    overrides = { absent = {} }
  }

  expect_failures = [var.overrides]
}

run "an_override_lets_no_public_in" {
  command = plan

  variables {
    overrides = { on_request = { invokers = ["allUsers"] } }
  }

  expect_failures = [var.overrides]
}

run "an_override_sets_what_is_declared" {
  command = plan

  variables {
    overrides = { on_request = { environment = { AUTOPILOT_STORE = "sqlite" } } }
  }

  expect_failures = [var.overrides]
}

run "an_override_sets_no_secret" {
  command = plan

  variables {
    overrides = { on_request = { environment = { SHARED_TOKEN = "s3cret" } } }
  }

  expect_failures = [var.overrides]
}

run "an_overridden_memory_has_a_unit" {
  command = plan

  variables {
    overrides = { on_request = { memory = "512" } }
  }

  expect_failures = [var.overrides]
}

run "overridden_instances_fit_together" {
  command = plan

  variables {
    overrides = { nightly_sync = { max_instances = 0 } }
  }

  expect_failures = [var.overrides]
}

run "a_secret_version_is_a_number" {
  command = plan

  variables {
    secret_versions = { SHARED_TOKEN = "newest" }
  }

  expect_failures = [var.secret_versions]
}

run "a_value_that_is_needed_is_missed_before_anything_is_made" {
  command = plan

  variables {
    overrides = {}
  }

  expect_failures = [google_cloudfunctions2_function.workflow]
}

run "a_timeout_is_what_a_function_may_take" {
  command = plan

  variables {
    overrides       = {}
    secret_versions = {}
    workflows       = { broken = merge(jsondecode(file("./tests/workflow.json")), { timeout_seconds = 3601 }) }
  }

  expect_failures = [var.workflows]
}

run "a_deadline_is_what_the_scheduler_waits" {
  command = plan

  variables {
    overrides       = {}
    secret_versions = {}
    workflows = { broken = merge(jsondecode(file("./tests/workflow.json")), {
      schedules = { late = { body = "{}", cron = "0 * * * *", deadline_seconds = 1801, retries = 3, time_zone = "Etc/UTC" } }
    }) }
  }

  expect_failures = [var.workflows]
}

run "retries_are_what_the_scheduler_offers" {
  command = plan

  variables {
    overrides       = {}
    secret_versions = {}
    workflows = { broken = merge(jsondecode(file("./tests/workflow.json")), {
      schedules = { keen = { body = "{}", cron = "0 * * * *", deadline_seconds = 60, retries = 6, time_zone = "Etc/UTC" } }
    }) }
  }

  expect_failures = [var.workflows]
}

run "two_workflows_are_two_functions" {
  command = plan

  variables {
    overrides       = {}
    secret_versions = {}
    workflows = {
      one   = jsondecode(file("./tests/workflow.json"))
      other = jsondecode(file("./tests/workflow.json"))
    }
  }

  expect_failures = [var.workflows]
}

run "a_function_has_a_functions_name" {
  command = plan

  variables {
    overrides       = {}
    secret_versions = {}
    workflows       = { broken = merge(jsondecode(file("./tests/workflow.json")), { function_name = "ends-in-" }) }
  }

  expect_failures = [var.workflows]
}

run "an_archive_has_an_entry_point" {
  command = plan

  variables {
    shared_files = ["main.py"]
  }

  expect_failures = [var.shared_files]
}
