"""The version of this package: what is deployed is the source, which has no metadata to ask."""

VERSION = "0.1.0"
