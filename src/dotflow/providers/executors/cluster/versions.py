"""The versions of Python and packages, here and on a cluster's workers."""

from collections.abc import Callable, Mapping
from typing import Any

Versions = Mapping[str, str]


def make_describe(engine: str) -> Callable[[], Versions]:
    """Returns a function that reports the versions where it runs, pickled by value: dotflow may be missing there."""

    def describe() -> Versions:
        import platform
        from importlib import metadata

        versions_here: dict[str, Any] = {"Python": ".".join(platform.python_version_tuple()[:2])}
        for package in ("dotflow", "cloudpickle", engine):
            try:
                versions_here[package] = metadata.version(package)
            except metadata.PackageNotFoundError:
                versions_here[package] = "not installed"
        return versions_here

    return describe


def differences(here: Versions, there: Mapping[str, Versions]) -> list[str]:
    """Returns a sentence for each set of versions that differs from the ones here."""
    workers: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for worker, versions in there.items():
        different = tuple((name, version) for name, version in versions.items() if version != here.get(name, version))
        if different:
            workers.setdefault(different, []).append(worker)
    return [
        f"Versions differ: {', '.join(f'{name} {version} (here {here[name]})' for name, version in different)} on "
        f"{_join_names(names)}. Steps and values travel as pickles and may not be understood there: install the same."
        for different, names in workers.items()
    ]


def _join_names(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
