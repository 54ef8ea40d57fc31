"""Schedulers, and what they share."""
