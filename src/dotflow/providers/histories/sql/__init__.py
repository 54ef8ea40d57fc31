"""The history and its queue in SQL: one text for all databases, each of which has a `Database` and a `Presence`."""
