"""What attacks share: a user's folder in which a run has failed, new for each test."""

import shutil
from pathlib import Path

import pytest

from tests.integration.children import Command
from tests.security.forged import Victim, make_template


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a run has failed."""
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def victim(template: Path, tmp_path: Path, command: Command) -> Victim:
    """A copy of it."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return Victim(tmp_path, command)
