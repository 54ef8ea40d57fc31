"""Runs of the command line: from options to exit code."""
