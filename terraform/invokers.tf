# Who may call a workflow's function: Cloud Scheduler, and who is listed. A 2nd gen function is called through its Cloud
# Run service, so that is where the role is needed; without a member, nobody has it.

locals {
  # Somebody who is named. Never the public, and never a whole domain.
  principal = "^(user|group|serviceAccount|principal|principalSet):.+$"

  invokers = merge([
    for name in keys(var.workflows) : {
      for principal in setunion(var.invokers, local.overrides[name].invokers) :
      "${name}/${principal}" => { workflow = name, principal = principal }
    }
  ]...)
}

resource "google_cloud_run_v2_service_iam_member" "invoker" {
  for_each = local.invokers

  project  = var.project_id
  location = var.region
  name     = google_cloudfunctions2_function.workflow[each.value.workflow].name
  role     = "roles/run.invoker"
  member   = each.value.principal

  # No replace_triggered_by as below, which takes each.key only: after a `terraform apply -replace` of a function, its
  # callers come back with the next apply.
}

resource "google_cloud_run_v2_service_iam_member" "scheduler" {
  for_each = { for name, workflow in var.workflows : name => workflow if length(workflow.schedules) > 0 }

  project  = var.project_id
  location = var.region
  name     = google_cloudfunctions2_function.workflow[each.key].name
  role     = "roles/run.invoker"
  member   = google_service_account.scheduler.member

  # A function that is made anew has a new service, without this.
  lifecycle {
    replace_triggered_by = [google_cloudfunctions2_function.workflow[each.key].id]
  }
}
