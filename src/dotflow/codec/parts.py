"""Large values beside a document: raw bytes and Arrow streams, which the document names with their checksums.

    "parts": [{"name": "3.5f0c9a2104e7d8b1.bin", "size": 24000000, "sha256": "..."}],

In the value, `{"$part": 0}` stands for the bytes of the first one. Where a part lies, the storage decides.
"""

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

from dotflow.errors import CheckpointUnreadable

LARGE: Final = 1 << 16  # bytes; what is longer can lie beside the document
BYTES: Final = ".bin"
STREAM: Final = ".arrows"  # of an Arrow IPC stream: arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format


class Raw(NamedTuple):
    """A large value on its way into a storage.

    Attributes:
        data: Its bytes. They may be those of the value itself.
        suffix: How the name of a file ends that holds them.
        is_fixed: Whether nothing can change the bytes meanwhile.
    """

    data: memoryview
    suffix: str
    is_fixed: bool

    def copy(self) -> bytes | memoryview:
        """The bytes, such that nothing can change them any more. They are copied only where something could."""
        if type(self.data.obj) is bytes:
            return self.data.obj
        return self.data if self.is_fixed else bytes(self.data)


class Part(NamedTuple):
    """A large value in a storage, as the document describes it.

    Attributes:
        name: What the storage calls it.
        size: Bytes.
        sha256: The checksum of these, in hexadecimal digits.
    """

    name: str
    size: int
    sha256: str


#: Writes a part, before the document that names it.
Put = Callable[[Raw], Part]
#: Reads a part; its second argument is how many bytes the parts before it have. An OSError or a wrong size is damage.
Fetch = Callable[[Part, int], "bytes | None"]


class Parts:
    """The parts of a document that is read.

    Args:
        described: What stands under "parts" in the document.
        fetch: Reads one.
    """

    def __init__(self, described: object, fetch: Fetch) -> None:
        """Raises CheckpointUnreadable if they are not described as parts are."""
        if type(described) is not list:
            raise CheckpointUnreadable("its parts are none")
        self._left = dict(enumerate(map(_part, described)))
        if len({part.name for part in self._left.values()}) != len(self._left):
            raise CheckpointUnreadable("it names a part twice")
        self._starts = [sum(part.size for part in list(self._left.values())[:end]) for end in self._left]
        self._fetch = fetch

    def take(self, number: object) -> bytes:
        """The bytes of a part, checked; each can be taken once, so that a value is no larger than what was read."""
        if type(number) is not int or number not in self._left:
            raise CheckpointUnreadable("it has a part that it doesn't name, or twice")
        part = self._left.pop(number)
        try:
            data = self._fetch(part, self._starts[number])
        except OSError as error:
            raise CheckpointUnreadable(f"its part {part.name!r} can't be read: {error.strerror}") from error
        if data is None:
            raise CheckpointUnreadable(f"its part {part.name!r} is missing")
        if len(data) != part.size or sha256(data).hexdigest() != part.sha256:
            raise CheckpointUnreadable(f"its part {part.name!r} was cut off, damaged or changed")
        return data

    def check_all_taken(self) -> None:
        """Raises CheckpointUnreadable if the value has not come to each of them."""
        if self._left:
            raise CheckpointUnreadable("it names parts that its value doesn't have")


def describe(parts: Sequence[Part]) -> str:
    """What stands under "parts" in a document."""
    return json.dumps([part._asdict() for part in parts])


def names_in(described: object) -> list[str]:
    """The names of parts that are described. Raises CheckpointUnreadable."""
    if type(described) is not list:
        raise CheckpointUnreadable("its parts are none")
    return [_part(found).name for found in described]


def _part(described: Any) -> Part:
    if type(described) is not dict or described.keys() != set(Part._fields):
        raise CheckpointUnreadable("a part of it is described by other words")
    part = Part(**described)
    if [type(fact) for fact in part] != [str, int, str] or part.size < 0:
        raise CheckpointUnreadable("a part of it is described by other words")
    return part
