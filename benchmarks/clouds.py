"""What a step's value in a bucket costs, beside the same request made by hand to the same server on this machine."""

import contextlib
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checkpoints import step, text_of_a_checkpoint
from measure import Row, best, fresh, seconds_of
from workflows import completed

from dotflow import Config, DotFlow
from dotflow.abc.storage import Storage
from dotflow.providers import LogDefault, StorageGCS, StorageS3


def rows(quick: bool) -> Iterator[Row]:
    """A run of 100 steps whose values go into a bucket, beside 100 calls that put the same text there.

    The run's own requests are counted with it: it takes the lease, begins a generation and gives the lease back, five
    requests in all. A server on this machine answers in milliseconds, one far away in tens of them: what counts is the
    difference, which is dotflow's.
    """
    for provider, peer in (("StorageS3", "boto3 put_object"), ("StorageGCS", "upload_from_string")):
        found = fresh(measure, provider, 100, 2 if quick else 5)
        yield Row(what=f"checkpoint, {provider}", ours=found["ours"], peers={peer: found["bare"]})


def measure(provider: str, count: int, repeats: int) -> dict[str, float]:
    """Seconds for one value, in each way."""
    sys.path.append(str(Path(__file__).parents[1]))
    from tests.clouds.process import ServerProcess
    from tests.clouds.settings import set_up_gcs, set_up_s3

    is_s3 = provider == "StorageS3"
    with contextlib.closing(ServerProcess("s3_server.py" if is_s3 else "gcs_server.py")) as server:
        bucket = (set_up_s3 if is_s3 else set_up_gcs)(server.url, os.environ.__setitem__)
        storage: Storage = StorageS3(bucket) if is_s3 else StorageGCS(bucket)
        put = _put_s3(bucket) if is_s3 else _put_gcs(bucket)
        data = text_of_a_checkpoint()

        def ours() -> None:
            workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id=uuid.uuid4().hex)
            workflow.task.add([step] * count)
            completed(workflow)

        def bare() -> None:
            name = uuid.uuid4().hex
            for number in range(count):
                put(f"{name}/{number}.json", data)

        contenders = {"ours": ours, "bare": bare}
        return best({name: lambda work=work: seconds_of(work) / count for name, work in contenders.items()}, repeats)


def _put_s3(bucket: str) -> Any:
    import boto3

    client = boto3.client("s3")
    return lambda name, data: client.put_object(Bucket=bucket, Key=name, Body=data, ContentType="application/json")


def _put_gcs(bucket: str) -> Any:
    from google.cloud import storage

    place = storage.Client(project=None).bucket(bucket)
    return lambda name, data: place.blob(name).upload_from_string(data, content_type="application/json")
