"""A Report in, text out: one pure `render()` for each format."""
