# What the provider would know after an apply, where its own validation looks at it.

mock_resource "google_service_account" {
  defaults = {
    email  = "mocked@my-project.iam.gserviceaccount.com"
    id     = "projects/my-project/serviceAccounts/mocked@my-project.iam.gserviceaccount.com"
    member = "serviceAccount:mocked@my-project.iam.gserviceaccount.com"
  }
}

mock_resource "google_cloudfunctions2_function" {
  defaults = {
    service_config = {
      uri = "https://mocked-uc.a.run.app"
    }
  }
}
