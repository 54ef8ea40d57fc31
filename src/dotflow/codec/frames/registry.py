"""The door to what data frames are made of: values of NumPy, pandas, Polars and Arrow.

`{"$numpy": ...}`, `{"$pandas": ...}`, `{"$polars": ...}` and `{"$arrow": ...}` are each written and read by a module of
their own, which says in its docstring how: numpy, pandas, polars and pyarrow, in dotflow.codec.frames. None of the
libraries is imported before one of its values comes.

A value comes back as it was, or is refused when it is written. Reading imports nothing by a name in the file and runs
nothing that the file says; what is damaged or crafted is an error, and takes no more memory than it is large.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from dotflow.codec.frames import TAG_OF, numpy, polars, pyarrow, tag_for
from dotflow.codec.frames.pandas import values as pandas_values
from dotflow.codec.frames.pending import fill_in
from dotflow.codec.text import shortened
from dotflow.codec.types.classes import NotEncodable
from dotflow.core.failure import name_of
from dotflow.errors import CheckpointUnreadable, ValueNotStorable

_MODULES: Final[dict[str, ModuleType]] = {
    TAG_OF[name]: module
    for name, module in (("numpy", numpy), ("pandas", pandas_values), ("polars", polars), ("pyarrow", pyarrow))
}

_INSTALL: Final = {"pyarrow": "'dotflow[arrow]'"}  # others by their own name
_SHOWN: Final = 200  # characters of somebody else's message


def encode(
    value: Any,
    encode_inner: Callable[[Any], Any],
    put_aside: Callable[[memoryview, str], Any] = lambda data, suffix: None,
) -> dict[str, Any]:
    """The value as JSON, under its tag.

    Args:
        value: A value of one of the four libraries.
        encode_inner: What the values inside it are encoded with, where it holds any that are Python's.
        put_aside: What stands for large data that lies beside the JSON; None for data that stays in it.

    Raises:
        ValueNotStorable: It would not come back as it was.
    """
    try:
        tag = tag_for(type(value))
        if not tag:
            raise NotEncodable("it is of none of the libraries for data frames")
        description = _MODULES[tag].describe(value)
    except NotEncodable as error:
        raise ValueNotStorable(name_of(type(value)), "", str(error)) from error
    except RecursionError:
        raise  # the caller knows a deeper stack
    except ImportError as error:
        raise ValueNotStorable(name_of(type(value)), "", _hint_for(error)) from error
    except Exception as error:  # the library's own, about a value that it can't write
        raise ValueNotStorable(name_of(type(value)), "", _told(error)) from error
    return {tag: fill_in(description, encode_inner, put_aside)}


def decode(tag: str, payload: Any) -> Any:
    """The value that `encode` was given.

    Args:
        tag: One of those in TAG_OF.
        payload: What stood under it, with the values inside already decoded.

    Raises:
        CheckpointUnreadable: It is damaged, or the library is not installed.
    """
    try:
        return _MODULES[tag].build(payload)
    except RecursionError:
        raise  # the caller knows a deeper stack
    except ImportError as error:
        raise CheckpointUnreadable(f"it holds a value of {tag[1:]}: {_hint_for(error)}") from error
    except Exception as error:  # the library's own, about bytes that may be anything
        raise CheckpointUnreadable(f"what stands under {tag} can't be read ({_told(error)})") from error


def _hint_for(error: ImportError) -> str:
    name = (error.name or "").partition(".")[0]
    return f"{error}: pip install {_INSTALL.get(name, name)}" if name else str(error)


def _told(error: Exception) -> str:
    text = str(error) if type(error) in (ValueError, TypeError) else f"{type(error).__name__}: {error}"
    return shortened(text, _SHOWN)
