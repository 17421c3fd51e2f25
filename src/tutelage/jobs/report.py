"""report: one page, rebuilt from what a run has left in its folder; no model is built and no data are read.

A run leaves `predictions.safetensors`, `disagreements.json` and, last, `report.json`; `report.html` is a function of these, of the metrics,
the config and the environment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tutelage.errors import BadInput, MissingFile
from tutelage.evaluation import Predictions, generator_page, headline
from tutelage.evaluation.generator_wording import of_generators
from tutelage.evaluation.page import Contents, render
from tutelage.jobs.folder import read_config
from tutelage.jobs.foreign import refuse_links_out
from tutelage.jobs.measurement import FORMAT, Findings
from tutelage.training.checkpoint import write_bytes_atomically, write_text_atomically

SAMPLES = "samples"
NEEDED = {
    "recipe": str,
    "data": str,
    "split": str,
    "samples": int,
    "seed": int,
    "classes": list,
    "splits": dict,
    "models": list,
    "teachers": list,
    "student": dict,
    "timing": dict,
}
"""What report.json must hold, and of which kind."""


@dataclass(frozen=True)
class Rebuilt:
    """A report.

    Args:
        page: the HTML file.
        report: the content of report.json.
        headline: its first sentence.
    """

    page: Path
    report: Mapping[str, Any]
    headline: str


def keep(folder: Path, findings: Findings) -> None:
    """Write what the report is made of into the run folder, report.json last: where it is, the run is finished."""
    if findings.predictions:
        beside = folder / ".predictions.safetensors.tmp"
        save_file(findings.predictions, beside)
        beside.replace(folder / "predictions.safetensors")
        write_text_atomically(folder / "disagreements.json", json.dumps(findings.disagreements, indent=1))
    for name, content in findings.pictures.items():
        (folder / SAMPLES).mkdir(exist_ok=True)
        write_bytes_atomically(folder / SAMPLES / f"{name}.png", content)
    write_text_atomically(folder / "report.json", json.dumps(findings.report, indent=1))


def report(run: str | Path) -> Rebuilt:
    """Make the page of a finished run again, from its folder alone.

    Args:
        run: the run folder.

    Returns:
        The page `report.html` in that folder, its headline, and the numbers.

    Raises:
        MissingFile: not a run folder, or something in it was deleted.
        BadInput: the run is not finished, its report is of another format, a file in it is damaged, or a link leads out of it.
    """
    folder = Path(run)
    config = _config(folder)
    numbers = numbers_of(folder)
    contents = Contents(
        report=numbers,
        predictions=_predictions(folder, numbers),
        disagreements=_json(folder, "disagreements.json", list) if numbers.get("kept") else [],
        journals=_journals(folder, config),
        config=config,
        environment=_json(folder, "environment.json", dict),
    )
    try:
        page = generator_page.render(contents, _grids(folder)) if of_generators(numbers) else render(contents)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        raise BadInput(f"the files of {folder} do not fit together ({type(error).__name__}: {error}); {_again(folder)}") from error
    write_text_atomically(folder / "report.html", page)
    return Rebuilt(folder / "report.html", numbers, headline(numbers))


def _config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise MissingFile(f"run folder {folder} does not exist")
    refuse_links_out(folder)  # the page would tell what they lead to
    if not (folder / "config.yaml").is_file():
        above = folder.resolve().parent
        inside = (above / "config.yaml").is_file() and (folder / "model").is_dir()
        part = f"; it is part of the run {above}, whose report speaks of it" if inside else "; expected what `tutelage distill` wrote"
        raise MissingFile(f"{folder} is no run folder: it holds no config.yaml{part}")
    return read_config(folder)


def numbers_of(folder: Path) -> dict[str, Any]:
    """The content of report.json.

    Raises:
        BadInput: the run is not finished, or the file is of another format or damaged.
    """
    if (folder / "search.jsonl").is_file():
        raise BadInput(
            f"{folder} holds a search, whose net is not trained; teach it: tutelage distill --teacher TEACHER --student {folder}"
        )
    if not (folder / "report.json").is_file():
        raise BadInput(f"the run in {folder} is not finished; go on with: tutelage distill --resume {folder}")
    numbers = _json(folder, "report.json", dict)
    found = numbers.get("format")
    if found != FORMAT:
        newer = isinstance(found, int) and found > FORMAT
        mend = "update tutelage to read it" if newer else _again(folder)
        raise BadInput(f"{folder / 'report.json'} has format {found}, this version reads {FORMAT}; {mend}")
    for key, kind in NEEDED.items():
        if not isinstance(numbers.get(key), kind):
            raise BadInput(f"{folder / 'report.json'} is damaged: {key!r} is not the {kind.__name__} that it should be; {_again(folder)}")
    for name in numbers["models"]:
        if not isinstance(name, str) or not isinstance(numbers.get(name), dict) or not numbers[name]:
            raise BadInput(f"{folder / 'report.json'} is damaged: it says nothing of the model {str(name)[:40]!r}; {_again(folder)}")
    return numbers


def _predictions(folder: Path, numbers: Mapping[str, Any]) -> dict[str, Predictions]:
    if not numbers.get("kept"):
        return {}
    file = folder / "predictions.safetensors"
    if not file.is_file():
        raise MissingFile(f"{file} is missing; {_again(folder)}")
    try:
        tensors = load_file(file)
        found = {
            name: Predictions(tensors[f"logits.{name}"], tensors.get("labels"), tensors.get("id"))
            for name in numbers["models"]
            if f"logits.{name}" in tensors
        }
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{file} is damaged ({error}); {_again(folder)}") from None
    if "student" not in found or len({len(t) for t in tensors.values()}) != 1:
        raise BadInput(f"{file} is damaged: expected the logits of the student, and one length; {_again(folder)}")
    return found


def _grids(folder: Path) -> dict[str, bytes]:
    """The pictures that generators drew, by model."""
    return {file.stem: file.read_bytes() for file in sorted((folder / SAMPLES).glob("*.png"))}


def _journals(folder: Path, config: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The metrics of the run and of the runs in it, by what they trained."""
    found = {}
    for below in (*sorted(folder.glob("teacher*")), folder / "baseline", folder):
        file = below / "metrics.jsonl"
        if below.name == "baseline" and not config.get("baseline", True):
            continue
        if file.is_file():
            name = "student" if below == folder else "alone" if below.name == "baseline" else below.name
            try:
                lines = [json.loads(line) for line in file.read_text().splitlines()]
            except (ValueError, RecursionError) as error:
                raise BadInput(f"{file} is damaged ({error}); delete it, and the report is made without its curves") from None
            found[name] = [line for line in lines if isinstance(line, dict)]
    return found


def _json(folder: Path, name: str, kind: type) -> Any:
    file = folder / name
    if not file.is_file():
        raise MissingFile(f"{file} is missing; {_again(folder)}")
    try:
        found = json.loads(file.read_text())
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{file} is damaged ({error}); {_again(folder)}") from None
    if not isinstance(found, kind):
        raise BadInput(f"{file} is damaged: expected a {kind.__name__}, found a {type(found).__name__}; {_again(folder)}")
    return found


def _again(folder: Path) -> str:
    return f"a finished run is measured again, and not trained again, by: tutelage distill --resume {folder}"
