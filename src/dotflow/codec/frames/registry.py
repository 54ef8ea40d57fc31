"""The values of data frame libraries: NumPy, pandas, Polars and Arrow.

`{"$numpy": ...}`, `{"$pandas": ...}`, `{"$polars": ...}` and `{"$arrow": ...}` have a module each, which says in its
docstring how its values are written. No library is imported before one of its values comes.

A value comes back as it was, or is refused when it is written. Reading imports nothing by a name in the file and runs
no code of it. A damaged or crafted file is an error: memory is taken for the bytes in it, not for the lengths that it
claims.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from dotflow.codec.frames import TAG_OF, numpy, pandas, polars, pyarrow, tag_for
from dotflow.codec.frames.pending import Description, fill_in
from dotflow.codec.types.classes import NotEncodable
from dotflow.core.failure import name_of
from dotflow.core.text import shorten
from dotflow.errors import CheckpointUnreadable, ValueNotStorable

_MODULES: Final[dict[str, ModuleType]] = {
    TAG_OF[name]: module
    for name, module in (("numpy", numpy), ("pandas", pandas), ("polars", polars), ("pyarrow", pyarrow))
}

_INSTALL: Final = {"pyarrow": "'dotflow[arrow]'"}  # others by their own name
_MAX_REASON: Final = 200  # characters of a library's message


def encode(value: Any, encode_inner: Callable[[Any], Any], put_part: Callable[[memoryview, str], Any]) -> Description:
    """Encodes a value as JSON, under its tag.

    Args:
        value: A value of one of the libraries.
        encode_inner: Encodes the Python values inside it.
        put_part: Puts large data beside the JSON and returns a reference; None for data that stay in the JSON.

    Raises:
        ValueNotStorable: The value would not come back as it was.
    """
    tag = tag_for(type(value))
    try:
        description = _MODULES[tag].describe(value)
    except NotEncodable as error:
        raise ValueNotStorable(name_of(type(value)), "", str(error)) from error
    except RecursionError:
        raise  # the caller tries again on a deeper stack
    except Exception as error:  # the library's own, about a value that it can't write
        raise ValueNotStorable(name_of(type(value)), "", _reason_of(error)) from error
    return {tag: fill_in(description, encode_inner, put_part)}


def decode(tag: str, payload: Any) -> Any:
    """Decodes the payload of a tag, whose inner values are decoded already.

    Raises:
        CheckpointUnreadable: It is damaged, or the library is not installed.
    """
    try:
        return _MODULES[tag].build(payload)
    except RecursionError:
        raise  # the caller tries again on a deeper stack
    except ImportError as error:
        raise CheckpointUnreadable(f"it holds a value of {tag[1:]}: {_reason_of(error)}") from error
    except Exception as error:  # the library's own, about bytes that may be anything
        raise CheckpointUnreadable(f"the value under {tag} is invalid ({_reason_of(error)})") from error


def _reason_of(error: Exception) -> str:
    if isinstance(error, ImportError) and error.name:
        name = error.name.partition(".")[0]
        return f"{error}: pip install {_INSTALL.get(name, name)}"
    return shorten(
        str(error) if type(error) in (ValueError, TypeError) else f"{name_of(type(error))}: {error}", _MAX_REASON
    )
