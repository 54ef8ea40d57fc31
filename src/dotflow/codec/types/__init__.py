"""Kinds of values that JSON has no word for."""
