"""The Terraform configuration and its variables: a bundle's workflows, their sources, and the store's indexes."""
