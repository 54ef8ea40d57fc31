"""StorageObjects: the base of the storages in buckets.

    dotflow/nightly/workflow.json                    the lease, and the current generation of values
    dotflow/nightly/20240501T020000-5f0c9a21/3.json  the value of task 3 in that generation
    dotflow/nightly/20240501T020000-5f0c9a21/3.0123456789abcdef.bin  a large part of it

An object store can't rename a folder. So the values of a workflow have a generation in their names.
One conditional write of `workflow.json` starts a new one and so voids all older values. Then these are deleted.
"""

import contextlib
import copy
import uuid
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from itertools import groupby
from typing import Any, Final, NamedTuple, Self

from dotflow import clock
from dotflow.abc.storage import Storage, key_of
from dotflow.codec.document import key_at, pack, unpack
from dotflow.codec.parts import Blob, Raw
from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.errors import CheckpointUnreadable, InvalidArgument, StorageError
from dotflow.providers.storages.lease import (
    MARGIN,
    MAX_RACES,
    Lease,
    LeaseLock,
    LeaseRecord,
    Register,
    RegisterText,
    check_seconds,
    invalid_record,
    read_record,
)
from dotflow.providers.storages.part_files import new_part_name, stem_of
from dotflow.providers.storages.safe_name import is_plain, safe_name

JSON_TYPE = "application/json"
MAX_PREFIX = 700  # bytes; both services allow names of 1,024


class StoredObject(NamedTuple):
    """An object as it was read.

    Attributes:
        data: Its content.
        version: Its version, the condition of a write.
        age: Seconds since it was written, by the service's clock.
    """

    data: bytes
    version: str
    age: float


class Bucket(ABC):
    """A bucket of an object store. Each call that fails raises a StorageError without secrets.

    Attributes:
        name: Its name.
        url: Its URL, such as "s3://name".
    """

    name: str
    url: str

    @property
    @abstractmethod
    def endpoint(self) -> str:
        """The URL of the service, which distinguishes buckets of the same name."""

    @abstractmethod
    def with_timeout(self, seconds: float) -> Self:
        """Returns the same bucket with one attempt for each call, and about so many seconds for the response."""

    @abstractmethod
    def get(self, name: str) -> StoredObject | None:
        """Returns an object; None if there is none."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Returns whether there is such an object."""

    @abstractmethod
    def put(self, name: str, data: bytes, content_type: str = JSON_TYPE) -> None:
        """Writes an object as a whole and replaces an earlier one."""

    @abstractmethod
    def put_if(self, name: str, data: bytes, version: str | None) -> str | None:
        """Writes an object if its current version is *version* (None: there is no object).

        Returns:
            The new version; None if another version is there.
        """

    @abstractmethod
    def delete(self, names: Sequence[str]) -> None:
        """Deletes objects. Some may be missing."""

    @abstractmethod
    def list_names(self, prefix: str) -> Iterator[str]:
        """Yields the names of all objects that begin with *prefix*."""


class ObjectRegister(Register):
    """The text of a workflow as an object.

    Args:
        bucket: The bucket.
        name: The object.
        short_timeout: The same bucket with a shorter timeout.
    """

    def __init__(self, bucket: Bucket, name: str, short_timeout: Bucket) -> None:
        self._bucket = bucket
        self._short_timeout = short_timeout
        self._object = name
        self.key = (bucket.endpoint, bucket.name, name)
        self.location = f"{bucket.url}/{name}"

    def read(self) -> RegisterText | None:
        stored = self._bucket.get(self._object)
        return (
            None if stored is None else RegisterText(stored.data.decode("utf-8", "replace"), stored.version, stored.age)
        )

    def write(self, text: str, version: str | None) -> str | None:
        return self._bucket.put_if(self._object, text.encode(), version)

    @property
    def short_timeout(self) -> "ObjectRegister":
        register = copy.copy(self)
        register._bucket = self._short_timeout
        return register


def age(date: str | None, modified: str | datetime | None) -> float:
    """Returns the whole seconds since an object was written, by the service's clock.

    Args:
        date: The time of the response.
        modified: The time of the object's last write in that response.
    """
    if date is None or modified is None:  # unknown: with this age, no lease is taken over
        return 0.0
    if isinstance(modified, str):
        modified = parsedate_to_datetime(modified)
    return max(0.0, (parsedate_to_datetime(date) - modified).total_seconds())


def check_bucket(bucket: object) -> str:
    """Returns the name of a bucket. Raises InvalidArgument."""
    has_path = isinstance(bucket, str) and not bucket.startswith("arn:") and not {"/", ":"}.isdisjoint(bucket)
    if not isinstance(bucket, str) or not bucket or not bucket.isprintable() or has_path:
        raise InvalidArgument("bucket", bucket, "the name of a bucket, without s3:// or gs:// and without a path")
    return bucket


