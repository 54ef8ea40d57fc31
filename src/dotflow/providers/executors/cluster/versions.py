"""Versions: what has to be the same here and on a cluster's workers, and what differs."""

from collections.abc import Callable, Mapping
from typing import Any

Versions = Mapping[str, str]


def describer(engine: str) -> Callable[[], Versions]:
    """A function that tells what is installed where it is called. It travels by value: dotflow may not be there."""

    def describe() -> Versions:
        import platform
        from importlib import metadata

        found: dict[str, Any] = {"Python": ".".join(platform.python_version_tuple()[:2])}
        for package in ("dotflow", "cloudpickle", engine):
            try:
                found[package] = metadata.version(package)
            except metadata.PackageNotFoundError:
                found[package] = "not installed"
        return found

    return describe


def differences(here: Versions, there: Mapping[str, Versions]) -> list[str]:
    """What to say of the places that have other versions: a sentence for each set of them."""
    places: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for place, versions in there.items():
        others = tuple((name, version) for name, version in versions.items() if version != here.get(name, version))
        if others:
            places.setdefault(others, []).append(place)
    return [
        f"Versions differ: {', '.join(f'{name} {version} (here {here[name]})' for name, version in others)} on "
        f"{_listed(names)}. Steps and values travel as pickles and may not be understood there: install the same."
        for others, names in places.items()
    ]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
