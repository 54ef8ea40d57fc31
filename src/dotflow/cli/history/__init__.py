"""Runs of the past, as the command line shows them."""
