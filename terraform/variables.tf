# What is chosen for an environment, in alphabetical order. What the code says of its workflows, and
# `autopilot manifest` writes to workflows.auto.tfvars.json, follows at the end.

variable "api_cors_origins" {
  description = "Origins whose pages may call API v1 from a browser, as in \"https://tools.example.com\"."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for origin in var.api_cors_origins : can(regex("^https?://[^/,*[:space:]]+$", origin))])
    error_message = "api_cors_origins: each is a scheme and a host, as in \"https://tools.example.com\", with no path and no *."
  }
}

variable "api_public" {
  description = "Whether API v1 and the dashboard can be reached from everywhere by whoever knows the key. It needs a version of AUTOPILOT_API_KEY in secret_versions."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.api_public || var.api != null
    error_message = "api_public: main.py has no api: api = api_entry_point(...), and `autopilot manifest`."
  }
}

variable "dashboard_members" {
  description = "Principals that may use the dashboard and API v1, and with it start, retry and cancel runs of every workflow that it shows, as in \"group:ops@example.com\"."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for principal in var.dashboard_members : can(regex(local.principal, principal))])
    error_message = "dashboard_members: each is a user:, group:, serviceAccount:, principal: or principalSet:. Everybody is let in by api_public, which needs a key, and not by allUsers or allAuthenticatedUsers."
  }

  validation {
    condition     = length(var.dashboard_members) == 0 || var.api != null
    error_message = "dashboard_members: main.py has no api: api = api_entry_point(...), and `autopilot manifest`."
  }
}

variable "deletion_protection" {
  description = "Whether the database is kept whatever happens: Google Cloud refuses to delete it, and `terraform destroy` leaves it behind. Set to false, and apply, before a destroy that is to take the history with it."
  type        = bool
  default     = true
  nullable    = false
}

variable "environment" {
  description = "The environment, as in \"dev\" or \"prod\". It is part of every name, so that several fit one project, and on every log line."
  type        = string
  default     = "prod"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{0,7}$", var.environment))
    error_message = "environment: 1 to 8 lower-case letters and digits, the first a letter, as in \"dev\"."
  }
}

variable "firestore_location" {
  description = "Where the database is, for good: a region, or a multi-region as in \"eur3\". Without one it is the region of the functions."
  type        = string
  default     = null

  validation {
    condition     = var.firestore_location == null || can(regex("^[a-z]+[a-z0-9-]*[0-9]$", var.firestore_location))
    error_message = "firestore_location: a region or multi-region of Firestore, as in \"europe-west1\" or \"eur3\"."
  }
}

variable "invokers" {
  description = "Principals that may call every workflow's function, beside Cloud Scheduler, as in \"group:ops@example.com\"."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for principal in var.invokers : can(regex(local.principal, principal))])
    error_message = "invokers: each is a user:, group:, serviceAccount:, principal: or principalSet:. Workflow functions are never public, so allUsers and allAuthenticatedUsers are refused."
  }
}

variable "labels" {
  description = "Labels of everything that takes labels."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "name_prefix" {
  description = "The first part of every name. Two bundles in one project need two prefixes."
  type        = string
  default     = "autopilot"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{0,8}$", var.name_prefix))
    error_message = "name_prefix: 1 to 9 lower-case letters and digits, the first a letter. Names of functions and service accounts have room for no more."
  }
}

variable "notification_channels" {
  description = "Cloud Monitoring channels that alerts are sent to, as in \"projects/my-project/notificationChannels/123\". Without one, alerts are only seen in the console."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for channel in var.notification_channels : can(regex("^projects/[^/]+/notificationChannels/[^/]+$", channel))])
    error_message = "notification_channels: each is the full name of a channel, as in \"projects/my-project/notificationChannels/123\"; `gcloud beta monitoring channels list` shows them."
  }
}

variable "overrides" {
  description = "What is different in this environment, by workflow: its schedules paused, another size, values for its configuration, principals that may call it alone."
  type = map(object({
    environment   = optional(map(string), {})
    invokers      = optional(set(string), [])
    max_instances = optional(number)
    memory        = optional(string)
    min_instances = optional(number)
    paused        = optional(bool, false)
  }))
  default  = {}
  nullable = false

  validation {
    condition     = length(setsubtract(keys(var.overrides), keys(var.workflows))) == 0
    error_message = "overrides: unknown workflow ${join(", ", setsubtract(keys(var.overrides), keys(var.workflows)))}; there are ${join(", ", keys(var.workflows))}."
  }

  validation {
    condition = alltrue(flatten([
      for name, override in var.overrides : [
        for variable in keys(override.environment) : contains(keys(try(var.workflows[name].environment, {})), variable)
      ]
    ]))
    error_message = "overrides: environment may only set what the workflow's Config declares and is no secret (see \"environment\" in workflows.auto.tfvars.json). Values of secrets are kept in Secret Manager."
  }

  validation {
    condition = alltrue(flatten([
      for override in var.overrides : [
        for principal in override.invokers : can(regex(local.principal, principal))
      ]
    ]))
    error_message = "overrides: each of invokers is a user:, group:, serviceAccount:, principal: or principalSet:. Workflow functions are never public, so allUsers and allAuthenticatedUsers are refused."
  }

  validation {
    condition     = alltrue([for override in var.overrides : override.memory == null || can(regex("^[1-9][0-9]*(Mi|Gi)$", override.memory))])
    error_message = "overrides: memory is written as in \"512Mi\" or \"2Gi\"."
  }

  validation {
    condition = alltrue([
      for name, override in var.overrides :
      coalesce(override.min_instances, try(var.workflows[name].min_instances, 0)) <= coalesce(override.max_instances, try(var.workflows[name].max_instances, 1000))
    ])
    error_message = "overrides: min_instances is over max_instances; what is not overridden is as in the manifest."
  }
}

