"""The environment of a run, read off files."""

import json
import sys
from pathlib import Path

import pytest

from dotflow.core.masks import NO_MASKS
from dotflow.records.environment import commit_of, packages, read_environment

COMMIT = "d8b191ca1551caa92372fa6e86ed61822e702f28"


def test_an_environment_describes_the_process_of_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Python, dotflow, the system, the packages, the folder and the command; the same text for the same."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["shop.py", "--day", "2026-11-25"])

    environment = read_environment(NO_MASKS)

    document = json.loads(environment)
    assert document["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")
    assert (document["folder"], document["argv"]) == (str(tmp_path), ["shop.py", "--day", "2026-11-25"])
    assert document["packages"]["pytest"] == pytest.__version__
    assert document["commit"] is None
    assert read_environment(NO_MASKS) == environment


def test_a_folder_that_is_gone_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run may have deleted it."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    document = json.loads(read_environment(NO_MASKS))

    assert (document["folder"], document["commit"]) == (None, None)


def test_the_first_folder_of_a_package_counts(tmp_path: Path) -> None:
    """As in an import. Folders that can't be read have none."""
    for folder, name in (("one", "shop-1.0.dist-info"), ("two", "shop-2.0.dist-info"), ("two", "desk-3.dist-info")):
        (tmp_path / folder / name).mkdir(parents=True)

    found = packages((str(tmp_path / "one"), str(tmp_path / "two"), str(tmp_path / "three")))

    assert found == {"shop": "1.0", "desk": "3"}


@pytest.mark.parametrize("where", ["loose", "packed", "detached", "worktree"])
def test_the_commit_is_read_without_git(where: str, tmp_path: Path) -> None:
    """Of a branch, of a packed one, of a detached head and of a worktree, from a folder below."""
    git = tmp_path / "repository" / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    folder = tmp_path / "repository" / "src"
    (git / "HEAD").write_text(f"{COMMIT}\n" if where == "detached" else "ref: refs/heads/main\n")
    if where == "packed":
        (git / "packed-refs").write_text(f"# pack-refs with: peeled\n{COMMIT} refs/heads/main\n^{'0' * 40}\n")
    else:
        (git / "refs" / "heads" / "main").write_text(f"{COMMIT}\n")
    if where == "worktree":
        own = git / "worktrees" / "w"
        own.mkdir(parents=True)
        (own / "HEAD").write_text("ref: refs/heads/main\n")
        (own / "commondir").write_text("../..\n")
        folder = tmp_path / "w" / "src"
        folder.parent.mkdir()
        (folder.parent / ".git").write_text(f"gitdir: {own}\n")
    folder.mkdir()

    assert commit_of(folder) == COMMIT


@pytest.mark.parametrize("head", ["", "ref: refs/heads/new", "nonsense"])
def test_without_a_commit_there_is_none(head: str, tmp_path: Path) -> None:
    """A repository without a commit, or one that can't be read."""
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text(head)

    assert commit_of(tmp_path) is None