def check_prefix(prefix: object) -> str:
    """Returns a prefix, with a slash at its end unless it is empty. Raises InvalidArgument."""
    if isinstance(prefix, str) and prefix.isprintable():
        parts = prefix.removesuffix("/").split("/")
        if prefix == "" or (set(parts).isdisjoint({"", ".", ".."}) and len(prefix.encode()) <= MAX_PREFIX):
            return prefix and prefix.removesuffix("/") + "/"
    accepted = "text such as 'team/dotflow/', or '': printable, at most 700 bytes, no part of it empty, '.' or '..'"
    raise InvalidArgument("prefix", prefix, accepted)


def check_optional_text(argument: str, value: object, expected: str) -> str | None:
    """Returns a text or None. Raises InvalidArgument."""
    if value is not None and (not isinstance(value, str) or not value):
        raise InvalidArgument(argument, value, f"{expected}, or None for that of the environment")
    return value


CONTENT_TYPE: Final = "application/octet-stream"


SUFFIX: Final = ".json"
RECORD_NAME: Final = "workflow.json"
NO_WORKFLOW: Final = "-"  # the folder of keys without a workflow; no safe name
GENERATION: Final = "generation"
VOID: Final = "void"
MIN_TIMEOUT: Final = 1.0  # seconds


class StorageObjects(Storage):
    """Saves each value in an object of a bucket.

    Args:
        bucket: The bucket.
        prefix: The beginning of all names.
        lease: How long a workflow stays locked without renewal.

    Raises:
        InvalidArgument: The prefix or the lease is not accepted.
    """

    def __init__(self, bucket: Bucket, prefix: object, lease: object) -> None:
        self._bucket = bucket
        self._prefix = check_prefix(prefix)
        self._seconds = check_seconds(lease)
        self._short_timeout = bucket.with_timeout(max(MIN_TIMEOUT, self._seconds * MARGIN))

    def post(self, key: str, context: Context) -> None:
        """Saves the value. While the workflow is locked, only the holder's process can."""
        folder, task = self._location(key)
        parts: dict[str, bytes] = {}  # by name

        def put(raw: Raw) -> Blob:
            name, content = new_part_name(task, raw.suffix), bytes(raw.copy())
            parts[name] = content
            return Blob(name, len(content), sha256(content).hexdigest())

        data = pack(key, context, put=put)
        with self._checking_lease(folder):
            name = self._name_of(folder, task, self._generation(folder, make=True))
        base = name.rpartition("/")[0]
        for part, content in parts.items():
            with self._checking_lease(folder):
                self._bucket.put(f"{base}/{part}", content, CONTENT_TYPE)
        with self._checking_lease(folder):
            self._bucket.put(name, data)
        if parts:  # old parts of a small value are deleted by the next new run
            current = {f"{base}/{part}" for part in parts}
            self._delete_parts(folder, [part for part in self._list_parts(name) if part not in current])

    def get(self, key: str) -> Context:
        name = self._object_name(key)
        stored = None if name is None else self._bucket.get(name)
        if stored is None:
            return Context()
        where = f"{self._bucket.url}/{name}"
        return unpack(stored.data, key, where, fetch=lambda part, before: self._fetch_part(str(name), part))

    def key(self, task: Task) -> str:
        return key_of(task)

    def contains(self, key: str) -> bool:
        name = self._object_name(key)
        return name is not None and self._bucket.exists(name)

    def delete(self, key: str) -> None:
        """Deletes the value. While the workflow is locked, only the holder's process can."""
        name = self._object_name(key)
        if name is not None:
            folder, _ = self._location(key)
            with self._checking_lease(folder):
                self._bucket.delete([name])
            self._delete_parts(folder, list(self._list_parts(name)))

    def list_keys(self, prefix: str = "") -> Iterable[str]:
        """Returns the keys in order."""
        return sorted(key for key in self._keys() if key.startswith(prefix))

    def clear(self, workflow_id: str) -> bool:
        """Starts a new generation by one conditional write, so a crash leaves all values or none.

        Then it deletes the older ones. It also starts the first one, so that missing permissions show before the first
        step runs.

        Raises:
            WorkflowBusy: Another process is running the workflow.
        """
        folder = safe_name(workflow_id)
        lease = self._lease(folder)
        if lease is None:
            if self._register(folder).read() is None:
                self._generation(folder, make=True)
            else:
                with self.lock(workflow_id):
                    self.clear(workflow_id)
            return True
        void = [*lease.extra[VOID], lease.extra[GENERATION]]
        lease.update(**{GENERATION: new_generation(), VOID: void})
        for generation in void:
            self._bucket.delete(list(self._bucket.list_names(f"{self._prefix}{folder}/{generation}/")))
        lease.update_later(**{VOID: []})
        return True

    def lock(self, workflow_id: str) -> contextlib.AbstractContextManager[Hashable]:
        """Locks the workflow by a lease, which a thread renews."""
        register = self._register(safe_name(workflow_id))
        return LeaseLock(register, workflow_id, self._seconds, **{GENERATION: new_generation(), VOID: []})

    def _list_parts(self, document: str) -> Iterator[str]:
        """Yields the names of a document's part objects, those that it no longer refers to included."""
        base, stem = _split(document)
        for name in self._bucket.list_names(f"{base}{stem}."):
            if stem_of(name.removeprefix(base)) == stem:
                yield name

    def _fetch_part(self, document: str, part: Blob) -> bytes | None:
        """Reads a part, if it is beside the document; see dotflow.codec.parts."""
        base, stem = _split(document)
        if stem_of(part.name) != stem or "/" in part.name:
            return None
        stored = self._bucket.get(f"{base}{part.name}")
        return None if stored is None else stored.data

    def _delete_parts(self, folder: str, names: list[str]) -> None:
        if names:
            with self._checking_lease(folder):
                self._bucket.delete(names)

    @contextlib.contextmanager
    def _checking_lease(self, folder: str) -> Iterator[None]:
        """Checks the lease before a write and after it, if this process has one."""
        lease = self._lease(folder)
        if lease is not None:
            lease.check()
        yield
        if lease is not None:
            lease.check()

    def _generation(self, folder: str, *, make: bool = False) -> str | None:
        """Returns the current generation; None if there is none, unless *make*. Without a lease it is read."""
        if folder == NO_WORKFLOW:
            return ""
        lease = self._lease(folder)
        if lease is not None:
            return _generation_in(lease.extra, self._register(folder).location)
        register = self._register(folder)
        for _ in range(MAX_RACES):
            entry = register.read()
            if entry is not None:
                return _generation_in(read_record(entry, register.location).extra, register.location)
            if not make:
                return None
            generation = new_generation()
            record = LeaseRecord(seconds=self._seconds, extra={GENERATION: generation, VOID: []})
            if register.write(record.text(), None) is not None:
                return generation
        raise StorageError(f"{register.location} can't be written", "other processes keep changing it. Try again")

    def _location(self, key: str) -> tuple[str, str]:
        """Returns the folder of a key's workflow, and the key's name in it."""
        workflow_id, slash, task = key.rpartition("/")
        return safe_name(workflow_id) if slash else NO_WORKFLOW, safe_name(task)

    def _name_of(self, folder: str, task: str, generation: str | None) -> str:
        return "/".join(part for part in (f"{self._prefix}{folder}", generation, f"{task}{SUFFIX}") if part)

    def _object_name(self, key: str) -> str | None:
        """Returns the name of a key's object; None if its workflow has no generation."""
        folder, task = self._location(key)
        generation = self._generation(folder)
        return None if generation is None else self._name_of(folder, task, generation)

    def _register(self, folder: str) -> ObjectRegister:
        return ObjectRegister(self._bucket, f"{self._prefix}{folder}/{RECORD_NAME}", self._short_timeout)

    def _lease(self, folder: str) -> Lease | None:
        return LeaseLock.held(self._register(folder).key)

    def _keys(self) -> Iterator[str]:
        # Other programs may have objects beside, by the million.
        names = (name for name in self._bucket.list_names(self._prefix) if name.endswith(SUFFIX))
        for folder, found in groupby(names, lambda name: name.removeprefix(self._prefix).partition("/")[0]):
            generation = self._generation(folder)
            if generation is None:
                continue
            workflow_id = folder if is_plain(folder) else None
            for name in found:
                task = name.rpartition("/")[2].removesuffix(SUFFIX)
                if name != self._name_of(folder, task, generation):  # no document, or one of an older generation
                    continue
                if workflow_id is not None and is_plain(task):
                    yield f"{workflow_id}/{task}"
                elif (key := self._read_key(name)) is not None:
                    yield key
                    if safe_name(key.rpartition("/")[0]) == folder:  # so the names show the next keys
                        workflow_id = key.rpartition("/")[0]

    def _read_key(self, name: str) -> str | None:
        """Returns the key in an object; None if it is damaged, no checkpoint, or deleted meanwhile."""
        stored = self._bucket.get(name)
        with contextlib.suppress(CheckpointUnreadable):
            return None if stored is None else key_at(stored.data)
        return None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._bucket.name!r}, prefix={self._prefix!r})"


def _split(document: str) -> tuple[str, str]:
    """Returns the beginning of the names beside a document, and its own name without its suffix."""
    folder, slash, name = document.rpartition("/")
    return f"{folder}{slash}", name.removesuffix(SUFFIX)


def new_generation() -> str:
    """Returns a unique name. The time in it is for readers."""
    return f"{clock.now():%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"


def _generation_in(extra: Any, location: str) -> str:
    generation = extra.get(GENERATION)
    if not isinstance(generation, str) or not generation or not isinstance(extra.get(VOID), list):
        raise invalid_record(location)
    return generation
