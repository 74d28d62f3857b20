locals {
  urls    = { for name, function in google_cloudfunctions2_function.workflow : name => function.service_config[0].uri }
  api_url = one([for function in google_cloudfunctions2_function.api : function.service_config[0].uri])

  # The payload of a first run: that of the workflow's first schedule, or none.
  bodies = { for name, workflow in var.workflows : name => try(values(workflow.schedules)[0].body, "{}") }
}

output "dashboard_command" {
  description = "The command that opens the dashboard on the machine of whoever is a member of it, with their own credentials; none without an api in main.py."
  value       = local.api_url == null ? null : "autopilot dashboard --url ${local.api_url}"
}

output "dashboard_url" {
  description = "The address of the dashboard, with API v1 under /api/v1. It answers only to its members unless api_public is true; none without an api in main.py."
  value       = local.api_url
}

output "database" {
  description = "The Firestore database with the history."
  value       = google_firestore_database.history.name
}

output "invoke_commands" {
  description = "A command for each workflow that runs it once, for whoever may call it."
  value = {
    for name, url in local.urls : name => join(" ", [
      "curl -X POST ${url}",
      "-H \"Authorization: Bearer $(gcloud auth print-identity-token)\"",
      "-H 'Content-Type: application/json'",
      "-d '${replace(local.bodies[name], "'", "'\\''")}'",
    ])
  }
}

output "secrets" {
  description = "The secret behind each variable; `gcloud secrets versions add` gives it a value."
  value       = { for variable, secret in merge(google_secret_manager_secret.variable, google_secret_manager_secret.api) : variable => secret.secret_id }
}

output "service_accounts" {
  description = "Who each workflow's function is."
  value       = { for name, account in google_service_account.workflow : name => account.email }
}

output "urls" {
  description = "The address of each workflow's function. It answers only to principals that may call it."
  value       = local.urls
}
