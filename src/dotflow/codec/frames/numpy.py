"""NumPy's arrays and scalars.

An array is `{"dtype": "<f8", "shape": [2, 3], "data": ...}`, with `"order": "F"` where it lies in memory that way.
The data are its bytes, in base 64 or beside the document. An array of variable-width strings has `"items"` instead.
A scalar is `{"dtype": "<f8", "value": 0.5}`, or has `"bytes"` in base 64, where JSON can't write it exactly.

A plain dtype is NumPy's own text, such as `"<M8[ns]"`. A type that has the size of another, such as longlong, has its
letter instead, `"<q"`. longdouble also has the length of its mantissa, `"<g/63"`, since its bits mean other numbers on
other processors. `{"base": ..., "shape": [3]}` is an array in each item. A structured dtype has the names, formats,
offsets, itemsize and titles that np.dtype takes, and `"align"` if it is aligned.

Only dtypes of these forms reach NumPy, and none of them can hold objects.

A decoded array can be written to and owns its memory, whether the original did or not.
"""

import math
import re
from typing import Any, Final

from dotflow.codec.frames.pending import Blob, Description, Pending, decoded
from dotflow.codec.parts import BYTES_SUFFIX
from dotflow.codec.types.classes import NotEncodable
from dotflow.codec.types.scalars import read_buffer, read_bytes, write_bytes

_PLAIN: Final = re.compile(
    r"\|b1|\|[iu]1|[<>](?:[iu][248]|f[248]|c8|c16|[iIlLqQ]|U[0-9]+|[mM]8(?:\[[0-9]*(?:[YMWDhms]|[munpfa]s)\])?)|\|[SV][0-9]+"
)
_LONG: Final = re.compile(r"([<>][gG])/([0-9]+)")


def describe_dtype(dtype: Any) -> Any:
    """Describes a dtype as JSON. Raises NotEncodable."""
    if dtype.hasobject:
        raise NotEncodable("it holds Python objects; return a list")
    if dtype.metadata:
        raise NotEncodable("its dtype has metadata")
    description = _describe(dtype)
    try:
        again = build_dtype(decoded(description))
    except (ValueError, TypeError) as error:
        raise NotEncodable(f"its dtype {dtype!r} is not kept") from error
    if again != dtype or again.type is not dtype.type or again.isalignedstruct != dtype.isalignedstruct:
        raise NotEncodable(f"its dtype {dtype!r} is not kept")
    return description


def build_dtype(description: Any) -> Any:
    """Builds what `describe_dtype` described. Raises ValueError, TypeError or KeyError."""
    import numpy as np

    if type(description) is str:
        long = _LONG.fullmatch(description)
        if long is not None and int(long[2]) == np.finfo(np.longdouble).nmant:
            return np.dtype(long[1])
        if _PLAIN.fullmatch(description) is None:
            raise ValueError("its dtype is unknown, or of another processor")
        return np.dtype(description)
    if type(description) is not dict:
        raise TypeError("its dtype is invalid")
    if "base" in description:
        return np.dtype((build_dtype(description["base"]), tuple(description["shape"])))
    fields = {**description, "formats": list(map(build_dtype, description["formats"]))}
    align = fields.pop("align", False) is True
    if not all(name is None or type(name) is str for name in [*fields["names"], *fields.get("titles", ())]):
        raise TypeError("its dtype has a name that is not text")
    return np.dtype(fields, align=align)


def _describe(dtype: Any) -> Any:
    import numpy as np

    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return {"base": describe_dtype(base), "shape": list(shape)}
    if dtype.names is not None:
        fields = [dtype.fields[name] for name in dtype.names]
        description = {
            "names": Pending(list(dtype.names), ".dtype.names"),
            "formats": [describe_dtype(field[0]) for field in fields],
            "offsets": [field[1] for field in fields],
            "itemsize": dtype.itemsize,
        }
        if any(len(field) > 2 for field in fields):
            description["titles"] = Pending([field[2] if len(field) > 2 else None for field in fields], ".dtype.fields")
        return {**description, "align": True} if dtype.isalignedstruct else description
    if dtype.char in "gG":
        return f"{dtype.str[0]}{dtype.char}/{np.finfo(np.longdouble).nmant}"
    if _PLAIN.fullmatch(dtype.str) is not None and np.dtype(dtype.str).char != dtype.char:
        return dtype.str[0] + dtype.char
    return dtype.str


#: The kinds of scalars that JSON may write, and the Python types that they are written as.
_PYTHON_TYPES: Final = {"b": bool, "i": int, "u": int, "f": float, "U": str, "S": bytes}


def describe(value: Any) -> Description:
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


def build(payload: Description) -> Any:
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


def _describe_strings(array: Any) -> Description:
    dtype = array.dtype
    options: Description = {} if dtype.coerce else {"coerce": False}
    if hasattr(dtype, "na_object"):
        if isinstance(dtype.na_object, str):
            raise NotEncodable("a text stands for a missing string in it")
        options["missing"] = Pending(dtype.na_object, ".dtype.na_object")
    return {**options, "items": Pending(array.ravel(order=_order_of(array)).tolist())}


def _describe_scalar(value: Any) -> Description:
    if type(value) is not value.dtype.type:
        raise NotEncodable("it is more than a NumPy scalar; return a plain one")
    description: Description = {"dtype": describe_dtype(value.dtype)}
    item = value[:] if value.dtype.kind in "US" else value.item()  # `item` would cut off zeros at the end
    if type(item) is _PYTHON_TYPES.get(value.dtype.kind) and item == item:
        description["value"] = Pending(item)
    else:  # also for a nan, of which there are many
        description["bytes"] = write_bytes(value.tobytes())
    again = _build_scalar(decoded(description))
    if type(again) is not type(value) or again.dtype != value.dtype or again.tobytes() != value.tobytes():
        raise NotEncodable("NumPy builds another value from its bytes")
    return description


def _build_scalar(payload: Description) -> Any:
    dtype = build_dtype(payload["dtype"])
    if "value" not in payload:
        return build_array(dtype, memoryview(read_bytes(payload["bytes"])), (1,))[0]
    if type(payload["value"]) is not _PYTHON_TYPES.get(dtype.kind):
        raise TypeError("it is of another type than its dtype")
    return dtype.type(payload["value"])
