"""Notifiers, and what they share."""
