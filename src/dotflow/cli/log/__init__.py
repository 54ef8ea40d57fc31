"""Reading logs: files, records, and how they are shown."""
