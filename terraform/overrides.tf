locals {
  # What this environment has of its own for each workflow; null is what the manifest says.
  overrides = {
    for name in keys(var.workflows) : name => try(var.overrides[name], {
      environment   = {}
      invokers      = []
      max_instances = null
      memory        = null
      min_instances = null
      paused        = false
    })
  }
}
