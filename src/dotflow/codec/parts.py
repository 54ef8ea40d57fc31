"""Large values beside a document: raw bytes, Arrow streams and pickles, which the document names with their checksums.

    "parts": [{"name": "3.5f0c9a2104e7d8b1.bin", "size": 24000000, "sha256": "..."}],

In the value, `{"$part": 0}` stands for the bytes of the first one. The storage decides where a part lies.
"""

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

from dotflow.errors import CheckpointUnreadable

LARGE: Final = 1 << 16  # bytes; longer data can lie beside the document
BYTES_SUFFIX: Final = ".bin"
STREAM_SUFFIX: Final = ".arrows"  # arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format
PICKLE_SUFFIX: Final = ".pickle"


class Raw(NamedTuple):
    """A large value on its way into a storage.

    Attributes:
        data: Its bytes. They may be those of the value itself.
        suffix: The end of the name of a file that holds them.
    """

    data: memoryview
    suffix: str

    def copy(self) -> bytes | memoryview:
        """Returns bytes that nothing can change any more: a copy only where something could."""
        if type(self.data.obj) is bytes:
            return self.data.obj
        return self.data if self.suffix == STREAM_SUFFIX else bytes(self.data)  # a stream is dotflow's own


class Blob(NamedTuple):
    """A large value in a storage, as the document describes it.

    Attributes:
        name: Its name in the storage.
        size: Bytes.
        sha256: Their checksum, in hexadecimal digits.
    """

    name: str
    size: int
    sha256: str


#: Writes a part, before the document that names it.
Put = Callable[[Raw], Blob]
#: Reads a part. The second argument is the size of the parts before it. An OSError or a wrong size is damage.
Fetch = Callable[[Blob, int], "bytes | None"]


class Parts:
    """The parts of a document that is read.

    Args:
        description: The document's field "parts".
        fetch: Reads one.
    """

    def __init__(self, description: object, fetch: Fetch) -> None:
        """Raises CheckpointUnreadable if the description is invalid."""
        parts = _parts(description)
        if len({part.name for part in parts}) != len(parts):
            raise CheckpointUnreadable("it names a part twice")
        self._remaining = dict(enumerate(parts))
        self._starts = [sum(part.size for part in parts[:end]) for end in range(len(parts))]
        self._fetch = fetch

    def take(self, number: object) -> bytes:
        """Returns the bytes of a part, checked. Each can be taken once, so that a value is no larger than its parts."""
        if type(number) is not int or number not in self._remaining:
            raise CheckpointUnreadable("it uses a part twice, or one that it doesn't name")
        part = self._remaining.pop(number)
        try:
            data = self._fetch(part, self._starts[number])
        except (OSError, MemoryError) as error:
            cause = error.strerror if isinstance(error, OSError) else "it is larger than the memory"
            raise CheckpointUnreadable(f"its part {part.name!r} can't be read: {cause}") from error
        if data is None:
            raise CheckpointUnreadable(f"its part {part.name!r} is missing")
        if len(data) != part.size or sha256(data).hexdigest() != part.sha256:
            raise CheckpointUnreadable(f"its part {part.name!r} was cut off, damaged or changed")
        return data

    def check_all_taken(self) -> None:
        """Raises CheckpointUnreadable if the value doesn't use each part."""
        if self._remaining:
            raise CheckpointUnreadable("it names parts that its value doesn't use")


def describe(parts: Sequence[Blob]) -> str:
    """Returns the field "parts" of a document."""
    return json.dumps([part._asdict() for part in parts])


def names_in(description: object) -> list[str]:
    """Returns the names of the parts that are described. Raises CheckpointUnreadable."""
    return [part.name for part in _parts(description)]


def _parts(description: object) -> list[Blob]:
    if type(description) is not list:
        raise CheckpointUnreadable("its list of parts is invalid")
    return [_part(fields) for fields in description]


def _part(fields: Any) -> Blob:
    if type(fields) is dict and fields.keys() == set(Blob._fields):
        part = Blob(**fields)
        if [type(field) for field in part] == [str, int, str] and part.size >= 0:
            return part
    raise CheckpointUnreadable("its list of parts is invalid")
