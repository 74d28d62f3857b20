# The database is protected, indexed and kept small.

mock_provider "google" {
  source = "./tests/google"
}

variables {
  project_id            = "my-project"
  notification_channels = ["projects/my-project/notificationChannels/1"]
  overrides             = { nightly_sync = { environment = { NIGHTLY_SYNC_SOURCE = "https://example.com" } } }
  secret_versions       = { NIGHTLY_SYNC_TOKEN = "1", SHARED_TOKEN = "7" }
}

run "the_database_is_protected" {
  command = plan

  assert {
    condition     = google_firestore_database.history.delete_protection_state == "DELETE_PROTECTION_ENABLED"
    error_message = "Google Cloud refuses to delete it"
  }

  assert {
    condition     = google_firestore_database.history.deletion_policy == "ABANDON"
    error_message = "a destroy leaves it behind"
  }

  assert {
    condition     = google_firestore_database.history.point_in_time_recovery_enablement == "POINT_IN_TIME_RECOVERY_ENABLED"
    error_message = "what it held can be read again"
  }

  assert {
    condition     = google_firestore_database.history.location_id == "us-central1"
    error_message = "it is where the functions are"
  }
}

run "protection_ends_when_it_is_switched_off" {
  command = plan

  variables {
    deletion_protection = false
  }

  assert {
    condition     = google_firestore_database.history.delete_protection_state == "DELETE_PROTECTION_DISABLED"
    error_message = "Google Cloud deletes it"
  }

  assert {
    condition     = google_firestore_database.history.deletion_policy == "DELETE"
    error_message = "a destroy deletes it"
  }
}

run "indexes_and_retention_are_the_stores" {
  command = plan

  assert {
    condition = [for field in google_firestore_index.query["runs--workflow--started_at-desc"].fields : "${field.field_path} ${field.order}"] == [
      "workflow ASCENDING", "started_at DESCENDING"
    ]
    error_message = "the fields of an index keep their order"
  }

  assert {
    condition     = length(google_firestore_field.setting["runs.expires_at"].ttl_config) == 1
    error_message = "a document is removed at its time"
  }

  assert {
    condition     = length(google_firestore_field.setting["runs.*"].ttl_config) == 0
    error_message = "and by that field alone"
  }

  assert {
    condition     = length(google_firestore_field.setting["runs.*"].index_config[0].indexes) == 0
    error_message = "no field is indexed that no query reads"
  }

  assert {
    condition     = [for index in google_firestore_field.setting["runs.due_at"].index_config[0].indexes : index.order] == ["ASCENDING"]
    error_message = "a query of one field has its index"
  }

  assert {
    condition     = alltrue([for index in google_firestore_index.query : index.database == "autopilot-prod"])
    error_message = "indexes are in this database"
  }
}

run "its_location_can_be_chosen" {
  command = plan

  variables {
    firestore_location = "eur3"
  }

  assert {
    condition     = google_firestore_database.history.location_id == "eur3"
    error_message = "it is where it was said to be"
  }
}
