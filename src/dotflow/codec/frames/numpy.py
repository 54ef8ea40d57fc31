"""NumPy's arrays and scalars.

An array is `{"dtype": "<f8", "shape": [2, 3], "data": ...}`, with `"order": "F"` where it lies in memory that way.
The data are its bytes, in base 64 or beside the document. An array of variable-width strings has `"items"` instead.
A scalar is `{"dtype": "<f8", "value": 0.5}`, or has `"bytes"` in base 64, where JSON can't write it exactly.

A decoded array can be written to and owns its memory, whether the original did or not.
"""

import math
from typing import Any, Final

from dotflow.codec.frames.dtypes import build_dtype, describe_dtype
from dotflow.codec.frames.pending import Blob, Pending, decoded
from dotflow.codec.parts import BYTES_SUFFIX
from dotflow.codec.types.classes import NotEncodable
from dotflow.codec.types.scalars import read_buffer, read_bytes, write_bytes

#: The kinds of scalars that JSON may write, and the Python types that they are written as.
_PYTHON_TYPES: Final = {"b": bool, "i": int, "u": int, "f": float, "U": str, "S": bytes}


def describe(value: Any) -> dict[str, Any]:
    """Describes an array or a scalar as JSON. Raises NotEncodable."""
    import numpy as np

    if isinstance(value, np.generic):
        return _describe_scalar(value)
    if not isinstance(value, np.ndarray):
        raise NotEncodable("of NumPy, arrays and scalars are kept")
    if type(value) is not np.ndarray:
        raise NotEncodable("it is more than an array; return the plain arrays that it is made of, np.asarray(...)")
    layout = {"shape": list(value.shape), **({"order": "F"} if _order_of(value) == "F" else {})}
    if value.dtype.char == "T":
        return {**layout, **_describe_strings(value)}
    if value.dtype.itemsize == 0:
        raise NotEncodable("there is nothing in its items")
    return {"dtype": describe_dtype(value.dtype), **layout, "data": Blob(bytes_of(value), BYTES_SUFFIX)}


def build(payload: dict[str, Any]) -> Any:
    """Builds what `describe` described. Raises ValueError, TypeError or KeyError."""
    import numpy as np

    if "shape" not in payload:
        return _build_scalar(payload)
    shape, order = tuple(payload["shape"]), payload.get("order", "C")
    if "items" not in payload:
        return build_array(build_dtype(payload["dtype"]), memoryview(read_buffer(payload["data"])), shape, order)
    missing = {"na_object": payload["missing"]} if "missing" in payload else {}
    dtype = np.dtypes.StringDType(coerce=payload.get("coerce", True), **missing)
    items = np.fromiter(payload["items"], object, len(payload["items"]))
    return items.astype(dtype).reshape(shape, order=order).copy(order="K")


def bytes_of(array: Any) -> memoryview:
    """Returns the bytes of an array in the order of its memory, without a copy if they lie together."""
    import numpy as np

    flat = array.ravel(order=_order_of(array))
    return memoryview(flat.view(np.uint8) if flat.size else b"")


def build_array(dtype: Any, data: memoryview, shape: tuple[int, ...], order: str = "C") -> Any:
    """Builds an array of its own memory from what `bytes_of` returned. Raises ValueError or TypeError."""
    import numpy as np

    if dtype.itemsize == 0 or math.prod(shape) * dtype.itemsize != len(data) or order not in ("C", "F"):
        raise ValueError("its shape doesn't fit its bytes")
    return np.ndarray(shape, dtype, buffer=data, order=order).copy(order="K")


def _order_of(array: Any) -> str:
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"


def _describe_strings(array: Any) -> dict[str, Any]:
    dtype = array.dtype
    options: dict[str, Any] = {} if dtype.coerce else {"coerce": False}
    if hasattr(dtype, "na_object"):
        if isinstance(dtype.na_object, str):
            raise NotEncodable("a text stands for a missing string in it")
        options["missing"] = Pending(dtype.na_object, ".dtype.na_object")
    return {**options, "items": Pending(array.ravel(order=_order_of(array)).tolist())}


def _describe_scalar(value: Any) -> dict[str, Any]:
    if type(value) is not value.dtype.type:
        raise NotEncodable("it is more than a NumPy scalar; return a plain one")
    description: dict[str, Any] = {"dtype": describe_dtype(value.dtype)}
    item = value[:] if value.dtype.kind in "US" else value.item()  # `item` would cut off zeros at the end
    if type(item) is _PYTHON_TYPES.get(value.dtype.kind) and item == item:
        description["value"] = Pending(item)
    else:  # also for a nan, of which there are many
        description["bytes"] = write_bytes(value.tobytes())
    again = _build_scalar(decoded(description))
    if type(again) is not type(value) or again.dtype != value.dtype or again.tobytes() != value.tobytes():
        raise NotEncodable("NumPy builds another value from its bytes")
    return description


def _build_scalar(payload: dict[str, Any]) -> Any:
    dtype = build_dtype(payload["dtype"])
    if "value" not in payload:
        return build_array(dtype, memoryview(read_bytes(payload["bytes"])), (1,))[0]
    if type(payload["value"]) is not _PYTHON_TYPES.get(dtype.kind):
        raise TypeError("it is of another type than its dtype")
    return dtype.type(payload["value"])
