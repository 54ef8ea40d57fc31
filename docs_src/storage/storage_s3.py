"""Values in a bucket of Amazon S3, or of a service that speaks like it: another machine can go on with the run."""

import os
import sys

from dotflow import Config, Context, DotFlow, action
from dotflow.errors import DotflowError
from dotflow.providers import StorageS3


@action
def extract() -> list[int]:
    return [120, 80, 45]


@action
def add_up(previous_context: Context) -> int:
    return sum(previous_context.storage)


if not os.environ.get("AWS_ENDPOINT_URL"):
    print("Set AWS_ENDPOINT_URL, such as http://127.0.0.1:9000, and DOTFLOW_BUCKET to a bucket that is there.")
    sys.exit()

try:
    storage = StorageS3(os.environ.get("DOTFLOW_BUCKET", "dotflow-example"), prefix="docs_src/")
    workflow = DotFlow(config=Config(storage=storage), workflow_id="storage-s3")
    workflow.task.add(step=[extract, add_up])
    run = workflow.start(resume=True)  # the second time there is nothing left to do
except (ImportError, DotflowError) as problem:  # it says what is wrong, and what to do
    print(problem)
    sys.exit()

print(run.status, workflow.result_storage())  # Completed [[120, 80, 45], 245]
print(sorted(storage.list_keys("storage-s3/")))  # ['storage-s3/0', 'storage-s3/1']
