# API v1 and the dashboard: private, unless it has a key and is said to be public.

mock_provider "google" {
  source = "./tests/google"
}

variables {
  project_id            = "my-project"
  notification_channels = ["projects/my-project/notificationChannels/1"]
  overrides             = { nightly_sync = { environment = { NIGHTLY_SYNC_SOURCE = "https://example.com" } } }
  secret_versions       = { NIGHTLY_SYNC_TOKEN = "1", SHARED_TOKEN = "7" }
}

run "it_is_one_function_beside_the_workflows" {
  command = apply

  override_resource {
    target = google_cloudfunctions2_function.api
    values = { service_config = { uri = "https://api-uc.a.run.app" } }
  }

  override_resource {
    target = google_cloudfunctions2_function.workflow["on_request"]
    values = { service_config = { uri = "https://on-request-uc.a.run.app" } }
  }

  assert {
    condition     = google_cloudfunctions2_function.api["api"].name == "autopilot-prod-api" && google_cloudfunctions2_function.api["api"].build_config[0].entry_point == "serve_api"
    error_message = "its name, and the entry point that main.py has for it"
  }

  assert {
    condition = google_cloudfunctions2_function.api["api"].service_config[0].environment_variables == tomap({
      AUTOPILOT_ENVIRONMENT        = "prod"
      AUTOPILOT_FIRESTORE_DATABASE = "autopilot-prod"
      AUTOPILOT_FUNCTION_URLS      = "{\"nightly_sync\":\"https://mocked-uc.a.run.app\",\"on_request\":\"https://on-request-uc.a.run.app\"}"
      AUTOPILOT_STORE              = "firestore"
      GOOGLE_CLOUD_PROJECT         = "my-project"
    })
    error_message = "it reads this environment's history, and knows the address of each workflow's function"
  }

  assert {
    condition     = google_cloudfunctions2_function.api["api"].service_config[0].max_instance_request_concurrency > 1 && tonumber(google_cloudfunctions2_function.api["api"].service_config[0].available_cpu) >= 1
    error_message = "many calls share an instance, which needs a whole CPU"
  }

  assert {
    condition     = google_cloudfunctions2_function.api["api"].service_config[0].ingress_settings == "ALLOW_ALL"
    error_message = "browsers reach it from anywhere; IAM or the key tells who they are"
  }

  assert {
    condition     = google_cloudfunctions2_function.api["api"].service_config[0].min_instance_count == 0
    error_message = "it costs nothing while nobody looks"
  }

  assert {
    condition     = output.dashboard_url == "https://api-uc.a.run.app"
    error_message = "its address is told"
  }

  assert {
    condition     = output.dashboard_command == "autopilot dashboard --url https://api-uc.a.run.app"
    error_message = "how it is opened is told"
  }
}

run "nobody_calls_it_by_default" {
  command = plan

  assert {
    condition     = length(google_cloud_run_v2_service_iam_member.api_public) == 0 && length(google_cloud_run_v2_service_iam_member.dashboard_member) == 0
    error_message = "there is no binding"
  }
}

run "members_call_it_and_workflows_are_not_theirs" {
  command = plan

  variables {
    dashboard_members = ["group:ops@example.com", "user:a@example.com"]
    invokers          = ["group:callers@example.com"]
  }

  assert {
    condition = {
      for binding in google_cloud_run_v2_service_iam_member.dashboard_member : binding.member => "${binding.role} ${binding.name}"
      } == {
      "group:ops@example.com" = "roles/run.invoker autopilot-prod-api"
      "user:a@example.com"    = "roles/run.invoker autopilot-prod-api"
    }
    error_message = "members may call the api"
  }

  assert {
    condition     = toset([for binding in google_cloud_run_v2_service_iam_member.invoker : binding.member]) == toset(["group:callers@example.com"])
    error_message = "and whoever may call workflows is another list"
  }

  assert {
    condition     = length(google_cloud_run_v2_service_iam_member.api_public) == 0
    error_message = "members do not make it public"
  }
}

