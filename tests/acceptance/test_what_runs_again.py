"""The page "What runs again, and why": its program prints what the page shows, and its pictures have its tasks."""

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
AGAIN = ROOT / "docs_src" / "again"

#: A stand-in for scikit-learn, in a folder of installed packages. Its scores are those of the page.
SKLEARN = {
    "__init__": "",
    "datasets": "def load_iris(return_X_y):\n    return [], []\n",
    "svm": "def SVC(C, gamma):\n    return (C, gamma)\n",
    "model_selection": """\
class Scores:
    def __init__(self, score):
        self.score = score

    def mean(self):
        return self.score

    def min(self):
        return self.score - 0.013

def cross_val_score(model, flowers, kinds):
    return Scores(0.98 if model == (100.0, 0.01) else 0.5)
""",
}

#: What the page calls the edits of the program -> the old text and the new one.
EDITS = {
    "": ("", ""),
    "again": ("", ""),
    "one more setting: (1000.0, 0.1)": ("0.1, 1.0])]", "0.1, 1.0]), (1000.0, 0.1)]"),
    "best writes {score:.1%}": (":.3f", ":.1%"),
    "train takes .min()": (".mean()", ".min()"),
    ".mean() again": (".min()", ".mean()"),
}

Load = Callable[[str], ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Imports a program that has just been written, in an empty folder."""
    package = tmp_path / "site-packages" / "sklearn"
    package.mkdir(parents=True)
    for name, text in SKLEARN.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    names = ["grid", "drawn", *(f"sklearn.{name}".removesuffix(".__init__") for name in SKLEARN)]

    def load(name: str) -> ModuleType:
        for module in names:
            monkeypatch.delitem(sys.modules, module, raising=False)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield load
    for module in names:
        sys.modules.pop(module, None)


def test_the_grid_runs_only_the_pages_steps(load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second run trains nothing, one more setting trains one, an edit of the last step runs that step."""
    program = tmp_path / "grid.py"
    text = (AGAIN / "grid.py").read_text()
    shown = re.split(r"^\$ python grid\.py(?:  # (.*))?\n", (AGAIN / "grid.txt").read_text(), flags=re.MULTILINE)[1:]

    for edit, output in zip(shown[::2], shown[1::2], strict=True):
        old, new = EDITS[edit or ""]
        assert text.count(old) == 1 or not old
        text = text.replace(old, new, 1)
        program.write_text(text)
        load("grid").main()

        time = re.compile(r"\d+-\d+-\d+ \d+:\d+:\d+")
        assert time.sub("...", capsys.readouterr().out).split() == time.sub("...", output).split()


def test_the_diagram_is_that_of_the_program(load: Load, tmp_path: Path) -> None:
    """In Mermaid, and as the picture that Graphviz made of it."""
    (tmp_path / "drawn.py").write_text((AGAIN / "drawn.py").read_text())
    workflow = load("drawn").workflow
    picture = (ROOT / "docs" / "pictures" / "drawn.svg").read_text()

    labels = re.findall(r'label="([^"]*)"', workflow.task.graph("dot"))
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", picture)

    assert f"{workflow.task.graph()}\n" == (AGAIN / "drawn.txt").read_text()
    assert sorted(texts) == sorted(line for label in labels for line in label.split("\\n"))
