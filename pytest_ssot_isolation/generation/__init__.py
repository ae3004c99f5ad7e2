"""What users do: look-alike ids and keys, values, and programs."""