run "it_is_somebody_who_can_do_little" {
  command = apply

  assert {
    condition     = google_service_account.api["api"].account_id == "autopilot-prod-api" && google_cloudfunctions2_function.api["api"].service_config[0].service_account_email == google_service_account.api["api"].email
    error_message = "it runs as an account of its own"
  }

  assert {
    condition     = google_project_iam_member.api_uses_database["api"].role == "roles/datastore.user" && google_project_iam_member.api_uses_database["api"].condition[0].expression == "resource.name == \"projects/my-project/databases/autopilot-prod\""
    error_message = "it uses this database and no other"
  }

  assert {
    condition = {
      for name, binding in google_cloud_run_v2_service_iam_member.api_calls_workflow : name => "${binding.role} ${binding.name} ${binding.member == google_service_account.api["api"].member}"
      } == {
      nightly_sync = "roles/run.invoker autopilot-prod-nightly-sync true"
      on_request   = "roles/run.invoker autopilot-prod-on-request true"
    }
    error_message = "it calls the functions that it shows"
  }

  assert {
    condition     = google_secret_manager_secret.api["AUTOPILOT_API_KEY"].secret_id == "autopilot-prod-autopilot-api-key" && keys(google_secret_manager_secret_iam_member.api_reads_secret) == ["AUTOPILOT_API_KEY"]
    error_message = "it reads its key"
  }

  assert {
    condition     = alltrue([for reader in google_secret_manager_secret_iam_member.workflow_reads_secret : reader.secret_id != "autopilot-prod-autopilot-api-key"])
    error_message = "which nobody else reads"
  }
}

run "a_workflow_that_it_does_not_show_is_not_called" {
  command = apply

  variables {
    api = { entry_point = "api", files = [], secrets = ["AUTOPILOT_API_KEY"], workflows = ["on_request"] }
  }

  assert {
    condition     = keys(google_cloud_run_v2_service_iam_member.api_calls_workflow) == ["on_request"]
    error_message = "it calls the functions that it shows and no other"
  }

  assert {
    condition     = keys(jsondecode(google_cloudfunctions2_function.api["api"].service_config[0].environment_variables["AUTOPILOT_FUNCTION_URLS"])) == ["on_request"]
    error_message = "nor is it told of another"
  }
}

run "a_key_without_a_version_is_not_mounted" {
  command = plan

  assert {
    condition     = length(google_cloudfunctions2_function.api["api"].service_config[0].secret_environment_variables) == 0
    error_message = "there is nothing to mount"
  }

  assert {
    condition     = output.secrets["AUTOPILOT_API_KEY"] == "autopilot-prod-autopilot-api-key"
    error_message = "there is a secret to put the key in, and it is told"
  }
}

run "with_a_key_it_may_be_public" {
  command = plan

  variables {
    api_public      = true
    secret_versions = { AUTOPILOT_API_KEY = "3", NIGHTLY_SYNC_TOKEN = "1", SHARED_TOKEN = "7" }
  }

  assert {
    condition     = [for binding in google_cloud_run_v2_service_iam_member.api_public : "${binding.member} ${binding.role} ${binding.name}"] == ["allUsers roles/run.invoker autopilot-prod-api"]
    error_message = "the api is public"
  }

  assert {
    condition = [
      for secret in google_cloudfunctions2_function.api["api"].service_config[0].secret_environment_variables : "${secret.key} ${secret.secret} ${secret.version}"
    ] == ["AUTOPILOT_API_KEY autopilot-prod-autopilot-api-key 3"]
    error_message = "it asks for the key"
  }

  assert {
    condition     = length(google_cloud_run_v2_service_iam_member.invoker) == 0
    error_message = "workflows are not public"
  }
}

run "a_key_alone_makes_nothing_public" {
  command = plan

  variables {
    secret_versions = { AUTOPILOT_API_KEY = "3", NIGHTLY_SYNC_TOKEN = "1", SHARED_TOKEN = "7" }
  }

  assert {
    condition     = length(google_cloud_run_v2_service_iam_member.api_public) == 0
    error_message = "it is private unless somebody says otherwise"
  }
}

run "without_a_key_it_is_not_made_public" {
  command = plan

  variables {
    api_public = true
  }

  expect_failures = [google_cloud_run_v2_service_iam_member.api_public]
}

