"""The history in Postgres."""
