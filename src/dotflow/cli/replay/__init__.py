"""A step of a past run, run again."""
