"""The names of `import dotflow`, and the modules that it loads."""

import json
import os
import pickle
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import dotflow

#: The names and modules that are promised to users.
PROMISED = {
    "dotflow": [
        "Approval",
        "CommandFailed",
        "Config",
        "Context",
        "Control",
        "DotFlow",
        "FireTime",
        "MapContext",
        "NotYet",
        "Resources",
        "Run",
        "Secret",
        "Setting",
        "Task",
        "TaskError",
        "Throttled",
        "aask",
        "action",
        "ask",
        "asleep",
        "atomic_path",
        "note",
        "serve",
        "shell",
        "sleep",
        "used",
    ],
    "dotflow.providers": [
        "ExecutorAsync",
        "ExecutorDask",
        "ExecutorInline",
        "ExecutorProcess",
        "ExecutorRay",
        "ExecutorThread",
        "HistorySQLite",
        "LogDefault",
        "NotifyApprise",
        "NotifyDefault",
        "NotifyTelegram",
        "SchedulerCron",
        "SchedulerDefault",
        "StorageDefault",
        "StorageFile",
        "StorageGCS",
        "StoragePostgres",
        "StorageS3",
        "StorageSQLite",
        "TracerOpenTelemetry",
    ],
    "dotflow.testing": [
        "CrashReport",
        "ExecutorContract",
        "HistoryContract",
        "StorageContract",
        "VirtualClock",
        "assert_survives_crashes",
        "failing",
        "virtual_clock",
    ],
    "dotflow.codec": ["decode", "encode"],
    "dotflow.ui": ["app"],
    "dotflow.core.types": ["TypeExecution", "TypeOverlap", "TypeRunState", "TypeStatus", "TypeStorage"],
    "dotflow.core.types.status": ["TypeStatus"],
    "dotflow.abc.executor": ["Executor"],
    "dotflow.abc.log": ["Log"],
    "dotflow.abc.notify": ["Notify"],
    "dotflow.abc.scheduler": ["Scheduler"],
    "dotflow.abc.storage": ["Storage"],
    "dotflow.abc.tracer": ["Tracer"],
}


def loaded_by(statement: str) -> set[str]:
    """Returns the top-level modules that a statement loads in a fresh interpreter, without Python's own."""
    program = (
        "import sys, json; before = set(sys.modules)\n"
        f"{statement}\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))"
    )
    path = [entry for entry in sys.path if entry]
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path[:] = {path!r}\n{program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "statement",
    [
        "import dotflow",
        "from dotflow import *",
        "from dotflow import Config, Context, DotFlow, FireTime, Run, Task, TaskError, action",
        "from dotflow.providers import LogDefault, NotifyDefault, SchedulerDefault, StorageDefault",
        "from dotflow.core.types import TypeExecution, TypeOverlap, TypeStorage",
        "from dotflow.abc import executor, history, log, notify, scheduler, storage, tracer",
        "from dotflow.codec import decode, encode; decode(encode([(1, 2), {'a': b'b'}]))",
        "from dotflow.providers import NotifyTelegram; NotifyTelegram('1:a', 1)",
        "from dotflow.providers.notifiers.telegram.secret_post import post",
        "from dotflow.providers import StorageFile; StorageFile().get('w/0')",
        "from dotflow.providers import StoragePostgres",
        "from dotflow.providers import StorageS3; StorageS3('bucket').lock",
        "from dotflow.providers import StorageSQLite; StorageSQLite().get('w/0')",
        "from dotflow.providers import ExecutorDask; ExecutorDask('tcp://10.0.0.5:8786', timeout=3)",
        "from dotflow.providers import ExecutorRay; ExecutorRay('10.0.0.5:6379')",
        "from dotflow.providers import TracerOpenTelemetry",
        "import dotflow.ui; dotflow.ui.app",
    ],
)
def test_no_third_party_module_is_loaded(statement: str) -> None:
    """The face, the contracts and the default providers need nothing but Python."""
    loaded = {name for name in loaded_by(statement) if not name.startswith("_sysconfigdata")}  # zoneinfo's, unlisted

    assert loaded - {"dotflow"} <= sys.stdlib_module_names


