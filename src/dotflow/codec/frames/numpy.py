"""NumPy's arrays and scalars.

An array is `{"dtype": "<f8", "shape": [2, 3], "data": ...}`, with `"order": "F"` where it lies in memory that way; the
data are its bytes, in base 64 or beside the document. An array of variable-width strings has `"items"` in place of
these. A scalar is `{"dtype": "<f8", "value": 0.5}`, or has `"bytes"`, in base 64, where JSON has no exact word for it.

What comes back can be written to and owns its memory, whether the original did or not.
"""

import math
from typing import Any, Final

from dotflow.codec.frames.dtypes import build_dtype, describe_dtype
from dotflow.codec.frames.ipc import pack_bytes, unpack_bytes
from dotflow.codec.frames.pending import Blob, Inner, decoded
from dotflow.codec.parts import BYTES
from dotflow.codec.types.classes import NotEncodable
from dotflow.codec.types.scalars import read_buffer, read_bytes, write_bytes

#: The kinds of scalars that JSON may have a word for, and the type of that word.
_WORDS: Final = {"b": bool, "i": int, "u": int, "f": float, "U": str, "S": bytes}


def describe(value: Any) -> dict[str, Any]:
    """An array or a scalar, as JSON with what is to be encoded in it. Raises NotEncodable."""
    import numpy as np

    if type(value) is np.ndarray:
        return _strings(value) if value.dtype.char == "T" else _array(value)
    if isinstance(value, np.ndarray):
        raise NotEncodable("it is more than an array; return the plain arrays that it is made of, np.asarray(...)")
    if isinstance(value, np.generic):
        return _scalar(value)
    raise NotEncodable("of NumPy, arrays and scalars are kept")


def build(payload: dict[str, Any]) -> Any:
    """The opposite of `describe`, from what has been decoded. Raises ValueError, TypeError or KeyError."""
    if "shape" not in payload:
        return _build_scalar(payload)
    if "items" in payload:
        return _build_strings(payload)
    data = memoryview(read_buffer(payload["data"]))
    return _build_array(build_dtype(payload["dtype"]), data, *_layout_of(payload))


def bytes_of(array: Any) -> Any:
    """The bytes of an array, as an Arrow array: in the order that they lie in, if they lie together."""
    return pack_bytes(_view(array))


def build_array(dtype: Any, values: Any, shape: tuple[int, ...]) -> Any:
    """The opposite of `bytes_of`. Raises ValueError or TypeError."""
    return _build_array(dtype, unpack_bytes(values), shape)


def _view(array: Any) -> memoryview:
    """The bytes of an array, which are not copied if they lie together."""
    import numpy as np

    flat = array.ravel(order=_order_of(array))
    return memoryview(flat.view(np.uint8) if flat.size else b"")


def _build_array(dtype: Any, view: memoryview, shape: tuple[int, ...], order: str = "C") -> Any:
    import numpy as np

    if math.prod(shape) * dtype.itemsize != len(view) or dtype.itemsize == 0:
        raise ValueError("its shape and its bytes don't fit together")
    return np.ndarray(shape, dtype, buffer=view, order=order).copy(order="K")


def _array(array: Any) -> dict[str, Any]:
    if array.dtype.itemsize == 0:
        raise NotEncodable("there is nothing in its items")
    found = {"dtype": describe_dtype(array.dtype), "shape": list(array.shape)}
    if _order_of(array) == "F":
        found["order"] = "F"
    return {**found, "data": Blob(_view(array), BYTES)}


def _order_of(array: Any) -> str:
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"


def _layout_of(payload: dict[str, Any]) -> tuple[tuple[int, ...], str]:
    shape, order = payload["shape"], payload.get("order", "C")
    if type(shape) is not list or not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError("its shape is none")
    if order not in ("C", "F"):
        raise ValueError("its order is none")
    return tuple(shape), order


def _strings(array: Any) -> dict[str, Any]:
    dtype = array.dtype
    found: dict[str, Any] = {"shape": list(array.shape)}
    if _order_of(array) == "F":
        found["order"] = "F"
    if not dtype.coerce:
        found["coerce"] = False
    if hasattr(dtype, "na_object"):
        if isinstance(dtype.na_object, str):
            raise NotEncodable("a text stands for what is missing in it")
        found["missing"] = Inner(dtype.na_object, ".dtype.na_object")
    return {**found, "items": Inner(array.ravel(order=_order_of(array)).tolist())}


def _build_strings(payload: dict[str, Any]) -> Any:
    import numpy as np

    shape, order = _layout_of(payload)
    options = {"coerce": payload.get("coerce", True)}
    if "missing" in payload:
        options["na_object"] = payload["missing"]
    items = np.fromiter(payload["items"], object, len(payload["items"]))
    return items.astype(np.dtypes.StringDType(**options)).reshape(shape, order=order).copy(order="K")


def _scalar(value: Any) -> dict[str, Any]:
    if type(value) is not value.dtype.type:
        raise NotEncodable("it is more than a NumPy scalar; return a plain one")
    found: dict[str, Any] = {"dtype": describe_dtype(value.dtype)}
    word = _word_for(value)
    if type(word) is _WORDS.get(value.dtype.kind) and word == word:
        found["value"] = Inner(word)
    else:  # also for a nan, of which there are many
        found["bytes"] = write_bytes(value.tobytes())
    again = _build_scalar(decoded(found))
    if type(again) is not type(value) or again.dtype != value.dtype or again.tobytes() != value.tobytes():
        raise NotEncodable("NumPy makes something else of it")
    return found


def _word_for(value: Any) -> Any:
    """The scalar as Python has it. `item` cuts off what ends in zeros."""
    return value[:] if value.dtype.kind in "US" else value.item()


def _build_scalar(payload: dict[str, Any]) -> Any:
    import numpy as np

    dtype = build_dtype(payload["dtype"])
    if "value" in payload:
        if type(payload["value"]) is not _WORDS.get(dtype.kind):
            raise TypeError("it is of another type than its dtype")
        return dtype.type(payload["value"])
    data = read_bytes(payload["bytes"])
    if len(data) != dtype.itemsize:
        raise ValueError("its bytes are not those of one value")
    return np.frombuffer(data, dtype)[0]
