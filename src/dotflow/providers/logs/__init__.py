"""Logs, and how their records are written."""
