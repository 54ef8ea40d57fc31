"""What differs between a past run and a replay of one of its steps here."""

import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from dotflow.cli.replay.target import Target
from dotflow.core.action import Action
from dotflow.core.fingerprint import can_compare, fingerprint
from dotflow.report.environment import describe_environment

COMMIT: Final = 10  # characters of a commit
MAX_PACKAGES: Final = 8
NONE: Final = "none"

Line = tuple[str, str]  # what differs, and how


def changes(target: Target, step: Action[..., Any], workflow_id: str | None) -> Iterator[Line]:
    """Yields the code of the step, Python, the folder, the commit, and the packages that are imported here.

    Args:
        target: What is replayed.
        step: The step as it is now.
        workflow_id: The id of the workflow that has it now; None if it has none.
    """
    yield from _compare("workflow", target.run.workflow_id, workflow_id or target.run.workflow_id)
    code, now_code = "" if target.then.fallback else target.task.code, fingerprint(step)
    if code and now_code and code != now_code:
        comparable = can_compare(code, now_code)
        yield "code", "changed" if comparable else "not compared: it was run by another version of Python"
    then, now = target.run.environment, describe_environment()
    for name in ("python", "dotflow"):
        yield from _compare(name, then.get(name), now[name])
    yield from _compare("folder", then.get("folder"), now["folder"])
    yield from _compare("commit", str(then.get("commit") or NONE)[:COMMIT], str(now["commit"] or NONE)[:COMMIT])
    packages = list(_packages(then.get("packages", {}), now["packages"]))
    yield from packages[:MAX_PACKAGES]
    if len(packages) > MAX_PACKAGES:
        yield "packages", f"and {len(packages) - MAX_PACKAGES} more"


def _compare(name: str, then: Any, now: Any) -> Iterator[Line]:
    if then is not None and then != now:
        yield name, f"{then} → {now}"


def _packages(then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Line]:
    """Yields the packages that differ, of those of which a module is imported here."""
    imported = {name.partition(".")[0] for name in sys.modules}
    for package, version in sorted(now.items()):
        if then.get(package) != version and package.lower() != "dotflow" and not imported.isdisjoint(_modules(package)):
            yield package, f"{then.get(package, NONE)} → {version}"


def _modules(package: str) -> set[str]:
    """Returns the names of a package's modules."""
    names = {package.replace("-", "_"), package.replace("-", "_").lower()}
    try:
        distribution = metadata.distribution(package)
        names.update((distribution.read_text("top_level.txt") or "").split())
        names.update(Path(file.parts[0]).stem for file in distribution.files or ())
    except metadata.PackageNotFoundError:
        pass
    return names
