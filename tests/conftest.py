"""What all tests share."""

# Our own plugin must not stand here: its entry point's name is the one spelling under which it loads once.
pytest_plugins = ["pytester"]
