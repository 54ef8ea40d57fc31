"""The storage in SQLite."""
