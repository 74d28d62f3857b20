# How archives become images: an identity of its own, which may read sources and write images and logs.

resource "google_artifact_registry_repository" "images" {
  #checkov:skip=CKV_GCP_84: images hold code and no data; Google's own encryption is enough for them
  project       = var.project_id
  location      = var.region
  repository_id = "${local.name}-functions"
  description   = "Images of the functions of ${local.name}, made by Cloud Build."
  format        = "DOCKER"
  labels        = local.labels

  cleanup_policies {
    id     = "keep-the-latest"
    action = "KEEP"
    most_recent_versions {
      keep_count = 3
    }
  }

  cleanup_policies {
    id     = "delete-the-rest"
    action = "DELETE"
    condition {
      tag_state  = "ANY"
      older_than = "2592000s" # 30 days
    }
  }

  depends_on = [google_project_service.enabled["artifactregistry.googleapis.com"]]
}

resource "google_service_account" "build" {
  project      = var.project_id
  account_id   = "${local.name}-build"
  display_name = "Builds the functions of ${local.name}"

  depends_on = [google_project_service.enabled["iam.googleapis.com"]]
}

resource "google_artifact_registry_repository_iam_member" "build_writes_images" {
  project    = var.project_id
  location   = var.region
  repository = google_artifact_registry_repository.images.name
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.build.member
}

resource "google_storage_bucket_iam_member" "build_reads_sources" {
  bucket = google_storage_bucket.sources.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.build.member
}

# Cloud Functions copies each archive to a bucket of its own making, and builds from there.
resource "google_project_iam_member" "build_reads_copied_sources" {
  project = var.project_id
  role    = "roles/storage.objectViewer"
  member  = google_service_account.build.member

  condition {
    title      = "sources_of_functions"
    expression = "resource.name.startsWith(\"projects/_/buckets/gcf-v2-sources-\")"
  }

  depends_on = [google_project_service.enabled["cloudresourcemanager.googleapis.com"]]
}

resource "google_project_iam_member" "build_writes_logs" {
  project = var.project_id
  role    = "roles/logging.logWriter"
  member  = google_service_account.build.member

  depends_on = [google_project_service.enabled["cloudresourcemanager.googleapis.com"]]
}
