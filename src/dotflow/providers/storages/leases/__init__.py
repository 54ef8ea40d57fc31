"""Leases: one process at a time on a shared storage."""
