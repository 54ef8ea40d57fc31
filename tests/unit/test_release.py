"""The job that makes what PyPI gets."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PINNED = re.compile(r"[a-z0-9-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64}")


def test_a_release_is_built_with_pinned_hashes_and_nothing_else() -> None:
    """A package of the build could change the wheel: each has a hash, and no other one is installed."""
    job = (ROOT / ".github/workflows/release.yml").read_text().partition("\n  test:\n")[0]
    installs = [line.strip() for line in job.splitlines() if re.search(r"\b(pip|make|uv)\b ", line)]
    pins = (ROOT / ".github/requirements-build.txt").read_text().splitlines()[1:]

    assert [line.split(maxsplit=1)[1] for line in installs] == [
        "install --require-hashes --no-deps --only-binary :all: -r .github/requirements-build.txt"
    ]
    assert "-m build --no-isolation" in job
    assert [pin for pin in pins if not PINNED.fullmatch(pin)] == []
    assert {"build", "hatchling"} <= {pin.partition("==")[0] for pin in pins}
