"""The environment variables that users of the clouds set, and buckets that are there."""

import urllib.request
from collections.abc import Callable
from typing import Final

BUCKET: Final = "values"

#: Nothing of the machine that the tests run on is looked at: no file of settings, no service for credentials.
S3_SETTINGS: Final = {
    "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST",
    "AWS_SECRET_ACCESS_KEY": "s3cr3t-s3cr3t-s3cr3t",
    "AWS_SESSION_TOKEN": "t0k3n-t0k3n-t0k3n",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}


def set_up_s3(url: str, set_variable: Callable[[str, str], None], bucket: str = BUCKET) -> str:
    """Sets the variables for a server, creates a bucket in it, and returns the bucket's name."""
    for name, value in {**S3_SETTINGS, "AWS_ENDPOINT_URL": url}.items():
        set_variable(name, value)
    _send("PUT", f"{url}/{bucket}", b"")
    return bucket


def set_up_gcs(url: str, set_variable: Callable[[str, str], None], bucket: str = BUCKET) -> str:
    """Sets the variables for a server, creates a bucket in it, and returns the bucket's name."""
    set_variable("STORAGE_EMULATOR_HOST", url)
    _send("POST", f"{url}/storage/v1/b?project=p", b'{"name": "%b"}' % bucket.encode())
    return bucket


def _send(method: str, url: str, data: bytes) -> None:
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        urllib.request.urlopen(request).close()
    except urllib.error.HTTPError as error:  # it is there already
        error.close()
        if error.code != 409:
            raise
