"""Every command and every piece of Python on the pages runs, page by page, in order, in a folder that holds what the pages speak of.

How a page says what its blocks are:
`console`: lines that begin with `$ tutelage` are commands, and run; what stands below one is its output. Where that begins with
`tutelage: `, the command must fail with just this sentence (... stands for anything); of commands that train nothing, each line must be in
the real output.
`python`: runs, after the blocks before it.
`{code-block} python` with a caption: a file of that name, written into the folder.
`sh`: what cannot run here, such as a second machine; commands of ours in it are only parsed, as a dry run on the digits.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytest.importorskip("pandas")
pytest.importorskip("transformers")
pytest.importorskip("onnxruntime")

from accelerate.state import AcceleratorState

from answering_server import answering
from tutelage.cli.main import main
from tutelage.training import Fit

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md") if "generated" not in p.parts and "project" not in p.parts)
RUNNABLE = [page for page in PAGES if re.search(r"^```(console|python|sh|\{code-block\})", (DOCS / page).read_text(), re.MULTILINE)]
UNTRAINED = ("data", "recipes", "taps", "--version", "--help")
SERVER = "http://localhost:8000/v1"
"""For which one stands in."""
FIRST = "distill --teacher cnn:width=32 --train-teacher --student cnn:width=4,depth=4 --data digits --out runs/first --quiet"


@dataclass
class Command:
    """A command on a page, and the output below it."""

    words: list[str]
    shown: list[str] = field(default_factory=list)


def blocks(page: str) -> list[tuple[str, str, str]]:
    """The kind, the caption and the text of each fenced block."""
    fence = r"^```(\{code-block\} \w+|\w+)\n(?::caption: (\S+)\n+)?(.*?)^```$"
    return re.findall(fence, (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[Command]:
    """The commands of a console block."""
    found: list[Command] = []
    for line in re.sub(r" \\\n\s+", " ", text).splitlines():
        if line.startswith("$ "):
            found.append(Command(shlex.split(line[2:], posix=True)))
        else:
            found[-1].shown.append(line.rstrip())
    return found


def pattern(text: str) -> str:
    """The text as a pattern: three dots stand for anything."""
    return ".*".join(map(re.escape, re.split(r"\s*\.\.\.\s*", text)))


@pytest.fixture
def cheap(monkeypatch):
    """Trainings of three updates, and no time spent on timing."""
    updates = Fit.updates
    monkeypatch.setattr(Fit, "updates", lambda self, size: min(3, updates(self, size)))
    monkeypatch.setattr("tutelage.evaluation.cost.SECONDS", 0.0)
    monkeypatch.setattr("tutelage.jobs.compare.write_page", lambda place, found: None)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A folder with the small inputs and a finished run in runs/first."""
    import page_inputs

    folder = tmp_path_factory.mktemp("prepared")
    page_inputs.make(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(Fit, "updates", lambda self, size: 3)
        patch.setattr("tutelage.evaluation.cost.SECONDS", 0.0)
        patch.setattr("tutelage.jobs.report.render", lambda contents: "")
        assert main(shlex.split(FIRST)) == 0
    return folder


@pytest.fixture
def place(prepared, tmp_path, monkeypatch) -> Path:
    """A copy of it for one page, which is where the page's commands run and where its files can be imported from."""
    shutil.copytree(prepared, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "place"), *sys.path])
    before = set(sys.modules)
    yield tmp_path / "place"
    for name in set(sys.modules) - before:  # files of the page, which another page may have under the same name
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


def run(words: list[str]) -> int:
    """Run a command as if in a process of its own: with another precision than the one before, if it likes."""
    if words[0] == "compare" and "ray" not in words:
        words = [*words, "--workers", "0", "--threads", "1"]  # in this process, where trainings are short
    try:
        if any(SERVER in word for word in words):
            with answering() as server:
                return main([word.replace(SERVER, server.url) for word in words])
        return main(words)
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def check(command: Command, capsys) -> None:
    """Run a command of a page, and compare what can be compared."""
    assert command.words[0] == "tutelage", f"only commands of ours stand in console blocks, not {command.words}"
    words = command.words[1:]
    capsys.readouterr()
    code = run(words)
    said = capsys.readouterr()
    sentences = [line for line in command.shown if line.startswith("tutelage: ")]
    if sentences:
        assert code in (1, 2)
        assert re.fullmatch(pattern(sentences[0]), said.err.strip().splitlines()[-1]), said.err
        return
    assert code == 0, f"{shlex.join(command.words)}\n{said.err}"
    if words[0] in UNTRAINED:
        real = [line.rstrip() for line in said.out.splitlines()]
        for line in command.shown:
            assert line in real or line == "...", f"not in the output of {shlex.join(command.words)}: {line}"


@pytest.mark.parametrize("page", RUNNABLE)
def test_what_a_page_shows_runs(page, place, cheap, no_page, capsys):
    """A command that was renamed in the code but not on the page is a reader's first error."""
    if page == "tutorial.md":
        shutil.rmtree("runs")  # it begins with nothing
    names: dict[str, object] = {"__name__": "page"}
    for kind, caption, text in blocks(page):
        if caption:
            Path(caption).write_text(text)
        elif kind == "console":
            for command in commands(text):
                check(command, capsys)
        elif kind == "python":
            exec(compile(text, page, "exec"), names)
        elif kind == "sh":
            for line in re.sub(r" \\\n\s+", " ", text).splitlines():
                if "tutelage " in line:
                    assert run([*shlex.split(line.partition("tutelage ")[2]), "--dry-run"]) == 0


def test_each_question_is_headed_by_its_message():
    """Whoever searches for an error message finds it."""
    entries = re.split(r"^## ", (DOCS / "faq.md").read_text(), flags=re.MULTILINE)[1:]
    assert 15 <= len(entries) <= 25
    for entry in entries:
        heading, _, text = entry.partition("\n")
        quoted = next(line for kind, _, block in _blocks_in(text) for line in block.splitlines() if line.startswith("tutelage: "))
        assert re.search(pattern(heading), quoted), heading


def _blocks_in(text: str) -> list[tuple[str, str, str]]:
    return [("console", "", block) for block in re.findall(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)]


def test_every_page_that_runs_nothing_is_one_of_these():
    """A page whose fences are written so that no test sees them would rot."""
    idle = set(PAGES) - set(RUNNABLE)
    listed = {"how-to/index.md", "gallery.md", "scoreboard.md", "log.md", "benchmarks.md"}
    told = {f"explanation/{name}.md" for name in ("index", "resume", "report", "comparisons", "reproductions", "cache", "bytes")}
    assert idle <= listed | told | {page for page in PAGES if page.startswith("reference/")}
