locals {
  # Names as in "autopilot-dev-uptime-check". Their parts are bounded so that they stay below the 50 characters of a
  # Cloud Run service.
  name           = "${var.name_prefix}-${var.environment}"
  function_names = { for name, workflow in var.workflows : name => "${local.name}-${workflow.function_name}" }

  # An account's id ends at 30 characters: a digest of the whole name tells cut ones apart.
  account_ids = {
    for name, full in local.function_names : name => "${trimsuffix(substr(full, 0, 23), "-")}-${substr(sha1(full), 0, 6)}"
  }

  # Metrics have no hyphens, so that PromQL writes them as they are.
  metric_prefix = "${var.name_prefix}_${var.environment}"

  labels = merge(var.labels, { app = var.name_prefix, environment = var.environment })
}
