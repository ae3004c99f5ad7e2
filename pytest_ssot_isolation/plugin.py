"""The pytest hooks, each a few lines that hand over."""
