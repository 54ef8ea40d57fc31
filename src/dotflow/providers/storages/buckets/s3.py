"""StorageS3: objects in a bucket of Amazon S3, or of a service that speaks like it."""

from dotflow.core.durations import Duration
from dotflow.providers.optional import require_extra
from dotflow.providers.storages.buckets.bucket import check_bucket, check_optional_text, check_prefix
from dotflow.providers.storages.buckets.s3_bucket import S3Bucket
from dotflow.providers.storages.buckets.storage import StorageObjects
from dotflow.providers.storages.leases.lease import check_seconds
from dotflow.providers.storages.leases.lease_record import SECONDS


class StorageS3(StorageObjects):
    """Keeps each value in a readable JSON object of an S3 bucket: runs go on on another machine.

    Credentials, profile, endpoint and proxies are those that boto3 finds: `AWS_ACCESS_KEY_ID`, `AWS_PROFILE`,
    `AWS_ENDPOINT_URL`, `~/.aws/config`, the role of the machine. Needs `pip install 'dotflow[aws]'`.

    Args:
        bucket: The bucket; it has to be there.
        prefix: What all names begin with; a slash is put at its end. Nothing is ever read or written elsewhere.
        region: The bucket's region; None for what the environment says.
        lease: How long a workflow stays taken after the machine that ran it is gone: seconds, or a text such as "2m".
            It is renewed three times in that time.

    Raises:
        InvalidArgument: One of them means nothing.
        MissingExtra: boto3 is missing.
    """

    def __init__(
        self, bucket: str, prefix: str = "dotflow/", region: str | None = None, *, lease: Duration = SECONDS
    ) -> None:
        region = check_optional_text("region", region, "a region such as 'eu-central-1'")
        super().__init__(S3Bucket(check_bucket(bucket), region), check_prefix(prefix), check_seconds(lease))
        require_extra("boto3", type(self).__name__, "aws")