variable "project_id" {
  description = "The Google Cloud project. It must exist, with billing enabled."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "project_id: the id of a project (6 to 30 lower-case letters, digits and hyphens), not its name or number."
  }
}

variable "region" {
  description = "Where functions, schedules, sources and images are."
  type        = string
  default     = "us-central1"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region: a region, as in \"europe-west1\"."
  }
}

variable "runtime" {
  description = "The Python that functions run on."
  type        = string
  default     = "python313"
  nullable    = false

  validation {
    condition     = contains(["python311", "python312", "python313", "python314"], var.runtime)
    error_message = "runtime: python311, python312, python313 or python314."
  }
}

variable "secret_versions" {
  description = "Versions of the secrets that have a value, by variable, as in { FEED_DIGEST_WEBHOOK_URL = \"1\" }. A function is given a secret once its version is named here."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(setsubtract(keys(var.secret_versions), setunion(local.secrets, local.api_secrets))) == 0
    error_message = "secret_versions: no workflow declares ${join(", ", setsubtract(keys(var.secret_versions), setunion(local.secrets, local.api_secrets)))}; see \"secrets\" in workflows.auto.tfvars.json."
  }

  validation {
    condition     = alltrue([for version in var.secret_versions : can(regex("^([1-9][0-9]*|latest)$", version))])
    error_message = "secret_versions: a version is a number, as in \"3\". \"latest\" is taken too; it changes without a deployment."
  }
}

# Written by `autopilot manifest`.

variable "api" {
  description = "API v1 and the dashboard: what main.py calls its function, its own files, its secrets, and the workflows that it shows. Null: main.py has none."
  type = object({
    entry_point = string
    files       = set(string)
    secrets     = set(string)
    workflows   = set(string)
  })

  validation {
    condition     = var.api == null || contains(try(var.api.secrets, []), "AUTOPILOT_API_KEY")
    error_message = "api: AUTOPILOT_API_KEY must be among its secrets: it is what api_public relies on."
  }

  validation {
    condition     = length(setsubtract(try(var.api.workflows, []), keys(var.workflows))) == 0
    error_message = "api: it shows what is no workflow: ${join(", ", setsubtract(try(var.api.workflows, []), keys(var.workflows)))}."
  }

  validation {
    condition     = var.api == null || !contains([for workflow in var.workflows : workflow.function_name], "api")
    error_message = "api: a workflow's function_name is \"api\" too."
  }
}

variable "firestore" {
  description = "What the Firestore store needs of its database: composite indexes, settings of single fields (\"*\" is every field without its own), and the fields with the time from which documents are removed."
  type = object({
    fields = map(object({
      collection = string
      expires    = bool
      field      = string
      orders     = list(string)
    }))
    indexes = map(object({
      collection = string
      fields = list(object({
        field_path = string
        order      = string
      }))
    }))
  })
  nullable = false
}

variable "shared_files" {
  description = "Files of the bundle that every function's archive holds: main.py, requirements, and what main.py imports."
  type        = set(string)
  nullable    = false

  validation {
    condition     = length(setintersection(["main.py", "requirements.txt"], var.shared_files)) == 2
    error_message = "shared_files: main.py and requirements.txt must be among them."
  }
}

variable "workflows" {
  description = "The workflows, by name."
  type = map(object({
    alert_without_success_seconds = number
    concurrency                   = number
    cpu                           = string
    description                   = string
    display_name                  = string
    entry_point                   = string
    environment                   = map(object({ required = bool }))
    files                         = set(string)
    function_name                 = string
    max_instances                 = number
    memory                        = string
    min_instances                 = number
    schedules = map(object({
      body             = string
      cron             = string
      deadline_seconds = number
      retries          = number
      time_zone        = string
    }))
    secrets         = map(object({ required = bool }))
    timeout_seconds = number
  }))
  nullable = false

  validation {
    condition     = alltrue([for workflow in var.workflows : can(regex("^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$", workflow.function_name))])
    error_message = "workflows: function_name is 1 to 30 lower-case letters, digits and hyphens, the first a letter and the last none."
  }

  validation {
    condition     = length(distinct([for workflow in var.workflows : workflow.function_name])) == length(var.workflows)
    error_message = "workflows: two have the same function_name."
  }

  validation {
    condition     = !anytrue(flatten([for workflow in var.workflows : [for variable in keys(workflow.secrets) : startswith(variable, "AUTOPILOT_")]]))
    error_message = "workflows: a secret's name begins with AUTOPILOT_, as those that only the api reads."
  }

  validation {
    condition     = alltrue([for workflow in var.workflows : workflow.timeout_seconds >= 1 && workflow.timeout_seconds <= 3600])
    error_message = "workflows: timeout_seconds is 1 to 3600, the longest request of an HTTP function."
  }

  validation {
    condition = alltrue(flatten([
      for workflow in var.workflows : [for schedule in workflow.schedules : schedule.deadline_seconds >= 15 && schedule.deadline_seconds <= 1800]
    ]))
    error_message = "workflows: deadline_seconds of a schedule is 15 to 1800, what Cloud Scheduler waits for an answer."
  }

  validation {
    condition = alltrue(flatten([
      for workflow in var.workflows : [for schedule in workflow.schedules : schedule.retries >= 0 && schedule.retries <= 5]
    ]))
    error_message = "workflows: retries of a schedule are 0 to 5, what Cloud Scheduler offers."
  }
}
