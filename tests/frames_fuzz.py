"""Decodes damaged and forged arrays and frames. Run: python tests/frames_fuzz.py --cases 10000

Each case is a value of NumPy, pandas, Polars or pyarrow whose bytes are flipped, cut, exchanged with those of another
value or forged: lengths, metadata, dictionaries, nesting. Decoding raises CheckpointUnreadable, or returns a value that
can be used. It never raises anything else, ends the process, or takes more memory than the limit.
"""

import argparse
import copy
import io
import json
import os
import random
import resource
import sys
from binascii import a2b_base64, b2a_base64
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "src")]

import numpy as np  # noqa: E402 (found through the path that was just set)
import pandas as pd  # noqa: E402
import polars as pl  # noqa: E402
import pyarrow as pa  # noqa: E402

from dotflow.codec import decode, encode  # noqa: E402
from dotflow.errors import CheckpointUnreadable  # noqa: E402

MEMORY: Final = 1 << 30  # bytes beyond what the process has at the beginning
MAX_USED: Final = 10_000  # rows of a value that is converted to Python's
#: Numbers in the place of a length, an offset or a type.
CLAIMS: Final = (0, 1, 0x7F, 0xFF, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1)
SCALARS: Final[tuple[Any, ...]] = (
    None,
    True,
    -1,
    0,
    2**31,
    2**63,
    10**30,
    0.5,
    "",
    "x",
    "\ud800",
    "O",
    [],
    [0],
    {},
    {"at": 0},
)

MOMENT: Final = datetime(2026, 11, 28, 2, tzinfo=UTC)
WORDS: Final = ["x", None, "a longer text, beyond twelve bytes"]


def arrow_columns() -> Iterator[tuple[str, Any]]:
    """Yields a column for each layout of Arrow."""
    yield "numbers", pa.array([1, None, 3])
    yield "text", pa.array(WORDS)
    yield "views", pa.array(WORDS, pa.string_view())
    yield "bools", pa.array([True, None, False])
    yield "nulls", pa.nulls(3)
    yield "decimals", pa.array([Decimal("1.5"), None, Decimal(2)])
    yield "times", pa.array([MOMENT, None, MOMENT], pa.timestamp("us", "Europe/Berlin"))
    yield "lists", pa.array([[1], None, [2, 3]])
    yield "list_views", pa.array([[1], None, [2, 3]], pa.list_view(pa.int64()))
    yield "fixed", pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int64(), 2))
    yield "structs", pa.array([{"a": 1, "b": ["x"]}, None, {"a": None, "b": []}])
    yield "maps", pa.array([[("x", 1)], None, []], pa.map_(pa.string(), pa.int64()))
    yield "dictionary", pa.array(WORDS).dictionary_encode()
    yield "nested_dictionary", pa.ListArray.from_arrays([0, 1, 2, 3], pa.array(WORDS).dictionary_encode())
    yield "runs", pa.RunEndEncodedArray.from_arrays([2, 3], ["x", "y"])
    types, offsets = pa.array([0, 1, 0], pa.int8()), pa.array([0, 0, 1], pa.int32())
    yield "dense", pa.UnionArray.from_dense(types, offsets, [pa.array([1, 2]), pa.array(["x"])])
    yield "sparse", pa.UnionArray.from_sparse(types, [pa.array([1, 2, 3]), pa.array(WORDS)])


def values() -> list[Any]:
    """Returns the values that are damaged."""
    arrow = dict(arrow_columns())
    deep = pa.array([1])
    for _ in range(40):
        deep = pa.LargeListArray.from_arrays([0, len(deep)], deep)
    batches = [pa.record_batch({"a": [1, 2], "b": ["x", "y"]}) for _ in range(3)]
    frame = pd.DataFrame({
        "number": [1, 2, 3],
        "masked": pd.array([1, None, 3], "Int64"),
        "text": pd.array(WORDS, "string"),
        "category": pd.Categorical(["x", "y", "x"]),
        "moment": pd.to_datetime([MOMENT] * 3).tz_convert("Europe/Berlin"),
        "period": pd.period_range("2024", periods=3, freq="M"),
        "interval": pd.interval_range(0, 3),
        "any": [1, "x", None],
    })  # fmt: skip
    columns: dict[str, Any] = {
        "text": WORDS,
        "lists": [[1], None, [2, 3]],
        "structs": [{"x": 1, "y": "z"}, None, {"x": 2, "y": None}],
        "decimal": [Decimal("1.5"), None, Decimal(2)],
        "binary": [b"x", None, b"yz" * 20],
        "date": [date(2024, 1, 1), None, None],
        "time": [time(1, 2), None, None],
        "span": [timedelta(1), None, None],
        "moment": [MOMENT, None, MOMENT],
    }
    return [
        pa.table(arrow),
        *arrow.values(),
        pa.table({"deep": deep}, metadata={"about": "x" * 50}),
        pa.Table.from_batches(batches),
        pl.DataFrame(columns),
        pl.Series("category", ["x", "y", None], dtype=pl.Categorical),
        pl.Series("enum", ["x", "y"], dtype=pl.Enum(["x", "y"])),
        pl.Series("array", [[1, 2], [3, 4]], dtype=pl.Array(pl.Int64, 2)),
        pl.concat([pl.DataFrame({"a": [1]}), pl.DataFrame({"a": [2]})], rechunk=False),
        frame,
        frame.set_index(["number", "category"]),
        frame["moment"],
        pd.MultiIndex.from_product([["x", "y"], [1, 2]]),
        pd.Series(["x", "y"], dtype=pd.ArrowDtype(pa.string())),
        np.arange(24).reshape(2, 3, 4),
        np.array([("x", 1.5)], dtype=[("a", "U3"), ("b", "<f8")]),
        np.array(["x", "longer"], dtype=np.dtypes.StringDType()),
        np.datetime64("2024-01-01"),
    ]


