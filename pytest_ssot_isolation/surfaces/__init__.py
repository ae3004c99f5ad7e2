"""Adapters to the application under test: what one signed-in user can do."""
