# One archive a function, of the files that the manifest lists for it: what one workflow does not use does not change
# its function.

locals {
  bundle = "${path.module}/.."
}

data "archive_file" "workflow" {
  for_each = var.workflows

  type             = "zip"
  output_path      = "${path.module}/build/${local.function_names[each.key]}.zip"
  output_file_mode = "0644" # the same archive, whoever makes it

  dynamic "source" {
    for_each = setunion(var.shared_files, each.value.files)

    content {
      filename = source.value
      content  = file("${local.bundle}/${source.value}")
    }
  }
}

resource "google_storage_bucket" "sources" {
  #checkov:skip=CKV_GCP_62: it holds archives of code that the repository has; who deploys is in the audit log
  #checkov:skip=CKV_GCP_78: objects are never overwritten, since their names hold a digest of their content
  project                     = var.project_id
  name                        = "${var.project_id}-${local.name}-sources"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  labels                      = local.labels

  depends_on = [google_project_service.enabled["storage.googleapis.com"]]
}

resource "google_storage_bucket_object" "archive" {
  for_each = var.workflows

  # The digest makes a changed archive a new object, and a new object makes the function be built.
  name   = "${each.value.function_name}/${data.archive_file.workflow[each.key].output_sha256}.zip"
  bucket = google_storage_bucket.sources.name
  source = data.archive_file.workflow[each.key].output_path
}
