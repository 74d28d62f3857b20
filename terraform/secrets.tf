# Containers for secrets. Values are put in by people, and never seen here:
#   printf %s "$VALUE" | gcloud secrets versions add SECRET --data-file=-

locals {
  secrets = toset(flatten([for workflow in var.workflows : keys(workflow.secrets)]))

  secret_readers = merge([
    for name, workflow in var.workflows : {
      for variable in keys(workflow.secrets) : "${name}/${variable}" => { workflow = name, variable = variable }
    }
  ]...)

  secrets_without_value = sort(distinct(flatten([
    for workflow in var.workflows : [
      for variable, secret in workflow.secrets : variable if secret.required && !contains(keys(var.secret_versions), variable)
    ]
  ])))
}

resource "google_secret_manager_secret" "variable" {
  for_each = local.secrets

  project   = var.project_id
  secret_id = "${local.name}-${lower(replace(each.value, "_", "-"))}"
  labels    = local.labels

  replication {
    auto {}
  }

  depends_on = [google_project_service.enabled["secretmanager.googleapis.com"]]
}

resource "google_secret_manager_secret_iam_member" "workflow_reads_secret" {
  for_each = local.secret_readers

  project   = var.project_id
  secret_id = google_secret_manager_secret.variable[each.value.variable].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.workflow[each.value.workflow].member
}

check "secrets_have_values" {
  assert {
    condition     = length(local.secrets_without_value) == 0
    error_message = "Without a value: ${join(", ", local.secrets_without_value)}. Their workflows answer 503 until a version is added and named in secret_versions; see \"Secrets\" in README.md."
  }
}
