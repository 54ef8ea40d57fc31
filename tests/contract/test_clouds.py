"""Storages in buckets: where their objects lie, what a crash leaves, and what a service's refusals become."""

import json
import logging
import pickle
import threading
import time
import traceback
import types
import uuid
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.client import RemoteDisconnected
from pathlib import Path
from typing import Any

import boto3
import botocore.endpoint
import google.cloud.storage.retry
import pytest
import requests.exceptions
from google.cloud.storage.retry import DEFAULT_RETRY
from urllib3.exceptions import ProtocolError

from dotflow import Context, DotFlow, action, clock
from dotflow.codec.document import pack
from dotflow.errors import CheckpointUnreadable, InvalidArgument, StorageError
from dotflow.providers import StorageGCS, StorageS3, optional
from dotflow.providers.storages.buckets import bucket_storage, gcs, s3
from dotflow.providers.storages.buckets.bucket_storage import StorageObjects
from dotflow.testing.contracts.values import KEYS
from tests.clouds.fake_server import FakeServer, Response, serve_responses
from tests.clouds.settings import S3_SETTINGS, set_up_gcs, set_up_s3

MakeStorage = Callable[..., StorageObjects]
KINDS = {"s3": StorageS3, "gcs": StorageGCS}


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> MakeStorage:
    """Makes storages over one prefix of a bucket."""
    bucket, prefix = request.getfixturevalue(request.param), uuid.uuid4().hex

    def make_storage(**given: Any) -> StorageObjects:
        made: StorageObjects = KINDS[request.param](**{"bucket": bucket, "prefix": prefix, **given})
        return made

    return make_storage


def names(storage: StorageObjects) -> list[str]:
    """The objects under its prefix, without it."""
    return [name.removeprefix(storage._prefix) for name in storage._bucket.list_names(storage._prefix)]


