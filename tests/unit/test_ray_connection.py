"""ray_connection: what Ray says when it can't be used."""

from types import SimpleNamespace

import pytest

from dotflow.errors import ClusterError
from dotflow.providers.executors.ray import connection as ray_connection


@pytest.mark.parametrize("kind", [Exception, ConnectionError, ValueError, RuntimeError])
def test_the_reason_why_ray_does_not_start_is_reported(kind: type[Exception]) -> None:
    """Its own are of many kinds; where its processes don't start it is a plain Exception."""

    def init(address: str | None, **options: object) -> None:
        raise kind("The current node timed out during startup.")

    with pytest.raises(ClusterError, match=r"can't be used: .*timed out during startup.*ray status"):
        ray_connection._initialize(SimpleNamespace(init=init), None, {})
