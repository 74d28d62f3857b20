"""The dashboard: pages rendered on the server, over the same reads and actions as API v1."""