class TestLayout:
    """The objects in the bucket."""

    def test_a_value_is_a_readable_object(self, make: MakeStorage) -> None:
        """JSON that any tool can read, under the workflow, its generation and the task."""
        storage = make()
        storage.post("nightly/3", Context({"rows": 3}, task_id=3, workflow_id="nightly"))

        head = json.loads(storage._bucket.get(f"{storage._prefix}nightly/workflow.json").data)  # type: ignore[union-attr]
        value = storage._bucket.get(f"{storage._prefix}nightly/{head['generation']}/3.json")

        assert value is not None
        assert json.loads(value.data)["value"] == {"rows": 3}
        assert head["holder"] is None

    def test_nothing_lands_outside_the_prefix(self, make: MakeStorage) -> None:
        """Whatever the keys are, the rest of the bucket stays as it was."""
        storage = make()
        before = set(make(prefix="")._bucket.list_names(""))
        for number, key in enumerate(key for key in KEYS if not key.isalnum()):
            storage.post(key, Context(number))
        for key in ("", "..", "../x", "/etc/passwd"):
            storage.clear(key)

        assert all(name.startswith(storage._prefix) for name in set(storage._bucket.list_names("")) - before)
        assert not [name for name in names(storage) if ".." in name or "//" in name]

    def test_prefixes_keep_apart(self, make: MakeStorage) -> None:
        """Two of them share nothing, even where one begins with the other."""
        one, other = make(), make(prefix=f"{make()._prefix}w")
        for storage in (one, other):
            storage.post("w/0", Context(storage._prefix))
        other.clear("w")

        assert one.get("w/0").storage == one._prefix
        assert list(one.list_keys()) == ["w/0"]
        assert list(other.list_keys()) == []

    def test_more_keys_than_a_page_holds(self, make: MakeStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        """50 are listed and deleted as three are, where a page has 20."""
        monkeypatch.setattr(s3, "PAGE_SIZE", 20)
        monkeypatch.setattr(gcs, "MAX_BATCH", 20)
        storage = make()
        with storage.lock("w"):
            for number in range(50):
                storage.post(f"w/{number}", Context(number))

            assert len(list(storage.list_keys("w/"))) == 50
            storage.clear("w")

        assert list(storage.list_keys()) == []
        assert names(storage) == ["w/workflow.json"]

    def test_large_parts_are_objects_of_their_own(self, make: MakeStorage) -> None:
        """They are raw bytes beside the document. Replacing or deleting the value deletes them."""
        storage, old, new = make(), b"old" * 30_000, b"new" * 40_000
        storage.post("w/0", Context([old, new], task_id=0))
        storage.post("w/1", Context(old, task_id=1))

        def parts() -> list[bytes]:
            found = [storage._bucket.get(storage._prefix + name) for name in names(storage) if name.endswith(".bin")]
            return sorted(part.data for part in found if part is not None)

        assert parts() == [new, old, old]
        assert make().get("w/0").storage == [old, new]
        assert list(storage.list_keys()) == ["w/0", "w/1"]
        storage.post("w/0", Context([new], task_id=0))
        assert parts() == [new, old]
        assert storage.get("w/0").storage == [new]
        storage.delete("w/0")
        assert parts() == [old]
        storage.clear("w")
        assert names(storage) == ["w/workflow.json"]

    def test_cut_off_between_a_part_and_its_document(self, make: MakeStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        """The older value is still there, whole, and the next new run deletes what nothing needs."""
        storage, old = make(), b"old" * 30_000
        storage.post("w/0", Context(old, task_id=0))
        real = storage._bucket.put

        def cut_off(name: str, *more: Any) -> None:
            if name.endswith(".json"):
                raise SystemExit
            real(name, *more)

        with monkeypatch.context() as patch:
            patch.setattr(storage._bucket, "put", cut_off)
            with pytest.raises(SystemExit):
                storage.post("w/0", Context(b"new" * 40_000, task_id=0))

        assert make().get("w/0").storage == old
        assert list(make().list_keys()) == ["w/0"]
        storage.clear("w")
        assert names(storage) == ["w/workflow.json"]

    def test_a_large_value(self, make: MakeStorage) -> None:
        """20 MB, which Google's library sends in pieces."""
        value = bytes(range(256)) * 80_000
        make().post("w/0", Context(value))

        assert make().get("w/0").storage == value

    def test_it_travels_without_secrets(self, make: MakeStorage) -> None:
        """A copy in another process makes a client of its own with the credentials there."""
        storage = make()
        storage.post("w/0", Context([1]))
        packed = pickle.dumps(storage)

        assert pickle.loads(packed).get("w/0").storage == [1]
        assert not [value for value in S3_SETTINGS.values() if len(value) > 15 and value.encode() in packed]
        assert repr(storage) == f"{type(storage).__name__}('values', prefix={storage._prefix!r})"


class TestClear:
    """What no longer counts."""

    def test_a_crash_in_the_middle_leaves_nothing_that_counts(
        self, make: MakeStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After a crash before the first deletion, no value counts, and the next clear() deletes them."""
        storage, again = make(), make()
        for number in range(3):
            storage.post(f"w/{number}", Context(number))

        def cut_off(*_: object) -> None:
            raise SystemExit

        with monkeypatch.context() as patch:
            patch.setattr(storage._bucket, "delete", cut_off)
            with pytest.raises(SystemExit):
                storage.clear("w")

        assert [again.contains(f"w/{number}") for number in range(3)] == [False] * 3
        assert list(again.list_keys()) == []
        assert len(names(again)) == 4
        again.post("w/1", Context("new"))
        assert list(again.list_keys()) == ["w/1"]

        again.clear("w")

        assert names(again) == ["w/workflow.json"]

    def test_clearing_deletes_no_newer_value(self, make: MakeStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        """A run that lost the lease while it cleared keeps the values of its successor."""
        storage, other = make(), make()
        storage.post("w/0", Context("old"))
        real, head = storage._bucket.delete, f"{storage._prefix}w/workflow.json"

        def overtaken(names: list[str]) -> None:
            found = other._bucket.get(head)
            assert found is not None
            newer = json.loads(found.data) | {"generation": "newer", "token": "another"}
            other._bucket.put(head, json.dumps(newer).encode())
            other.post("w/0", Context("new"))
            real(names)

        with storage.lock("w"):
            monkeypatch.setattr(storage._bucket, "delete", overtaken)
            # The other one is of another process: it doesn't write under the lease of this one.
            monkeypatch.setattr(other, "_lease", lambda folder: None)
            storage.clear("w")

        assert [name for name in names(other) if name.endswith("/0.json")] == ["w/newer/0.json"]
        assert other.get("w/0").storage == "new"
        assert json.loads(other._bucket.get(head).data)["token"] == "another"  # type: ignore[union-attr]

    def test_an_invalid_record_stops_everything(self, make: MakeStorage) -> None:
        """Which values count is not guessed; the object is named, and what to do."""
        storage = make()
        storage.post("w/0", Context(1))
        storage._bucket.put(f"{storage._prefix}w/workflow.json", b"{}")

        for call in (lambda: storage.get("w/0"), lambda: storage.post("w/0", Context(2)), lambda: storage.clear("w")):
            with pytest.raises(StorageError, match=r"w/workflow\.json can't be read: it is not a lease.*delete it"):
                call()

    def test_a_damaged_object_is_named(self, make: MakeStorage) -> None:
        """As one finds it in the bucket."""
        storage = make()
        storage.post("w/0", Context(1))
        name = next(name for name in names(storage) if name.endswith("/0.json"))
        storage._bucket.put(f"{storage._prefix}{name}", b"garbage")

        with pytest.raises(CheckpointUnreadable, match=f"values/{storage._prefix}{name}"):
            storage.get("w/0")
        assert storage.contains("w/0")

    def test_a_long_key_is_listed(self, make: MakeStorage) -> None:
        """Even where it is longer than what is read of an object at first."""
        storage = make()
        key = "w/" + "k" * 40_000
        storage.post(key, Context(1))

        assert list(storage.list_keys()) == [key]

    def test_objects_of_other_programs_cost_nothing(self, make: MakeStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        """A prefix may be shared with tables of millions of objects. None of them has a request of its own."""
        storage = make()
        storage.post("w/0", Context(1))
        for name in ("part-0.parquet", "tables/2026/part-1.parquet", "w/notes.txt"):
            storage._bucket.put(f"{storage._prefix}{name}", b"data")
        read: list[str] = []
        get = type(storage._bucket).get
        monkeypatch.setattr(type(storage._bucket), "get", lambda bucket, name: read.append(name) or get(bucket, name))

        assert list(storage.list_keys()) == ["w/0"]
        assert read == [f"{storage._prefix}w/workflow.json"]

    def test_an_unusual_id_is_read_once(self, make: MakeStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        """The names of the other objects show their keys, so a cache of many values is listed as fast as a workflow."""
        storage = make()
        keys = [f"@cache/jobs:train/{number:032x}" for number in range(5)]
        for number, key in enumerate(keys):
            storage.post(key, Context(number))
        read: list[str] = []
        get = type(storage._bucket).get
        monkeypatch.setattr(type(storage._bucket), "get", lambda bucket, name: read.append(name) or get(bucket, name))

        assert list(storage.list_keys()) == keys
        assert len([name for name in read if not name.endswith("/workflow.json")]) == 1


class TestLease:
    """Writes while another process may hold the workflow."""

    @pytest.mark.parametrize("moment", ["before", "during"])
    def test_a_write_after_losing_it_fails(
        self, make: MakeStorage, monkeypatch: pytest.MonkeyPatch, moment: str
    ) -> None:
        """Lost before the write, nothing is written. Lost during the write, the value does not count as saved."""
        storage, other = make(), make()
        real, elapsed, head = storage._bucket.put, clock.elapsed, f"{storage._prefix}w/workflow.json"
        put: list[str] = []

        def lose() -> None:
            found = other._bucket.get(head)
            assert found is not None
            other._bucket.put(head, json.dumps(json.loads(found.data) | {"token": "another"}).encode())
            monkeypatch.setattr(clock, "elapsed", lambda: elapsed() + 3_600)

        def slow(name: str, data: bytes) -> None:
            if moment == "during":
                lose()
            real(name, data)
            put.append(name)

        with storage.lock("w"):
            monkeypatch.setattr(storage._bucket, "put", slow)
            if moment == "before":
                lose()
            with pytest.raises(StorageError, match="lost its lease"):
                storage.post("w/0", Context(1))

        assert len(put) == (moment == "during")

    @pytest.mark.parametrize("kind", KINDS)
    def test_its_age_is_by_the_clock_of_the_service(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Between its last write and the response, by the service's clock."""
        written = {"ETag": '"1"', "x-goog-generation": "1", "Last-Modified": formatdate(time.time() - 40, usegmt=True)}
        with serve_responses(Response(200, "{}", written)) as server:
            set_endpoint(monkeypatch, server.url)
            entry = KINDS[kind]("values")._register("w").read()

        assert entry is not None
        assert entry.age == pytest.approx(40, abs=5)


class TestArguments:
    """Arguments are checked when the storage is made, without a request."""

    @pytest.mark.parametrize("kind", KINDS.values())
    @pytest.mark.parametrize(
        ("given", "name"),
        [
            ({"bucket": ""}, "bucket"),
            ({"bucket": None}, "bucket"),
            ({"bucket": "s3://values"}, "bucket"),
            ({"bucket": "values/path"}, "bucket"),
            ({"bucket": "b", "prefix": None}, "prefix"),
            ({"bucket": "b", "prefix": "/absolute/"}, "prefix"),
            ({"bucket": "b", "prefix": "a/../b/"}, "prefix"),
            ({"bucket": "b", "prefix": "a//b"}, "prefix"),
            ({"bucket": "b", "prefix": "/"}, "prefix"),
            ({"bucket": "b", "prefix": "a\n"}, "prefix"),
            ({"bucket": "b", "prefix": "ä" * 351}, "prefix"),
            ({"bucket": "b", "lease": 0}, "lease"),
            ({"bucket": "b", "lease": float("nan")}, "lease"),
            ({"bucket": "b", "lease": "30"}, "lease"),
        ],
    )
    def test_a_wrong_one_is_named(self, kind: type[StorageObjects], given: dict[str, Any], name: str) -> None:
        """With what is accepted."""
        with pytest.raises(InvalidArgument, match=f"^{name}="):
            kind(**given)

    def test_an_access_point_is_a_bucket(self) -> None:
        """S3 calls it by its ARN."""
        StorageS3("arn:aws:s3:eu-central-1:123456789012:accesspoint/values")

    @pytest.mark.parametrize(("kind", "name"), [(StorageS3, "region"), (StorageGCS, "project")])
    @pytest.mark.parametrize("value", ["", 3])
    def test_region_and_project_are_text(self, kind: Any, name: str, value: object) -> None:
        """Or None."""
        with pytest.raises(InvalidArgument, match=f"^{name}="):
            kind("b", **{name: value})

    @pytest.mark.parametrize("kind", KINDS.values())
    @pytest.mark.parametrize(("prefix", "means"), [("a", "a/"), ("a/b/", "a/b/"), ("", ""), ("a b", "a b/")])
    def test_a_prefix_ends_in_a_slash(self, kind: Any, prefix: str, means: str) -> None:
        """It is added, so that two prefixes never run into each other."""
        assert kind("b", prefix=prefix)._prefix == means

    @pytest.mark.parametrize(("kind", "install"), [(StorageS3, "aws"), (StorageGCS, "gcp")])
    def test_a_missing_extra_names_its_installation(
        self, kind: Any, install: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """When the storage is made, by an error that `from ... import` doesn't swallow."""
        monkeypatch.setattr(optional, "find_spec", lambda name: None)

        with pytest.raises(ImportError, match=rf"pip install 'dotflow\[{install}\]'"):
            kind("b")


def s3_error(code: str, message: str = "as documented") -> str:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"


def gcs_error(code: int, message: str = "as documented") -> str:
    return json.dumps({"error": {"code": code, "message": message}})


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tries, Google's library waits a twentieth of its time, and boto3 not at all."""
    pauses = {"initial": 0.05, "maximum": 3.0}
    monkeypatch.setattr(google.cloud.storage.retry, "DEFAULT_RETRY", DEFAULT_RETRY.with_delay(**pauses))
    monkeypatch.setattr(botocore.endpoint, "time", types.SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture
def ran() -> list[int]:
    """What has run."""
    return []


@pytest.fixture
def start(
    make_workflow: Callable[..., DotFlow], ran: list[int], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., str]]:
    """Runs a workflow that can't start; returns the error, and checks that its traceback shows no secret."""
    secrets = [S3_SETTINGS["AWS_SECRET_ACCESS_KEY"], S3_SETTINGS["AWS_SESSION_TOKEN"], "hunter2", "Signature="]

    def start_workflow(storage: StorageObjects, **given: Any) -> str:
        workflow = make_workflow(storage=storage, **{"workflow_id": "w", **given})
        workflow.task.add(action(lambda: ran.append(1)))
        with pytest.raises(StorageError) as caught:
            workflow.start()
        printed = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
        assert not [secret for secret in secrets if secret in printed]
        assert "botocore" not in printed
        assert "google/" not in printed
        assert ran == []
        return str(caught.value)

    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # as in a new program
    yield start_workflow
    logging.getLogger().handlers.clear()


def writes_of(server: FakeServer) -> int:
    """Returns how many requests were no GET: Google's library itself asks for the bucket, in a thread of its own."""
    return sum(not line.startswith("GET") for line in server.requests)


class TestRefusals:
    """One error before the first step: bucket, the service's message, advice, and no secret."""

    @pytest.mark.exhaustive(keep_every=5)
    @pytest.mark.parametrize(
        ("status", "code", "cure"),
        [
            (404, "NoSuchBucket", "Create the bucket"),
            (403, "AccessDenied", "s3:PutObject"),
            (403, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
            (403, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
            (400, "ExpiredToken", "still valid"),
            (403, "RequestTimeTooSkewed", "clock"),
            (400, "AuthorizationHeaderMalformed", "StorageS3(region=...)"),
            (301, "PermanentRedirect", "StorageS3(region=...)"),
            (400, "SomethingNew", "documentation"),
        ],
    )
    def test_refusals_of_s3_are_explained(
        self,
        start: Callable[[StorageObjects], str],
        monkeypatch: pytest.MonkeyPatch,
        status: int,
        code: str,
        cure: str,
    ) -> None:
        """The codes are from its documentation, and so is the header of a redirect."""
        headers = {"x-amz-bucket-region": "eu-central-1"} if status == 301 else {}
        with serve_responses(Response(status, s3_error(code), headers)) as server:
            set_endpoint(monkeypatch, server.url)
            message = start(StorageS3("values"))

        assert "s3://values" in message
        assert code in message
        assert cure in message

    @pytest.mark.parametrize("body", [s3_error("PermanentRedirect"), "<html>moved</html>"])
    def test_a_service_that_redirects_all_requests_is_refused(
        self, start: Callable[[StorageObjects], str], monkeypatch: pytest.MonkeyPatch, body: str
    ) -> None:
        """As a proxy in front of it may, that wants https. boto3 asks for the region without an end."""
        with serve_responses(Response(301, body)) as server:
            set_endpoint(monkeypatch, server.url)
            message = start(StorageS3("values"))

        assert "the service redirects all requests without naming the bucket's region" in message
        assert "StorageS3(region=...)" in message

    @pytest.mark.parametrize(
        ("status", "cure"),
        [(404, "Create the bucket"), (403, ".create and .delete"), (400, "Check the bucket's name")],
    )
    def test_refusals_of_google_are_explained(
        self, start: Callable[[StorageObjects], str], monkeypatch: pytest.MonkeyPatch, status: int, cure: str
    ) -> None:
        """The codes are from its documentation."""
        with serve_responses(Response(status, gcs_error(status), {"Content-Type": "application/json"})) as server:
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
            message = start(StorageGCS("values"))

        assert "gs://values" in message
        assert str(status) in message
        assert cure in message

    @pytest.mark.parametrize(
        ("kind", "missing", "denied"),
        [("s3", s3_error("NoSuchKey"), s3_error("AccessDenied")), ("gcs", gcs_error(404), gcs_error(403))],
    )
    def test_a_run_without_an_id_fails_early_without_permission_to_write(
        self, start: Callable[..., str], monkeypatch: pytest.MonkeyPatch, kind: str, missing: str, denied: str
    ) -> None:
        """Before its first step: nothing runs whose value could not be kept."""
        listed = Response(200, '{"items": []}', {"Content-Type": "application/json"})

        def answer(line: str) -> Response:
            if not line.startswith("GET"):
                return Response(403, denied)
            return Response(404, missing) if "workflow.json" in line else listed

        with serve_responses(answer) as server:
            set_endpoint(monkeypatch, server.url)
            message = start(KINDS[kind]("values"), workflow_id=None)

        assert "Grant the credentials" in message

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_busy_service_is_asked_again(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A request to slow down and a failure of the service are retried silently."""
        missing = Response(404, s3_error("NoSuchKey"))
        listed = Response(200, '{"items": []}', {"Content-Type": "application/json"})
        busy = Response(503, s3_error("SlowDown"))
        with serve_responses(busy, Response(500, s3_error("InternalError")), missing, listed) as server:
            set_endpoint(monkeypatch, server.url)

            assert not KINDS[kind]("values").contains("w/0")
            assert len([line for line in server.requests if "workflow.json" in line]) == 3

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_answer_that_is_cut_off_is_asked_for_again(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A connection that breaks in the middle of a value."""
        data = pack("x", Context([1, 2])).decode()
        headers = {"ETag": '"1"', "Last-Modified": "Wed, 01 May 2024 02:00:00 GMT", "x-goog-generation": "1"}
        cut_off = Response(200, data[:-20], {**headers, "Content-Length": str(len(data))})
        with serve_responses(cut_off, cut_off, Response(200, data, headers)) as server:
            set_endpoint(monkeypatch, server.url)

            assert KINDS[kind]("values").get("x").storage == [1, 2]
            assert len([line for line in server.requests if "x.json" in line]) == 3

    @pytest.mark.parametrize("kind", KINDS)
    def test_but_not_for_ever(
        self, start: Callable[[StorageObjects], str], kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Then the run does not begin."""
        monkeypatch.setattr(gcs, "RETRY_TIMEOUT", 0.5)
        with serve_responses(Response(503, s3_error("SlowDown"))) as server:
            set_endpoint(monkeypatch, server.url)
            message = start(KINDS[kind]("values"))

        assert 1 < len(server.requests) <= (s3.MAX_ATTEMPTS if kind == "s3" else 20)
        assert "Try again later" in message

    @pytest.mark.parametrize("kind", KINDS)
    def test_silence_is_not_waited_for(
        self, start: Callable[[StorageObjects], str], kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A service that accepts a request and never responds."""
        monkeypatch.setattr(s3, "READ_TIMEOUT", 0.1)
        monkeypatch.setattr(gcs, "TIMEOUT", (0.1, 0.1))
        monkeypatch.setattr(gcs, "RETRY_TIMEOUT", 0.1)
        with serve_responses(Response(0)) as server:
            set_endpoint(monkeypatch, server.url)
            message = start(KINDS[kind]("values"))

        assert "network" in message

    @pytest.mark.parametrize("kind", KINDS)
    def test_silence_holds_no_end_up(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The lease is released in one short attempt. Otherwise it expires."""
        monkeypatch.setattr(bucket_storage, "MIN_TIMEOUT", 0.1)
        monkeypatch.setattr(bucket_storage, "MARGIN", 0.0)
        as_json = {"Content-Type": "application/json"}
        written = Response(200, '{"generation": "1"}' if kind == "gcs" else "", {"ETag": '"1"', **as_json})
        nothing = Response(404, s3_error("NoSuchKey") if kind == "s3" else gcs_error(404))
        is_silent = threading.Event()

        def answer(line: str) -> Response:
            if is_silent.is_set():
                return Response(0)
            if not line.startswith("GET"):
                return written
            return nothing if "workflow.json" in line else Response(200, '{"items": []}', as_json)

        with serve_responses(answer) as server:
            set_endpoint(monkeypatch, server.url)
            with KINDS[kind]("values").lock("w"):
                before = writes_of(server)
                is_silent.set()

            assert writes_of(server) == before + 1

    @pytest.mark.parametrize("kind", KINDS)
    def test_no_network(
        self, start: Callable[[StorageObjects], str], kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Connection refused; a login in the URL is not shown."""
        monkeypatch.setattr(gcs, "RETRY_TIMEOUT", 0.1)
        set_endpoint(monkeypatch, "http://user:hunter2@127.0.0.1:1")

        message = start(KINDS[kind]("values"))

        assert "network" in message
        assert kind == "s3" or "refused" in message  # boto3 has words of its own for it

    @pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset"), TimeoutError(110, "timed out")])
    def test_a_broken_connection_is_no_matter_of_credentials(self, error: OSError) -> None:
        """Even where Google's library passes on the system's own error."""
        message = str(gcs.storage_error(error, "gs://values"))

        assert str(error.strerror) in message
        assert "network" in message
        assert "gcloud" not in message

    @pytest.mark.parametrize(
        ("cause", "words"),
        [
            (RemoteDisconnected("Remote end closed connection"), "ConnectionError: Remote end closed connection."),
            (TimeoutError("timed out"), "ConnectionError: timed out."),
        ],
    )
    def test_a_lost_connection_is_in_the_words_of_python(self, cause: OSError, words: str) -> None:
        """Not in the name of a class; what urllib3 makes of it has the URL, with the key of an upload."""
        wrapped = ProtocolError(f"/upload?upload_id=s3cr3t: {cause}", cause)

        message = str(gcs.storage_error(requests.exceptions.ConnectionError(wrapped), "gs://values"))

        assert message.startswith(f"The bucket gs://values can't be used: {words} Check the network")

    def test_a_bucket_s_name_that_boto3_refuses(
        self, start: Callable[[StorageObjects], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """boto3's pattern is left out."""
        set_endpoint(monkeypatch, "http://127.0.0.1:1")
        message = start(StorageS3("xx y"))

        assert "s3://xx y" in message
        assert "Check the bucket's name" in message
        assert "regex" not in message

    def test_no_credentials_for_s3(
        self, start: Callable[[StorageObjects], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither in the environment nor in a file."""
        set_endpoint(monkeypatch, "http://127.0.0.1:1")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name)

        assert "AWS_PROFILE" in start(StorageS3("values"))

    def test_a_profile_that_is_none(
        self, start: Callable[[StorageObjects], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is named."""
        set_endpoint(monkeypatch, "http://127.0.0.1:1")
        monkeypatch.setenv("AWS_PROFILE", "nobody")

        assert "(nobody)" in start(StorageS3("values"))

    @pytest.mark.parametrize("content", [None, "no JSON", '{"type": "service_account", "private_key": "hunter2"}'])
    def test_credentials_for_google_that_are_none(
        self,
        start: Callable[[StorageObjects], str],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        content: str | None,
    ) -> None:
        """A file that is missing or wrong."""
        path = tmp_path / "key.json"
        if content is not None:
            path.write_text(content)
        monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))

        assert "GOOGLE_APPLICATION_CREDENTIALS" in start(StorageGCS("values"))

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("url", ["not an address", "ftp://127.0.0.1:1"])
    def test_an_endpoint_that_is_none(
        self, start: Callable[[StorageObjects], str], kind: str, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is one of ours all the same."""
        monkeypatch.setattr(gcs, "RETRY_TIMEOUT", 0.1)
        set_endpoint(monkeypatch, url)

        assert "can't be used" in start(KINDS[kind]("values"))

    def test_a_later_refusal_fails_its_step(
        self, make_workflow: Callable[..., DotFlow], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Credentials that expire during a run fail the step, with no secret in its traceback."""
        etag = {"ETag": '"1"'}
        begin = [Response(404, s3_error("NoSuchKey")), Response(200, "", etag)]  # the lease is taken
        origin = Response(404, s3_error("NoSuchKey"))  # no chain of runs has these values
        clear = [Response(200, "", etag), Response(200, "<ListBucketResult></ListBucketResult>")]
        with serve_responses(*begin, origin, *clear, Response(400, s3_error("ExpiredToken"))) as server:
            set_endpoint(monkeypatch, server.url)
            workflow = make_workflow(storage=StorageS3("values"), workflow_id="w")
            workflow.task.add(action(lambda: 1))
            workflow.start()

        error = workflow.result_task()[0].errors[0]
        assert error.exception == "StorageError"
        assert "s3://values can't be used: the service returned ExpiredToken" in error.message
        assert not [value for value in S3_SETTINGS.values() if len(value) > 15 and value in error.traceback]
        assert "botocore" not in error.traceback

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_bucket_that_is_missing_over_there(
        self,
        start: Callable[[StorageObjects], str],
        kind: str,
        s3_server: str,
        gcs_server: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """With the responses of the emulators."""
        set_up_s3(s3_server, monkeypatch.setenv)
        set_up_gcs(gcs_server, monkeypatch.setenv)

        assert "Create the bucket" in start(KINDS[kind]("missing"))


def set_endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Points both to a server."""
    for name, value in {**S3_SETTINGS, "AWS_ENDPOINT_URL": url, "STORAGE_EMULATOR_HOST": url}.items():
        monkeypatch.setenv(name, value)
