"""The programs of docs/how-to/clouds.md, run as they are printed, each twice, against the servers on this machine."""

import os
from pathlib import Path

import pytest

from tests.acceptance.test_documents import BLOCK, ROOT, promised_by, run_as_script
from tests.clouds.settings import set_up_gcs, set_up_s3

PROGRAMS = BLOCK.findall((ROOT / "docs/how-to/clouds.md").read_text())


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.slow
@pytest.mark.usefixtures("postgres_settings")
@pytest.mark.parametrize(
    "program",
    [
        pytest.param(PROGRAMS[0], id="s3", marks=pytest.mark.exhaustive),
        pytest.param(PROGRAMS[1], id="gcs"),
        pytest.param(PROGRAMS[2], id="postgres"),
    ],
)
def test_a_program_runs_as_it_is_printed(
    program: str, s3_server: str, gcs_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing but what its user sets in the environment; the second time it skips both steps."""
    set_up_s3(s3_server, monkeypatch.setenv, "my-bucket")
    set_up_gcs(gcs_server, monkeypatch.setenv, "my-bucket")
    assert "AWS_ENDPOINT_URL" in os.environ
    for _ in range(2):
        ended = run_as_script(program, tmp_path)

        assert ended.returncode == 0, ended.stderr
        assert all(promised in ended.stdout for promised in promised_by(program))
