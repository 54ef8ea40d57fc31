"""A module for each library of arrays and data frames, of which `registry` chooses one.

This file is all that the rest of the codec loads before a value of one of these libraries comes.
"""

from typing import Final

from dotflow.codec.types.classes import module_of, mro_of

#: The tags of the libraries' values.
TAG_OF: Final = {"numpy": "$numpy", "pandas": "$pandas", "polars": "$polars", "pyarrow": "$arrow"}


def tag_for(cls: type) -> str:
    """Returns the tag of the library that a class, or the first base, is from; empty if there is none."""
    tags = (TAG_OF.get(module_of(base).partition(".")[0], "") for base in mro_of(cls))
    return next(filter(None, tags), "")