# ---- What is done to them


def flip(data: bytearray, dice: random.Random, others: list[bytes]) -> bytearray:
    """Changes bits."""
    for _ in range(dice.choice([1, 1, 2, 4, 16])):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return data


def claim(data: bytearray, dice: random.Random, others: list[bytes]) -> bytearray:
    """Writes another number: a length, an offset, a type or a value."""
    for _ in range(dice.choice([1, 1, 2, 3])):
        width = dice.choice([1, 2, 4, 8])
        place = dice.randrange(max(1, len(data) // width)) * width
        number = dice.choice([*CLAIMS, dice.randrange(64), 2 ** (8 * width) - dice.randrange(1, 64)])
        data[place : place + width] = (number % 2 ** (8 * width)).to_bytes(width, "little")
    return data


def cut(data: bytearray, dice: random.Random, others: list[bytes]) -> bytearray:
    """Takes bytes away, at the end or anywhere, or adds some."""
    place = dice.randrange(len(data))
    size = dice.choice([1, 4, 8, 64, len(data)])
    if dice.random() < 0.3:
        return data[:place] + data[place : place + size] * 2 + data[place + size :]
    return data[:place] + data[place + size :]


def splice(data: bytearray, dice: random.Random, others: list[bytes]) -> bytearray:
    """Exchanges whole messages with those of another stream, so that its schema, dictionaries and batches differ."""
    mine, theirs = messages_in(bytes(data)), messages_in(dice.choice(others))
    for _ in range(dice.choice([1, 2])):
        source = dice.choice([mine, theirs])
        if source and mine:
            place = dice.randrange(len(mine))
            mine[place : place + dice.randrange(2)] = [dice.choice(source)]
    return bytearray(b"".join(mine))


def messages_in(data: bytes) -> list[bytes]:
    """Returns the messages of a stream, with its end; the data as one where they are none."""
    found: list[bytes] = []
    source = pa.BufferReader(data)
    start = 0
    try:
        for _ in pa.ipc.MessageReader.open_stream(source):
            found.append(data[start : source.tell()])
            start = source.tell()
    except (pa.ArrowException, OSError):
        pass
    return [*found, data[start:]]


DAMAGES: Final[tuple[Callable[[bytearray, random.Random, list[bytes]], bytearray], ...]] = (
    flip,
    claim,
    claim,
    cut,
    splice,
)


def forge(payload: Any, dice: random.Random) -> Any:
    """Changes one place of a payload's JSON: another value, the value of another place, or none."""
    payload = copy.deepcopy(payload)
    places = list(places_in(payload))
    if places:
        holder, key = dice.choice(places)
        other = dice.choice(places)
        if dice.random() < 0.1:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(dice.choice([dice.choice(SCALARS), other[0][other[1]]]))
    return payload


def places_in(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yields each place in JSON as its holder and its key."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        yield node, key
        yield from places_in(value)


def is_large(text: object) -> bool:
    """Whether a text is the bytes of an array or a stream."""
    return isinstance(text, str) and len(text) > 24 and " " not in text


def make_case(number: int, texts: list[str], streams: list[bytes]) -> str:
    """Returns the JSON of a case, the same for the same number."""
    dice = random.Random(number)
    payload = json.loads(dice.choice(texts))
    data = [(holder, key) for holder, key in places_in(payload) if key in ("ipc", "data") and is_large(holder[key])]
    if data and dice.random() < 0.8:
        holder, key = dice.choice(data)
        damaged = dice.choice(DAMAGES)(bytearray(a2b_base64(holder[key])), dice, streams)
        holder[key] = b2a_base64(damaged, newline=False).decode()
    else:
        payload = forge(payload, dice)
    return json.dumps(payload)


# ---- What is expected


def use(value: Any) -> None:
    """Reads each element, as a step would."""
    repr(value)
    if getattr(value, "ndim", 1) and hasattr(value, "__len__") and len(value) > MAX_USED:
        return
    for name in ("to_pylist", "to_dicts", "to_list", "tolist", "to_dict"):
        if hasattr(value, name):
            getattr(value, name)()
            return


def memory() -> int:
    """Returns the bytes of memory that the process has now."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    texts = [encode(value) for value in values()]
    payloads = [payload for text in texts for payload in json.loads(text).values()]
    streams = [a2b_base64(payload["ipc"]) for payload in payloads if isinstance(payload, dict) and "ipc" in payload]
    for text in texts:
        use(decode(text))  # and every library has its threads
    limit = memory() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    counts: Counter[str] = Counter()
    for number in range(arguments.first, arguments.first + arguments.cases):
        os.write(2, f"\r{number}".encode())  # the last one before a crash
        text = make_case(number, texts, streams)
        with redirect_stderr(io.StringIO()):
            try:
                value = decode(text)
            except CheckpointUnreadable as error:
                counts["out of memory" if "MemoryError" in error.reason else "unreadable"] += 1
                continue
            except BaseException as error:
                print(f"case {number}: {type(error).__name__}: {error}"[:500], flush=True)
                counts["raised"] += 1
                continue
        try:
            use(value)
            counts["used"] += 1
        except Exception as error:
            counts[f"used: {type(error).__name__}"] += 1
        except BaseException as error:
            print(f"case {number}, used: {type(error).__name__}: {error}"[:500], flush=True)
            counts["used: raised"] += 1
    print(dict(counts), f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB at most")
    return int(bool(counts["raised"] or counts["out of memory"]))


if __name__ == "__main__":
    sys.exit(main())
