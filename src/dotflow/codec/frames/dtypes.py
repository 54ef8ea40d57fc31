"""NumPy's dtypes as JSON.

A plain one is NumPy's own text, such as `"<M8[ns]"`. A type that has the size of another, such as longlong, has its
letter instead, `"<q"`. longdouble also has the length of its mantissa, `"<g/63"`, since its bits mean other numbers on
other processors. `{"base": ..., "shape": [3]}` is an array in each item. A structured dtype has the names, formats,
offsets, itemsize and titles that np.dtype takes, and `"align"` if it is aligned.

Only text of these forms reaches NumPy, and none of them can hold objects.
"""

import re
from typing import Any, Final

from dotflow.codec.frames.pending import Pending, decoded
from dotflow.codec.types.classes import NotEncodable

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
