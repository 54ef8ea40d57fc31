"""StorageGCS: objects in a bucket of Google Cloud Storage."""

from dotflow.core.durations import Duration
from dotflow.providers.optional import require_extra
from dotflow.providers.storages.buckets.bucket import check_bucket, check_optional_text, check_prefix
from dotflow.providers.storages.buckets.gcs_bucket import GCSBucket
from dotflow.providers.storages.buckets.storage import StorageObjects
from dotflow.providers.storages.leases.lease import check_seconds
from dotflow.providers.storages.leases.lease_record import SECONDS


class StorageGCS(StorageObjects):
    """Saves each value in a readable JSON object of a Google Cloud Storage bucket. Any machine can resume the workflow.

    Google's library finds credentials and endpoint: `GOOGLE_APPLICATION_CREDENTIALS`, `gcloud auth application-default
    login`, the service account of the machine, `STORAGE_EMULATOR_HOST`. Needs `pip install 'dotflow[gcp]'`.

    Args:
        bucket: The bucket. It must exist.
        prefix: The beginning of all names; a slash is added at its end. Nothing is read or written elsewhere.
        project: The project of the requests; None for none, which objects don't need.
        lease: How long a workflow stays locked after its machine is gone: seconds, or a text such as "2m". It is
            renewed three times in that time.

    Raises:
        InvalidArgument: One of the arguments is invalid.
        MissingExtra: google-cloud-storage is missing.
    """

    def __init__(
        self, bucket: str, prefix: str = "dotflow/", project: str | None = None, *, lease: Duration = SECONDS
    ) -> None:
        project = check_optional_text("project", project, "the id of a project")
        super().__init__(GCSBucket(check_bucket(bucket), project), check_prefix(prefix), check_seconds(lease))
        require_extra("google.cloud.storage", type(self).__name__, "gcp")
