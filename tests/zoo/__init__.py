"""Small applications, each with one planted leak, each beside a twin without it."""
