"""The Terraform configuration, and what it is told about a bundle: its workflows, their sources, what the store needs."""