def test_a_cloud_is_loaded_when_it_is_used() -> None:
    """Constructing a storage loads no SDK. The search for Google's package loads its parent packages."""
    loaded = loaded_by("from dotflow.providers import StorageGCS; StorageGCS('bucket')")

    assert loaded - {"dotflow", "google"} <= sys.stdlib_module_names


#: Modules that only some runs need: event loops, processes, models.
HEAVY = {"asyncio", "cloudpickle", "multiprocessing", "pydantic", "subprocess"}


def test_the_bare_import_loads_no_other_file_of_ours() -> None:
    """`import dotflow` is instant: other modules are loaded on first use."""
    statement = "import dotflow, sys; assert not [name for name in sys.modules if name.startswith('dotflow.')]"

    assert loaded_by(statement) & (HEAVY | {"inspect", "threading"}) == set()


def test_a_history_that_is_written_loads_nothing_to_read_it() -> None:
    """`dotflow start` writes one by default, and most runs are never read by their own process."""
    program = "from dotflow.providers import HistorySQLite as H;H(); assert 'dotflow.records.record' not in sys.modules"

    assert loaded_by(program).isdisjoint({*HEAVY, "random", "socket"})


def test_a_run_in_its_own_thread_loads_nothing_for_processes(tmp_path: Path) -> None:
    """With a history, too: the first run of a process begins within milliseconds."""
    program = (
        "from dotflow import Config, DotFlow, action; from dotflow.providers import HistorySQLite, LogDefault; "
        f"history = HistorySQLite({str(tmp_path / 'history.db')!r}); "
        "workflow = DotFlow(Config(log=LogDefault(output='none'), history=history)); "
        "workflow.task.add(action(lambda: 1)); workflow.start()"
    )

    assert loaded_by(program).isdisjoint({*HEAVY, "pickle", "random", "selectors", "socket"})


def test_a_workflow_loads_nothing_heavy() -> None:
    """Defining one is quick, too."""
    assert loaded_by("from dotflow import DotFlow, action") & HEAVY == set()


def test_a_sequential_run_loads_nothing_heavy() -> None:
    """Plain functions in order need no event loop, no process and no model."""
    program = (
        "from dotflow import Config, DotFlow, action\n"
        "from dotflow.providers import LogDefault\n"
        "workflow = DotFlow(Config(log=LogDefault(output='none')))\n"
        "workflow.task.add(action(lambda: 1))\n"
        "workflow.start()"
    )

    assert loaded_by(program) & HEAVY == set()


@pytest.mark.parametrize(("module", "name"), [(module, name) for module in PROMISED for name in PROMISED[module]])
def test_every_promised_name_is_there(module: str, name: str) -> None:
    """Programs written for these names run unchanged."""
    assert getattr(import_module(module), name).__name__ == name


@pytest.mark.parametrize(
    "module", ["dotflow", "dotflow.providers", "dotflow.core.types", "dotflow.testing", "dotflow.codec"]
)
def test_all_is_sorted_and_complete(module: str) -> None:
    """__all__ has the promised names, in order, and each can be imported."""
    exported = import_module(module).__all__

    assert list(exported) == sorted(exported)
    assert set(PROMISED[module]) <= set(exported)
    for name in exported:
        assert getattr(import_module(module), name)


def test_the_face_exports_the_promised_names_and_no_more() -> None:
    """Every public name is a promise, so there are few."""
    assert dotflow.__all__ == PROMISED["dotflow"]


def test_the_plan_is_exported_but_not_with_the_star() -> None:
    """It is a Pydantic model, which the star would load."""
    assert dotflow.WorkflowPlan.__module__ == "dotflow.graph.workflow_plan"
    assert "WorkflowPlan" in dir(dotflow)


