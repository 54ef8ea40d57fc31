"""What differs between a past run and a replay of one of its steps here."""

import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any, Final

from dotflow.cli.replay.target import Target
from dotflow.code.fingerprint import can_compare, fingerprint
from dotflow.core.action import Action
from dotflow.records.environment import describe_environment
from dotflow.records.record import RunRecord
from dotflow.resume.changed_code import is_same_step

COMMIT: Final = 10  # characters of a commit
MAX_PACKAGES: Final = 8
NONE: Final = "none"

Line = tuple[str, str]  # what differs, and how


def environment_changes(run: RunRecord) -> Iterator[Line]:
    """Yields Python, dotflow, the folder and the commit. Runs none of the user's code."""
    then, now = run.environment, describe_environment()
    for name in ("python", "dotflow", "folder"):
        yield from _compare(name, then.get(name), now[name])
    yield from _compare("commit", str(then.get("commit") or NONE)[:COMMIT], str(now["commit"] or NONE)[:COMMIT])


def code_changes(target: Target, step: Action[..., Any], workflow_id: str | None) -> Iterator[Line]:
    """Yields the workflow, the step, its code, and the packages that are imported here.

    *workflow_id* is that of the workflow that has the step now; None if it has none.
    """
    if workflow_id is not None:  # the inputs are those of then, whatever parameters today's run has
        yield from _compare("workflow", *(each.partition("@")[0] for each in (target.run.workflow_id, workflow_id)))
    if not target.then.fallback and not is_same_step(target.task.identity, step.identity):
        yield from _compare("step", target.task.identity, step.identity)
    code, now_code = "" if target.then.fallback else target.task.code, fingerprint(step)
    if code and now_code and code != now_code:
        comparable = can_compare(code, now_code)
        yield "code", "changed" if comparable else "not compared: it was run by another version of Python"
    packages = list(_packages(target.run.environment.get("packages", {}), describe_environment()["packages"]))
    yield from packages[:MAX_PACKAGES]
    if len(packages) > MAX_PACKAGES:
        yield "packages", f"and {len(packages) - MAX_PACKAGES} more"


def _compare(name: str, then: Any, now: Any) -> Iterator[Line]:
    if then is not None and then != now:
        yield name, f"{then} → {now}"


def _packages(then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Line]:
    """Yields the packages that differ, of those of which a module is imported here."""
    changed = [name for name, version in sorted(now.items()) if then.get(name) != version and name.lower() != "dotflow"]
    if not changed:
        return
    imported = {module.partition(".")[0] for module in sys.modules}
    modules = metadata.packages_distributions()  # takes long
    used = {_plain(package) for module in imported for package in modules.get(module, ())}
    yield from ((name, f"{then.get(name, NONE)} → {now[name]}") for name in changed if _plain(name) in used)


def _plain(package: str) -> str:
    """Returns a name of a package as all ways to write it."""
    return package.replace("-", "_").replace(".", "_").lower()
