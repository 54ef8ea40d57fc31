"""Runs as JSON documents and pages."""
