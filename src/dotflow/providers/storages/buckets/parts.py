"""Parts of a checkpoint as objects of their own: `3.5f0c9a2104e7d8b1.bin` beside `3.json`."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from dotflow.codec.parts import Part, Raw
from dotflow.providers.storages.buckets.bucket import Bucket
from dotflow.providers.storages.part_files import new_part_name, stem_of

CONTENT_TYPE: Final = "application/octet-stream"


class PartObjects:
    """The parts of one document before they are written.

    Args:
        task: The document's name, without its suffix.

    Attributes:
        contents: The parts by name.
    """

    def __init__(self, task: str) -> None:
        self._task = task
        self.contents: dict[str, bytes] = {}

    def put(self, raw: Raw) -> Part:
        """Adds a part; see dotflow.codec.parts."""
        name, content = new_part_name(self._task, raw.suffix), bytes(raw.copy())
        self.contents[name] = content
        return Part(name, len(content), sha256(content).hexdigest())


def list_parts(bucket: Bucket, document: str) -> Iterator[str]:
    """Yields the names of a document's part objects, those that it no longer refers to included."""
    folder, _, task = document.rpartition("/")
    stem = task.rpartition(".")[0]
    for name in bucket.list_names(f"{folder}/{stem}."):
        if stem_of(name.rpartition("/")[2]) == stem:
            yield name


def fetch_part(bucket: Bucket, document: str, part: Part) -> bytes | None:
    """Reads a part, if it is beside the document; see dotflow.codec.parts."""
    folder, _, task = document.rpartition("/")
    if stem_of(part.name) != task.rpartition(".")[0] or "/" in part.name:
        return None
    stored = bucket.get(f"{folder}/{part.name}")
    return None if stored is None else stored.data
