"""Read a history and say what it shows; no I/O, no clock."""
