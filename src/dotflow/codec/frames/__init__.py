"""A module for each library of arrays and data frames, and what they share: dtypes, Arrow's streams, the values inside.

`dotflow.codec.arrow` is the door to them.
"""
