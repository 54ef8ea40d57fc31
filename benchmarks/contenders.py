"""Who is compared: what to install, what it is asked, and a virtual environment for each."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

ROOT: Final = Path(__file__).parents[1]
VENVS: Final = ROOT / ".venv" / "compared"
PROGRAMS: Final = Path(__file__).parent / "compared"
SAME: Final = "always on disk"  # in the place of the overhead without a durable result


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A library that is compared.

    Args:
        name: How it is called in the tables.
        program: Its program in compared/, without `with_` and `.py`; its venv is called so, too.
        install: What pip installs.
        package: The distribution whose version counts.
        imports: The import that its users begin with.
        steps: How many steps are run, by measurement, to tell what one costs.
        lacks: What stands in a cell instead of an observation, by measurement.
        prepare: Arguments to its Python that make it ready, once in each folder, before the clock runs.
        redis: Whether it needs a Redis server beside it.
    """

    name: str
    program: str
    install: Sequence[str]
    package: str
    imports: str
    steps: Mapping[str, int]
    lacks: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    prepare: Sequence[str] = ()
    redis: bool = False

    @property
    def python(self) -> Path:
        """The interpreter of its venv."""
        return VENVS / self.program / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """Where its venv keeps what is installed."""
        return next((VENVS / self.program / "lib").glob("python*/site-packages"))

    def installed(self) -> None:
        """Makes its venv where there is none yet; the one of the checkout is made each time.

        Raises:
            RuntimeError: pip refused; the error holds its last line.
        """
        ready = VENVS / self.program / ".ready"
        if ready.exists() and str(ROOT) not in self.install:
            return
        subprocess.run([sys.executable, "-m", "venv", "--clear", ready.parent], check=True)
        if not self.install:
            ready.touch()
            return
        pip = [self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *self.install]
        done = subprocess.run(pip, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        ready.touch()

    def version(self) -> str:
        """The version that is installed; Python's own for what comes with it."""
        for found in self.site_packages.glob(f"{self.package}-*.dist-info"):
            return found.name.removesuffix(".dist-info").rpartition("-")[2]
        return ".".join(map(str, sys.version_info[:3]))

    def weight(self) -> tuple[int, int]:
        """How many distributions are installed, pip left out, and their bytes, with the bytecode that pip made."""
        kept = [path for path in self.site_packages.iterdir() if not path.name.startswith("pip")]
        files = [file for path in kept for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
        return sum(path.suffix == ".dist-info" for path in kept), sum(file.lstat().st_size for file in files)


NO_DISK: Final = "not kept"
NO_RESUME: Final = "no resume"

CONTENDERS: Final = [
    Contender(
        name="dotflow",
        program="dotflow",
        install=[str(ROOT)],
        package="dotflow",
        imports="from dotflow import DotFlow, action",
        steps={"overhead": 1000, "durable": 1000, "sqlite": 1000},
    ),
    Contender(
        name="concurrent.futures",
        program="futures",
        install=[],
        package="none",
        imports="from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor",
        steps={"overhead": 1000},
        lacks={"durable": NO_DISK, "chain": NO_RESUME, "values": NO_DISK},
    ),
    Contender(
        name="joblib",
        program="joblib",
        install=["joblib"],
        package="joblib",
        imports="from joblib import Memory, Parallel, delayed",
        steps={"overhead": 1000, "durable": 1000},
    ),
    Contender(
        name="Luigi",
        program="luigi",
        install=["luigi"],
        package="luigi",
        imports="import luigi",
        steps={"durable": 500},
        lacks={"overhead": SAME},
    ),
    Contender(
        name="DBOS",
        program="dbos",
        install=["dbos"],
        package="dbos",
        imports="from dbos import DBOS",
        steps={"durable": 1000},
        lacks={"overhead": SAME},
    ),
    Contender(
        name="Prefect",
        program="prefect",
        install=["prefect"],
        package="prefect",
        imports="from prefect import flow, task",
        steps={"overhead": 200, "durable": 200},
    ),
    Contender(
        name="Dagster",
        program="dagster",
        install=["dagster"],
        package="dagster",
        imports="from dagster import job, op",
        steps={"overhead": 200, "durable": 200},
        lacks={"late": "none for a step", "stuck": "none for a step"},
    ),
    Contender(
        name="Celery",
        program="celery",
        install=["celery[redis]"],
        package="celery",
        imports="from celery import Celery",
        steps={"overhead": 200},
        lacks={"durable": "as Redis keeps it"},
        redis=True,
    ),
    Contender(
        name="Airflow",
        program="airflow",
        install=["apache-airflow"],
        package="apache_airflow",
        imports="from airflow.sdk import DAG, task",
        steps={"durable": 20},
        lacks={"overhead": SAME},
        prepare=["-m", "airflow", "db", "migrate"],
    ),
    Contender(
        name="Dask",
        program="dask",
        install=["distributed"],
        package="distributed",
        imports="from distributed import Client, LocalCluster",
        steps={"overhead": 1000},
        lacks={"durable": NO_DISK, "chain": NO_RESUME, "values": NO_DISK},
    ),
    Contender(
        name="Ray",
        program="ray",
        install=["ray"],
        package="ray",
        imports="import ray",
        steps={"overhead": 1000},
        lacks={"durable": NO_DISK, "chain": NO_RESUME, "values": NO_DISK},
    ),
]
