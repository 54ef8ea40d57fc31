"""An agent of Pydantic AI that calls an MCP server from a durable step, with the packages that MCP needs."""

import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.integration.children import SOURCES

#: pip downloads packages here, as it does for users.
pytestmark = [pytest.mark.exhaustive, pytest.mark.slow, pytest.mark.timeout(180)]

SERVER = """
import sys
from pathlib import Path
from mcp.server.mcpserver import MCPServer

DONE = Path(sys.argv[1])


def note(text):
    with DONE.open("a") as file:
        file.write(f"{text}\\n")


server = MCPServer("weather")


@server.tool()
def weather(city: str) -> str:
    note(f"weather in {city}")
    return f"sun in {city}"


note("server")
server.run()
"""

PROGRAM = """
import os, signal, sys
from pathlib import Path
from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel
from dotflow import Config, DotFlow, action
from dotflow.agents import DotFlowDurability
from dotflow.providers import LogDefault, StorageFile

CITIES = ["Rome", "Oslo"]
DONE = Path("done")


def answer(messages, info):
    number = len(messages) // 2
    if os.environ["KILL_BEFORE"] == str(number):
        os.kill(os.getpid(), signal.SIGKILL)
    with DONE.open("a") as file:
        file.write(f"request {number}\\n")
    if number < len(CITIES):
        return ModelResponse(parts=[ToolCallPart("weather", {"city": CITIES[number]})])
    return ModelResponse(parts=[TextPart(str(messages[-1].parts[0].content))])


servers = MCPToolset(StdioTransport(sys.executable, ["server.py", "done"]), id="weather")
agent = Agent(FunctionModel(answer), name="trip", toolsets=[servers], capabilities=[DotFlowDurability()])


@action(durable=True)
async def trip():
    return (await agent.run("Where is sun?")).output


workflow = DotFlow(Config(storage=StorageFile("values"), log=LogDefault(output="none")), workflow_id="trip")
workflow.task.add(trip)
print(workflow.start(resume=True).value("trip"))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the packages of this one, and those that MCP needs."""
    folder = tmp_path_factory.mktemp("mcp") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "here.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    wanted = f"pydantic-ai-slim[mcp]=={version('pydantic-ai-slim')}"
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "--python", folder / "bin" / "python"]
    subprocess.run([*pip, "install", wanted], check=True)
    return folder / "bin" / "python"


def test_each_call_of_an_mcp_server_is_made_once(python: Path, tmp_path: Path) -> None:
    """Killed before each answer. A process connects to the server where it has a call to make, and not before."""
    (tmp_path / "server.py").write_text(SERVER)
    (tmp_path / "program.py").write_text(PROGRAM)
    codes = []
    for number in range(4):
        environment = {**os.environ, "PYTHONPATH": str(SOURCES), "KILL_BEFORE": str(number)}
        ended = subprocess.run(
            [python, "program.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        codes.append(ended.returncode)

    assert codes == [-signal.SIGKILL] * 3 + [0], ended.stderr
    assert ended.stdout == "sun in Oslo\n"
    first = ["server"]  # lists its tools
    second = ["request 0", "server", "weather in Rome"]
    third = ["request 1", "server", "weather in Oslo"]
    assert (tmp_path / "done").read_text().splitlines() == [*first, *second, *third, "request 2"]
