"""A real server, then an empty database in it: given, in a container, or embedded."""
