"""Runs from outside: those that are queued, served, cancelled, paused and resumed."""
