# State in a bucket: copy this file beside versions.tf. Each environment has a prefix of its own:
#   terraform init -reconfigure -backend-config=examples/dev.gcs.tfbackend
terraform {
  backend "gcs" {}
}
