"""What the Terraform configuration is told about a bundle: its workflows, their sources, what the store needs."""
