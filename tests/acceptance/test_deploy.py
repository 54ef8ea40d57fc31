"""The files of examples/deploy are what their programs read, and serve with commands that exist."""

import configparser
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dotflow.cli.main import main
from dotflow.providers.postgres.dsn import Dsn

DEPLOY = Path(__file__).parents[2] / "examples" / "deploy"
UPGRADE = "dotflow history upgrade --history postgres"
STOPS_WITHIN = 30  # seconds that a step is given by the first signal, at least


def check_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The command knows the options; `--help` after them ends it before it imports anything."""
    assert arguments[0] == "dotflow"
    assert main([*arguments[1:], "--help"]) == 0
    assert "Usage: dotflow serve" in capsys.readouterr().out


def section(file: str, name: str) -> configparser.SectionProxy:
    """Returns a section of a systemd unit."""
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / file)
    return unit[name]


@pytest.mark.parametrize("file", ["dotflow.service", "dotflow-once.service"])
def test_the_systemd_units(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the first process gets the first signal, and steps have time to end."""
    service = section(file, "Service")
    _, *arguments = service["ExecStart"].split()

    check_command(["dotflow", *arguments], capsys)
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) >= STOPS_WITHIN


def test_a_server_is_started_again_and_a_timer_starts_one_that_ends() -> None:
    """The unit that serves restarts; the one of the timer works the queue off, under the timer's name."""
    once = section("dotflow-once.service", "Service")

    assert section("dotflow.service", "Service")["Restart"] == "always"
    assert (once["Type"], once["ExecStart"].split()[-1]) == ("oneshot", "--once")
    assert "Unit" not in section("dotflow-once.timer", "Timer")


@pytest.mark.parametrize("name", ["dotflow.service", "dotflow-once.timer"])
def test_systemd_itself_accepts_the_units(tmp_path: Path, name: str) -> None:
    """With a program and a user that this machine has."""
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not there")
    for file in [*DEPLOY.glob("*.service"), *DEPLOY.glob("*.timer")]:
        text = file.read_text().replace("/srv/shop/venv/bin/dotflow", "/bin/true").replace("User=shop", "User=root")
        (tmp_path / file.name).write_text(text)
    done = subprocess.run([verify, "verify", str(tmp_path / name)], capture_output=True, text=True, check=False)
    assert "dotflow" not in done.stderr, done.stderr


def test_the_compose_file(capsys: pytest.CaptureFixture[str]) -> None:
    """Application and servers share the data; servers are ended as slowly as their steps need."""
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    serve = services["serve"]

    check_command(serve["command"].split(), capsys)
    assert serve["volumes"] == services["web"]["volumes"]
    assert serve["environment"] == services["web"]["environment"]
    assert int(serve["stop_grace_period"].rstrip("s")) >= STOPS_WITHIN


def test_the_kubernetes_objects(capsys: pytest.CaptureFixture[str]) -> None:
    """A Deployment that serves, and a CronJob that works the queue off."""
    deployment, job = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    pods: list[Any] = [deployment["spec"]["template"]["spec"], job["spec"]["jobTemplate"]["spec"]["template"]["spec"]]

    assert (deployment["kind"], job["kind"]) == ("Deployment", "CronJob")
    assert deployment["spec"]["selector"]["matchLabels"] == deployment["spec"]["template"]["metadata"]["labels"]
    for pod in pods:
        (container,) = pod["containers"]
        check_command(container["args"], capsys)
        assert pod["terminationGracePeriodSeconds"] >= STOPS_WITHIN
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert "--once" in pods[1]["containers"][0]["args"]
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    assert 10 <= job["spec"]["startingDeadlineSeconds"] < 300  # below 10 it may never start


def test_the_compose_file_of_several_machines(capsys: pytest.CaptureFixture[str]) -> None:
    """The tables are made before the first server begins, and no command line has the password."""
    services = yaml.safe_load((DEPLOY / "compose-postgres.yaml").read_text())["services"]
    serve, tables = services["serve"], services["tables"]

    check_command(serve["command"].split(), capsys)
    assert tables["command"] == UPGRADE
    assert list(serve["depends_on"]) == ["tables"]
    assert serve["environment"] == tables["environment"]
    assert "volumes" not in serve
    check_database(serve["environment"]["DOTFLOW_POSTGRES_DSN"])
    assert int(serve["stop_grace_period"].rstrip("s")) >= STOPS_WITHIN


def test_the_kubernetes_deployment_of_several_machines(capsys: pytest.CaptureFixture[str]) -> None:
    """Each pod makes or upgrades the tables before it serves; the password is a secret."""
    deployment = yaml.safe_load((DEPLOY / "kubernetes-postgres.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    (tables,), (serve,) = pod["initContainers"], pod["containers"]
    dsn, password = serve["env"]

    check_command(serve["args"], capsys)
    assert " ".join(tables["args"]) == UPGRADE
    assert (tables["image"], tables["env"]) == (serve["image"], serve["env"])
    check_database(dsn["value"])
    assert list(password) == ["name", "valueFrom"]
    assert deployment["spec"]["selector"]["matchLabels"] == deployment["spec"]["template"]["metadata"]["labels"]
    assert pod["terminationGracePeriodSeconds"] >= STOPS_WITHIN


def check_database(dsn: str) -> None:
    """It can be read, and has no password."""
    assert not Dsn(dsn, "HistoryPostgres").has_password
