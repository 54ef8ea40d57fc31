"""Storages, and what they share."""
