# The history: runs, steps and statistics of every workflow of this environment.

resource "google_firestore_database" "history" {
  project     = var.project_id
  name        = local.name
  location_id = coalesce(var.firestore_location, var.region)
  type        = "FIRESTORE_NATIVE"

  # Any state of the last seven days can be read and restored.
  point_in_time_recovery_enablement = "POINT_IN_TIME_RECOVERY_ENABLED"

  delete_protection_state = var.deletion_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  deletion_policy         = var.deletion_protection ? "ABANDON" : "DELETE"

  depends_on = [google_project_service.enabled["firestore.googleapis.com"]]
}

resource "google_firestore_index" "query" {
  for_each = var.firestore.indexes

  project    = var.project_id
  database   = google_firestore_database.history.name
  collection = each.value.collection
  # Of one collection at a time, as the store reads.
  query_scope = "COLLECTION"

  dynamic "fields" {
    for_each = each.value.fields

    content {
      field_path = fields.value.field_path
      order      = fields.value.order
    }
  }
}

resource "google_firestore_field" "setting" {
  for_each = var.firestore.fields

  project    = var.project_id
  database   = google_firestore_database.history.name
  collection = each.value.collection
  field      = each.value.field

  # Without an entry, the field has no index of its own: writes are cheaper, and times do not crowd one range.
  index_config {
    dynamic "indexes" {
      for_each = each.value.orders

      content {
        query_scope = "COLLECTION"
        order       = indexes.value
      }
    }
  }

  # Firestore removes a document within about a day of this time.
  dynamic "ttl_config" {
    for_each = each.value.expires ? [true] : []

    content {}
  }
}
