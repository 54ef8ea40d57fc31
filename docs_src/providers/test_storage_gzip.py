from pathlib import Path

import pytest
from storage_gzip import StorageGzip, extract, total

from dotflow import Context, DotFlow
from dotflow.errors import CheckpointUnreadable
from dotflow.testing import StorageContract, assert_survives_crashes


class TestStorageGzip(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> StorageGzip:
        return StorageGzip(tmp_path)

    @pytest.fixture
    def again(self, tmp_path: Path) -> StorageGzip:
        return StorageGzip(tmp_path)


def test_a_file_that_is_cut_off_is_no_value(tmp_path: Path) -> None:
    storage = StorageGzip(tmp_path)
    storage.post("w/0", Context([1, 2, 3]))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-9])

    with pytest.raises(CheckpointUnreadable, match="cut off"):
        storage.get("w/0")


def build_workflow() -> DotFlow:
    workflow = DotFlow()
    workflow.task.add([extract, total])
    return workflow


def test_a_workflow_survives_crashes(tmp_path: Path) -> None:
    assert_survives_crashes(build_workflow, StorageGzip(tmp_path))
