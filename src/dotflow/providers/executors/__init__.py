"""Executors: where attempts are made."""
