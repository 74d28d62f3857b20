"""The version of this package. A deployed function has the source and no package metadata to read it from."""

VERSION = "0.1.0"
