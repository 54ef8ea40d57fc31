"""Sizes: numbers of bytes and texts."""

from typing import Any

import pytest

from dotflow.core.sizes import as_bytes
from dotflow.errors import InvalidArgument


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (0, 0),
        (12, 12),
        ("12", 12),
        ("1.5 kB", 1500),
        ("256 MB", 256_000_000),
        ("2GB", 2 * 10**9),
        ("1.5 GiB", 3 * 2**29),
    ],
)
def test_a_size_is_a_number_or_a_text(value: Any, count: int) -> None:
    """Units are those of the field: 1 kB is 1,000 bytes, and 1 KiB 1,024."""
    assert as_bytes("limit", value) == count


@pytest.mark.parametrize("value", [None, -1, "", "x", "-1 MB", "1 mb", "1 KB", 1.5, True])
def test_another_value_is_no_size(value: Any) -> None:
    """The error shows the formats."""
    with pytest.raises(InvalidArgument):
        as_bytes("limit", value)