run "origins_are_listed" {
  command = plan

  variables {
    api_cors_origins = ["https://a.example.com", "https://b.example.com"]
  }

  assert {
    condition     = google_cloudfunctions2_function.api["api"].service_config[0].environment_variables["AUTOPILOT_API_CORS_ORIGINS"] == "https://a.example.com,https://b.example.com"
    error_message = "their pages may call the API"
  }
}

run "no_origin_is_any_origin" {
  command = plan

  variables {
    api_cors_origins = ["*"]
  }

  expect_failures = [var.api_cors_origins]
}

run "an_origin_has_no_path" {
  command = plan

  variables {
    api_cors_origins = ["https://a.example.com/"]
  }

  expect_failures = [var.api_cors_origins]
}

run "an_origin_is_one" {
  command = plan

  variables {
    api_cors_origins = ["https://a.example.com,b.example.com"]
  }

  expect_failures = [var.api_cors_origins]
}

run "an_origin_is_of_the_web" {
  command = plan

  variables {
    api_cors_origins = ["ftp://a.example.com"]
  }

  expect_failures = [var.api_cors_origins]
}

run "the_public_is_no_member" {
  command = plan

  variables {
    dashboard_members = ["allUsers"]
  }

  expect_failures = [var.dashboard_members]
}

run "any_google_account_is_no_member" {
  command = plan

  variables {
    dashboard_members = ["allAuthenticatedUsers"]
  }

  expect_failures = [var.dashboard_members]
}

run "a_whole_domain_is_no_member" {
  command = plan

  variables {
    dashboard_members = ["domain:example.com"]
  }

  expect_failures = [var.dashboard_members]
}

run "a_deleted_account_is_no_member" {
  command = plan

  variables {
    dashboard_members = ["deleted:user:a@example.com?uid=1"]
  }

  expect_failures = [var.dashboard_members]
}

run "a_member_has_a_name" {
  command = plan

  variables {
    dashboard_members = ["user:"]
  }

  expect_failures = [var.dashboard_members]
}

run "without_an_api_in_main_there_is_none" {
  command = plan

  variables {
    api = null
  }

  assert {
    condition     = length(google_cloudfunctions2_function.api) + length(google_service_account.api) + length(google_secret_manager_secret.api) + length(google_project_iam_member.api_uses_database) + length(google_cloud_run_v2_service_iam_member.api_calls_workflow) == 0
    error_message = "nothing is made"
  }

  assert {
    condition     = output.dashboard_command == null && output.dashboard_url == null
    error_message = "and nothing told"
  }
}

run "without_an_api_nobody_is_its_member_and_nothing_public" {
  command = plan

  variables {
    api               = null
    api_public        = true
    dashboard_members = ["user:a@example.com"]
  }

  expect_failures = [var.api_public, var.dashboard_members]
}

run "an_api_has_its_key" {
  command = plan

  variables {
    api = { entry_point = "api", files = [], secrets = [], workflows = ["on_request"] }
  }

  expect_failures = [var.api]
}

run "an_api_shows_workflows" {
  command = plan

  variables {
    api = { entry_point = "api", files = [], secrets = ["AUTOPILOT_API_KEY"], workflows = ["absent"] }
  }

  expect_failures = [var.api]
}

run "a_workflow_is_not_named_as_the_api" {
  command = plan

  variables {
    api             = { entry_point = "api", files = [], secrets = ["AUTOPILOT_API_KEY"], workflows = [] }
    overrides       = {}
    secret_versions = {}
    workflows       = { api = merge(jsondecode(file("./tests/workflow.json")), { function_name = "api" }) }
  }

  expect_failures = [var.api]
}

run "a_workflow_declares_no_secret_of_the_api" {
  command = plan

  variables {
    api             = { entry_point = "api", files = [], secrets = ["AUTOPILOT_API_KEY"], workflows = [] }
    overrides       = {}
    secret_versions = {}
    workflows       = { broken = merge(jsondecode(file("./tests/workflow.json")), { secrets = { AUTOPILOT_API_KEY = { required = false } } }) }
  }

  expect_failures = [var.workflows]
}
