"""pandas' scalars.

{"kind": "Timestamp", "utc": "2024-05-01T10:00:00", "unit": "us", "zone": ...}    the zone where there is one
{"kind": "Timedelta", "count": 1000, "unit": "us"}
{"kind": "Period", "freq": "M", "ordinal": 600}
{"kind": "Interval", "left": 0, "right": 1, "closed": "right"}
{"kind": "NaT"}, {"kind": "NA"}
"""

from typing import Any, Final

from dotflow.codec.frames.pandas.arrays import build_zone, describe_zone
from dotflow.codec.frames.pending import Inner

KINDS: Final = ("Timestamp", "Timedelta", "Period", "Interval", "NaT", "NA")

_UNITS: Final = ("s", "ms", "us", "ns")


def describe_scalar(kind: str, value: Any) -> dict[str, Any]:
    """A scalar, as JSON with what is to be encoded in it."""
    import pandas as pd

    if kind == "Timestamp":
        found = {"utc": str(value.asm8), "unit": value.unit}
        if value.tz is not None:
            found["zone"] = describe_zone(value.tz, ".tz")
        # With a zone, the moment says it; without one, it is not built again, and so the value is refused.
        return {**found, "fold": 1} if value.fold else found
    if kind == "Timedelta":
        return {"count": int(value.asm8.astype("int64")), "unit": value.unit}
    if kind == "Period":
        return {"freq": pd.PeriodDtype(value.freq).name[len("period[") : -1], "ordinal": value.ordinal}
    if kind == "Interval":
        return {"left": Inner(value.left, ".left"), "right": Inner(value.right, ".right"), "closed": value.closed}
    return {}


def build_scalar(kind: str, payload: dict[str, Any]) -> Any:
    """The opposite of `describe_scalar`, from what has been decoded. Raises ValueError, TypeError or KeyError."""
    import numpy as np
    import pandas as pd

    if payload.get("unit", "s") not in _UNITS:
        raise ValueError("its unit is none")
    if any(type(payload.get(part, 0)) is not int for part in ("count", "ordinal")):
        raise TypeError("its number is none")
    if kind == "Timestamp":
        moment = np.datetime64(payload["utc"], payload["unit"])
        if str(moment) != payload["utc"]:  # also for what NumPy calls moments, such as "now"
            raise ValueError("its moment is none")
        stamp = pd.Timestamp(moment)
        return stamp.tz_localize("UTC").tz_convert(build_zone(payload["zone"])) if "zone" in payload else stamp
    if kind == "Timedelta":
        return pd.Timedelta(np.timedelta64(payload["count"], payload["unit"]))
    if kind == "Period":
        return pd.Period(ordinal=payload["ordinal"], freq=payload["freq"])
    if kind == "Interval":
        return pd.Interval(payload["left"], payload["right"], payload["closed"])
    return getattr(pd, kind)
