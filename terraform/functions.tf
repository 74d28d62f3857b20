locals {
  # What every function is told: whose history it keeps, and where.
  settings = {
    AUTOPILOT_ENVIRONMENT        = var.environment
    AUTOPILOT_FIRESTORE_DATABASE = google_firestore_database.history.name
    AUTOPILOT_STORE              = "firestore"
    GOOGLE_CLOUD_PROJECT         = var.project_id
  }

  # What each function is given of its secrets: those that have a value.
  mounted_secrets = {
    for name, workflow in var.workflows : name => {
      for variable in keys(workflow.secrets) : variable => var.secret_versions[variable]
      if contains(keys(var.secret_versions), variable)
    }
  }

  missing_values = {
    for name, workflow in var.workflows : name => [
      for variable, value in workflow.environment : variable
      if value.required && !contains(keys(local.overrides[name].environment), variable)
    ]
  }
}

resource "google_cloudfunctions2_function" "workflow" {
  #checkov:skip=CKV_GCP_124: callers outside Google's network (people, CI) are told apart by IAM, which refuses the public
  for_each = var.workflows

  project     = var.project_id
  location    = var.region
  name        = local.function_names[each.key]
  description = each.value.description
  labels      = merge(local.labels, { workflow = each.key })

  build_config {
    runtime           = var.runtime
    entry_point       = each.value.entry_point
    service_account   = google_service_account.build.id
    docker_repository = google_artifact_registry_repository.images.id

    source {
      storage_source {
        bucket = google_storage_bucket.sources.name
        object = google_storage_bucket_object.archive[each.key].name
      }
    }
  }

  service_config {
    timeout_seconds                  = each.value.timeout_seconds
    available_memory                 = coalesce(local.overrides[each.key].memory, each.value.memory)
    available_cpu                    = each.value.cpu
    max_instance_request_concurrency = each.value.concurrency
    min_instance_count               = coalesce(local.overrides[each.key].min_instances, each.value.min_instances)
    max_instance_count               = coalesce(local.overrides[each.key].max_instances, each.value.max_instances)
    ingress_settings                 = "ALLOW_ALL"
    service_account_email            = google_service_account.workflow[each.key].email

    environment_variables = merge(local.overrides[each.key].environment, local.settings)

    dynamic "secret_environment_variables" {
      for_each = local.mounted_secrets[each.key]

      content {
        key        = secret_environment_variables.key
        project_id = var.project_id
        secret     = google_secret_manager_secret.variable[secret_environment_variables.key].secret_id
        version    = secret_environment_variables.value
      }
    }
  }

  lifecycle {
    precondition {
      condition     = length(local.missing_values[each.key]) == 0
      error_message = "Workflow ${each.key} needs a value for ${join(", ", local.missing_values[each.key])}: set overrides = { ${each.key} = { environment = { ... } } }."
    }
  }

  # Roles do not show in what is referenced above, and a build or a first instance without them fails.
  depends_on = [
    google_artifact_registry_repository_iam_member.build_writes_images,
    google_project_iam_member.build_reads_copied_sources,
    google_project_iam_member.build_writes_logs,
    google_project_iam_member.workflow_uses_database,
    google_project_service.enabled,
    google_secret_manager_secret_iam_member.workflow_reads_secret,
    google_storage_bucket_iam_member.build_reads_sources,
  ]
}
