"""StorageS3: objects in a bucket of Amazon S3, or of a compatible service."""

from dotflow.core.durations import Duration
from dotflow.providers.optional import require_extra
from dotflow.providers.storages.buckets.bucket import check_bucket, check_optional_text, check_prefix
from dotflow.providers.storages.buckets.s3_bucket import S3Bucket
from dotflow.providers.storages.buckets.storage import StorageObjects
from dotflow.providers.storages.leases.lease import check_seconds
from dotflow.providers.storages.leases.lease_record import SECONDS


class StorageS3(StorageObjects):
    """Saves each value in a readable JSON object of an S3 bucket. Any machine can resume the workflow.

    boto3 finds credentials, profile, endpoint and proxies: `AWS_ACCESS_KEY_ID`, `AWS_PROFILE`, `AWS_ENDPOINT_URL`,
    `~/.aws/config`, the role of the machine. Needs `pip install 'dotflow[aws]'`.

    Args:
        bucket: The bucket. It must exist.
        prefix: The beginning of all names; a slash is added at its end. Nothing is read or written elsewhere.
        region: The bucket's region; None for that of the environment.
        lease: How long a workflow stays locked after its machine is gone: seconds, or a text such as "2m". It is
            renewed three times in that time.

    Raises:
        InvalidArgument: One of the arguments is invalid.
        MissingExtra: boto3 is missing.
    """

    def __init__(
        self, bucket: str, prefix: str = "dotflow/", region: str | None = None, *, lease: Duration = SECONDS
    ) -> None:
        region = check_optional_text("region", region, "a region such as 'eu-central-1'")
        super().__init__(S3Bucket(check_bucket(bucket), region), check_prefix(prefix), check_seconds(lease))
        require_extra("boto3", type(self).__name__, "aws")