@pytest.mark.parametrize("module", ["dotflow", "dotflow.providers", "dotflow.testing"])
def test_lazy_names_are_listed(module: str) -> None:
    """dir() and tab completion know the names before they are loaded."""
    statement = (
        f"import {module} as module\n"
        "missing = set(module.__all__) - set(dir(module))\n"
        "import sys; sys.exit(f'dir() lacks {missing}' if missing else 0)"
    )
    subprocess.run([sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\n{statement}"], check=True)


@pytest.mark.parametrize("module", ["dotflow", "dotflow.providers", "dotflow.testing"])
def test_an_unknown_name_is_an_attribute_error(module: str) -> None:
    """A misspelt name says which module lacks it; `from ... import` makes an ImportError of it."""
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'Nonsense'"):
        import_module(module).Nonsense  # noqa: B018
    with pytest.raises(ImportError, match="Nonsense"):
        exec(f"from {module} import Nonsense")


@pytest.mark.parametrize("name", ["StorageFile", "SchedulerCron", "StorageS3"])
def test_a_provider_imported_from_dotflow(name: str) -> None:
    """The error names the right module."""
    with pytest.raises(ImportError, match=f"from dotflow.providers import {name}"):
        exec(f"from dotflow import {name}")


def test_a_name_is_the_same_object_each_time() -> None:
    """Lazy loading gives the class itself, not a copy or a stand-in."""
    from dotflow.workflow import DotFlow

    assert dotflow.DotFlow is DotFlow
    assert dotflow.DotFlow is dotflow.DotFlow


def test_it_has_a_version() -> None:
    """It is a dotted number."""
    assert dotflow.__version__.count(".") >= 2


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("StorageSqlite", "StorageSQLite"),
        ("ExecutorProcesses", "ExecutorProcess"),
        ("FileStorage", "StorageFile"),
        ("CronScheduler", "SchedulerCron"),
    ],
)
def test_a_misspelt_provider(wrong: str, right: str) -> None:
    """The error has the most similar name, which Python itself only guesses for top-level modules."""
    with pytest.raises(ImportError, match=rf"there is no provider {wrong}\. Did you mean {right}\?"):
        exec(f"from dotflow.providers import {wrong}")


def test_other_looks_for_a_misspelt_provider() -> None:
    """Only `from ... import` needs an ImportError. hasattr and pickle expect an AttributeError, with the hint."""
    providers = import_module("dotflow.providers")

    assert not hasattr(providers, "StorageSqlite")
    with pytest.raises(AttributeError, match=r"there is no provider StorageSqlite\. Did you mean StorageSQLite\?"):
        _ = providers.StorageSqlite
    with pytest.raises(AttributeError, match="StorageSqlite"):
        pickle.loads(b"cdotflow.providers\nStorageSqlite\n.")


@pytest.mark.parametrize("name", ["NotifyDiscord", "NotifySlack", "NotifyEmail"])
def test_a_service_without_a_provider_of_its_own(name: str) -> None:
    """The error names the one provider for all of them, and how to install its extra."""
    with pytest.raises(ImportError, match=rf"no provider {name}\. NotifyApprise sends to .*'dotflow\[notify\]'"):
        exec(f"from dotflow.providers import {name}")


def test_a_first_recorded_run_of_the_command_loads_no_reader_of_values_or_records(tmp_path: Path) -> None:
    """`dotflow start` imports what a run writes with, and not what only reading, help or a copy of a value needs."""
    (tmp_path / "jobs.py").write_text("from dotflow import action\n\n\n@action\ndef nothing(): ...\n")
    program = (
        "import sys; from dotflow.cli.main import main\n"
        "assert main(['start', '--step', 'jobs.nothing']) == 0\n"
        "unused = {'dotflow.codec', 'dotflow.records.record', 'lzma', 'shutil'}\n"
        "sys.exit(' '.join(sorted(unused & set(sys.modules))) or None)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / ".output" / "history.db").exists()


def test_what_all_tests_share_loads_no_library_that_only_some_need() -> None:
    """A unit test begins without Postgres, Hypothesis or psutil."""
    script = "import sys, tests.conftest; print(*{'psycopg', 'hypothesis', 'psutil', 'cloudpickle'} & {*sys.modules})"
    root = Path(__file__).parent.parent.parent

    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""


def test_the_help_of_all_commands_loads_none_of_them() -> None:
    """`dotflow --help` lists the commands from a table: it waits for no module of a command, and not for rich."""
    script = (
        "import sys; from dotflow.cli.main import main; main(['--help'])\n"
        "loaded = [name for name in sys.modules if name.startswith('dotflow.cli.commands') or name == 'rich']\n"
        "sys.exit(' '.join(loaded) or None)"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "start       Run steps or a workflow" in done.stdout
