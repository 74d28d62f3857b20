# API v1 and the dashboard: one function, if main.py has an `api`. IAM stands before it, and lets in whom you list. With
# a key it may be public: then the function itself asks for the key at every call.

locals {
  api_name = "${local.name}-api"

  # The for_each of all that there is one of: none, without an api in main.py.
  api = toset(var.api == null ? [] : ["api"])

  api_workflows = var.api == null ? toset([]) : var.api.workflows
  api_secrets   = var.api == null ? toset([]) : var.api.secrets

  # What it is given of its secrets: those that have a value.
  api_mounted_secrets = {
    for variable in local.api_secrets : variable => var.secret_versions[variable]
    if contains(keys(var.secret_versions), variable)
  }
}

data "archive_file" "api" {
  for_each = local.api

  type             = "zip"
  output_path      = "${path.module}/build/${local.api_name}.zip"
  output_file_mode = "0644"

  dynamic "source" {
    for_each = setunion(var.shared_files, var.api.files)

    content {
      filename = source.value
      content  = file("${local.bundle}/${source.value}")
    }
  }
}

resource "google_storage_bucket_object" "api_archive" {
  for_each = local.api

  name   = "api/${data.archive_file.api[each.key].output_sha256}.zip"
  bucket = google_storage_bucket.sources.name
  source = data.archive_file.api[each.key].output_path
}

resource "google_cloudfunctions2_function" "api" {
  #checkov:skip=CKV_GCP_124: people's browsers and machines are outside Google's network; IAM or the key tells them apart
  for_each = local.api

  project     = var.project_id
  location    = var.region
  name        = local.api_name
  description = "API v1 and the dashboard of ${local.name}."
  labels      = local.labels

  build_config {
    runtime           = var.runtime
    entry_point       = var.api.entry_point
    service_account   = google_service_account.build.id
    docker_repository = google_artifact_registry_repository.images.id

    source {
      storage_source {
        bucket = google_storage_bucket.sources.name
        object = google_storage_bucket_object.api_archive[each.key].name
      }
    }
  }

  service_config {
    # A stream of events, and a call that waits for a run, take up to 300 seconds and end themselves.
    timeout_seconds  = 360
    available_memory = "512Mi"

    # It mostly waits: many calls share an instance, which Cloud Run allows from one whole CPU on.
    available_cpu                    = "1"
    max_instance_request_concurrency = 80
    min_instance_count               = 0
    max_instance_count               = 3

    ingress_settings      = "ALLOW_ALL"
    service_account_email = google_service_account.api[each.key].email

    environment_variables = merge(
      local.settings,
      {
        AUTOPILOT_FUNCTION_URLS = jsonencode({
          for name in local.api_workflows : name => google_cloudfunctions2_function.workflow[name].service_config[0].uri
        })
      },
      length(var.api_cors_origins) == 0 ? {} : { AUTOPILOT_API_CORS_ORIGINS = join(",", var.api_cors_origins) },
    )

    dynamic "secret_environment_variables" {
      for_each = local.api_mounted_secrets

      content {
        key        = secret_environment_variables.key
        project_id = var.project_id
        secret     = google_secret_manager_secret.api[secret_environment_variables.key].secret_id
        version    = secret_environment_variables.value
      }
    }
  }

  # As for workflows: without these, a build or a first instance fails.
  depends_on = [
    google_artifact_registry_repository_iam_member.build_writes_images,
    google_cloud_run_v2_service_iam_member.api_calls_workflow,
    google_project_iam_member.api_uses_database,
    google_project_iam_member.build_reads_copied_sources,
    google_project_iam_member.build_writes_logs,
    google_project_service.enabled,
    google_secret_manager_secret_iam_member.api_reads_secret,
    google_storage_bucket_iam_member.build_reads_sources,
  ]
}

# Who it is: an account that uses this database, calls the functions that it shows, and reads its own key.

resource "google_service_account" "api" {
  for_each = local.api

  project      = var.project_id
  account_id   = local.api_name
  display_name = "Runs ${local.api_name}"

  depends_on = [google_project_service.enabled["iam.googleapis.com"]]
}

resource "google_project_iam_member" "api_uses_database" {
  for_each = local.api

  project = var.project_id
  role    = "roles/datastore.user"
  member  = google_service_account.api[each.key].member

  condition {
    title      = local.only_this_database.title
    expression = local.only_this_database.expression
  }

  depends_on = [google_project_service.enabled["cloudresourcemanager.googleapis.com"]]
}

resource "google_cloud_run_v2_service_iam_member" "api_calls_workflow" {
  for_each = local.api_workflows

  project  = var.project_id
  location = var.region
  name     = google_cloudfunctions2_function.workflow[each.key].name
  role     = "roles/run.invoker"
  member   = google_service_account.api["api"].member

  # A function that is made anew has a new service, without this.
  lifecycle {
    replace_triggered_by = [google_cloudfunctions2_function.workflow[each.key].id]
  }
}

resource "google_secret_manager_secret" "api" {
  for_each = local.api_secrets

  project   = var.project_id
  secret_id = "${local.name}-${lower(replace(each.value, "_", "-"))}"
  labels    = local.labels

  replication {
    auto {}
  }

  depends_on = [google_project_service.enabled["secretmanager.googleapis.com"]]
}

resource "google_secret_manager_secret_iam_member" "api_reads_secret" {
  for_each = local.api_secrets

  project   = var.project_id
  secret_id = google_secret_manager_secret.api[each.key].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.api["api"].member
}

# Who may call it.

resource "google_cloud_run_v2_service_iam_member" "dashboard_member" {
  for_each = var.dashboard_members

  project  = var.project_id
  location = var.region
  name     = google_cloudfunctions2_function.api["api"].name
  role     = "roles/run.invoker"
  member   = each.value

  lifecycle {
    replace_triggered_by = [google_cloudfunctions2_function.api["api"].id]
  }
}

# The only public binding that there is. It names the function, so it is made after the function has its key.
resource "google_cloud_run_v2_service_iam_member" "api_public" {
  for_each = var.api_public ? local.api : toset([])

  project  = var.project_id
  location = var.region
  name     = google_cloudfunctions2_function.api[each.key].name
  role     = "roles/run.invoker"
  member   = "allUsers"

  lifecycle {
    replace_triggered_by = [google_cloudfunctions2_function.api[each.key].id]

    precondition {
      condition     = contains(keys(local.api_mounted_secrets), "AUTOPILOT_API_KEY")
      error_message = "api_public: without a key, everybody could read and start everything. Add a version to the secret of AUTOPILOT_API_KEY and name it in secret_versions; see \"The dashboard\" in README.md."
    }
  }
}
