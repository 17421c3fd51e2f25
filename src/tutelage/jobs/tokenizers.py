"""Which tokenizer a job's texts are split by, and whether all who take part mean the same tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.data import Data
from tutelage.errors import BadInput
from tutelage.jobs import folder, specs
from tutelage.jobs.cached import Handle, is_cache
from tutelage.jobs.sources import LOCATED
from tutelage.language import Lessons, holds_dialogues, reconciled, remarks_on
from tutelage.language.located import words_of
from tutelage.signals import Model
from tutelage.signals.cache import read_about
from tutelage.signals.reading import Reading
from tutelage.teachers import Cached

KIND = "lessons"


def with_tokenizer(data: Any, *models: Any) -> Any:
    """The data's spec, with the tokenizer of the first model that has one where it names none itself; other data as they are.

    Args:
        data: as a user gives it.
        models: likewise; None among them is passed over.
    """
    if not isinstance(data, str) or not data.startswith(f"{KIND}:"):
        return data
    if specs.options_in(specs.divided(data, LOCATED)[1], data).get("tokenizer"):
        return data
    for model in models:
        place = place_of(model)
        if place is not None:
            return specs.changed(data, [("tokenizer", place)], LOCATED)
    return data


def place_of(model: Any) -> str | None:
    """Where a model's tokenizer is, a folder, a file or a name on the hub; None where it has none.

    Args:
        model: as a user gives it.
    """
    if isinstance(model, Model):
        return model.preprocessing.source if isinstance(model.preprocessing, Reading) else None
    if isinstance(model, Cached):
        return place_of(model.about.teacher.get("spec"))
    if not isinstance(model, (str, Path)) or not str(model):
        return None
    said = str(model)
    if is_cache(said):
        path = Path(specs.divided(said, ("cache",))[0].partition(":")[2])
        return place_of(read_about(path).teacher.get("spec")) if path.is_dir() else None
    name, text = specs.divided(said, ("hf", "timm"))
    if name.startswith("hf:"):
        return specs.options_in(text, said).get("tokenizer") or name.partition(":")[2]
    here = Path(said)
    for inside in (here / "model", here):
        if (inside / "tokenizer_config.json").is_file():
            return str(inside)
    if (here / "config.yaml").is_file():  # a run whose student has no tokenizer of its own
        studied = folder.read_config(here).get("data")
        if isinstance(studied, str) and studied.startswith(f"{KIND}:"):
            return specs.options_in(specs.divided(studied, LOCATED)[1], studied).get("tokenizer")
    return None


def check_tokens(handles: Mapping[str, Handle], data: Data) -> list[str]:
    """Refuse models that mean other tokens than each other, or than the data; cut heads that are padded to what all have.

    Args:
        handles: by role.
        data: what is studied.

    Returns:
        What a user should know of how texts were cut and packed, and of the vocabularies, in sentences.

    Raises:
        BadInput: dialogues without a tokenizer, vocabularies that differ, samples longer than a model reads.
    """
    if holds_dialogues(data):
        raise BadInput(
            f"{data.name} holds texts, and none of the models says how to split them into tokens; give --data.tokenizer FOLDER, "
            "or hf:FOLDER as a teacher or student"
        )
    reading = {
        role: each.preprocessing for role, each in handles.items() if isinstance(each, Model) and isinstance(each.preprocessing, Reading)
    }
    notes = remarks_on(data)
    if isinstance(data.train, Lessons):
        longest = max(source.longest for source in (data.train, data.validation, data.test) if isinstance(source, Lessons))
        for each in reading.values():
            each.check_length(longest)
    roles = list(reading)
    for number, first in enumerate(roles):
        for second in roles[number + 1 :]:
            one, other = reading[first], reading[second]
            found = reconciled(one.tokenizer, other.tokenizer, one.width, other.width, names=(f"the {first}", f"the {second}"))
            one.common, other.common = min(one.common, found.size), min(other.common, found.size)
            notes += found.notes
    words = data.prepared.get("words")
    for role, each in reading.items():
        if words is not None and words_of(each.tokenizer) != words:
            raise BadInput(
                f"{data.name} was split into tokens by {data.prepared.get('tokenizer')}, the {role} knows other tokens; "
                "leave --data.tokenizer out, or give the one that the models were trained with"
            )
    known = [int(data.prepared["vocabulary"])] if words is not None and any(map(_bare, handles.values())) else []
    known += [each.kept.logits.classes for each in handles.values() if isinstance(each, Cached) and each.kept.logits is not None]
    for each in reading.values():
        each.common = min(each.common, *known, each.common)
    return notes


def _bare(handle: Handle) -> bool:
    """Whether it is a net without a tokenizer, which was made for the tokens of the data."""
    return isinstance(handle, Model) and not isinstance(handle.preprocessing, Reading)
