"""NumPy's dtypes as JSON.

A plain one is what NumPy calls it, such as `"<M8[ns]"`. Types that have the size of another, such as longlong, have
their letter instead, `"<q"`; longdouble also the length of its mantissa, `"<g/63"`, since its bits mean different
numbers on different processors. `{"base": ..., "shape": [3]}` is an array in each item, and a structured dtype has the
names, formats, offsets, itemsize and titles that np.dtype takes, and `"align"` if it is aligned.

Only what is spelled exactly so is ever built: no crafted text reaches the other ways that NumPy has to say a dtype,
and one that holds objects can't be said at all.
"""

import re
from typing import Any, Final

from dotflow.codec.frames.pending import Inner, decoded
from dotflow.codec.types.classes import NotEncodable

_PLAIN: Final = re.compile(
    r"\|b1|\|[iu]1|[<>](?:[iu][248]|f[248]|c8|c16|[iIlLqQ]|U[0-9]+|[mM]8(?:\[[0-9]*(?:[YMWDhms]|[munpfa]s)\])?)|\|[SV][0-9]+"
)
_LONG: Final = re.compile(r"([<>][gG])/([0-9]+)")


def describe_dtype(dtype: Any) -> Any:
    """A dtype, as JSON with what is to be encoded in it. Raises NotEncodable."""
    if dtype.hasobject:
        raise NotEncodable("it holds Python objects; return a list")
    if dtype.metadata:
        raise NotEncodable("its dtype has metadata")
    found = _describe(dtype)
    try:
        again = build_dtype(decoded(found))
    except (ValueError, TypeError) as error:
        raise NotEncodable(f"its dtype can't be written down: {dtype!r}") from error
    if again != dtype or again.type is not dtype.type or again.isalignedstruct != dtype.isalignedstruct:
        raise NotEncodable(f"its dtype can't be written down: {dtype!r}")
    return found


def build_dtype(description: Any) -> Any:
    """The opposite of `describe_dtype`, from what has been decoded. Raises ValueError, TypeError or KeyError."""
    import numpy as np

    if type(description) is str:
        long = _LONG.fullmatch(description)
        if long is not None:
            if int(long[2]) != np.finfo(np.longdouble).nmant:
                raise ValueError("it holds long doubles of another processor")
            return np.dtype(long[1])
        if _PLAIN.fullmatch(description) is None:
            raise ValueError("its dtype is none")
        return np.dtype(description)
    if type(description) is not dict:
        raise TypeError("its dtype is none")
    if "base" in description:
        return np.dtype((build_dtype(description["base"]), tuple(map(_whole, description["shape"]))))
    fields = {
        "names": list(map(_text, description["names"])),
        "formats": list(map(build_dtype, description["formats"])),
        "offsets": list(map(_whole, description["offsets"])),
        "itemsize": _whole(description["itemsize"]),
    }
    if "titles" in description:
        fields["titles"] = [title if title is None else _text(title) for title in description["titles"]]
    return np.dtype(fields, align=description.get("align") is True)


def _describe(dtype: Any) -> Any:
    import numpy as np

    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return {"base": describe_dtype(base), "shape": list(shape)}
    if dtype.names is not None:
        fields = [dtype.fields[name] for name in dtype.names]
        titles = [field[2] if len(field) > 2 else None for field in fields]
        found = {
            "names": Inner(list(dtype.names), ".dtype.names"),
            "formats": [describe_dtype(field[0]) for field in fields],
            "offsets": [field[1] for field in fields],
            "itemsize": dtype.itemsize,
        }
        if any(title is not None for title in titles):
            found["titles"] = Inner(titles, ".dtype.fields")
        return {**found, "align": True} if dtype.isalignedstruct else found
    if dtype.char in "gG":
        return f"{dtype.str[0]}{dtype.char}/{np.finfo(np.longdouble).nmant}"
    if _PLAIN.fullmatch(dtype.str) is not None and np.dtype(dtype.str).char != dtype.char:
        return dtype.str[0] + dtype.char
    return dtype.str


def _whole(number: object) -> int:
    if type(number) is not int or number < 0:
        raise ValueError("its dtype has a size that is none")
    return number


def _text(name: object) -> str:
    if type(name) is not str:
        raise TypeError("its dtype has a name that is none")
    return name
