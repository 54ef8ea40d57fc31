"""A module for each library of arrays and data frames, and what they share: dtypes, Arrow's streams, the values inside.

`dotflow.codec.frames.registry` is the door to them. What stands here is known without opening it.
"""

from typing import Final

from dotflow.codec.types.classes import module_of, mro_of

#: The tag that each library's values stand under.
TAG_OF: Final = {"numpy": "$numpy", "pandas": "$pandas", "polars": "$polars", "pyarrow": "$arrow"}


def tag_for(cls: type) -> str:
    """The tag of the library that a class is from, or else of the one that it inherits from; empty if there is none."""
    tags = (TAG_OF.get(module_of(base).partition(".")[0], "") for base in mro_of(cls))
    return next(filter(None, tags), "")
