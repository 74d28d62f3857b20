# Who a workflow's function is: an account of its own, with this environment's database and its own secrets
# (secrets.tf), and nothing else.

locals {
  # Databases have no policy of their own: the project's is narrowed to one of them.
  only_this_database = {
    title      = "only_${replace(local.name, "-", "_")}"
    expression = "resource.name == \"projects/${var.project_id}/databases/${google_firestore_database.history.name}\""
  }
}

resource "google_service_account" "workflow" {
  for_each = var.workflows

  project      = var.project_id
  account_id   = local.account_ids[each.key]
  display_name = "Runs ${local.function_names[each.key]}"

  depends_on = [google_project_service.enabled["iam.googleapis.com"]]
}

resource "google_project_iam_member" "workflow_uses_database" {
  for_each = var.workflows

  project = var.project_id
  role    = "roles/datastore.user"
  member  = google_service_account.workflow[each.key].member

  condition {
    title      = local.only_this_database.title
    expression = local.only_this_database.expression
  }

  depends_on = [google_project_service.enabled["cloudresourcemanager.googleapis.com"]]
}
