"""Reads the source of a package: definitions, imports, and state that users could share."""
