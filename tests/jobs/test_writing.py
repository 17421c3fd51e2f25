"""Recipes in which a model writes, as jobs on models of transformers: with kept keys, adapters, and heads that are wider than need be."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("pandas")

from tiny_causal import causal_folder
from tiny_tokenizers import letters
from tutelage import Fit, RunOptions
from tutelage.errors import BadInput
from tutelage.jobs.cache import cache
from tutelage.jobs.distill import distill
from tutelage.language import generation
from tutelage.training import checkpoint

QUIET = RunOptions(quiet=True)
FIT = Fit(steps=3, batch_size=8, lr=1e-2)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A teacher's folder, and chats."""
    folder = tmp_path_factory.mktemp("writing")
    causal_folder(folder / "big", context=96)
    rows = [{"messages": [{"role": "user", "content": f"{i}+1?"}, {"role": "assistant", "content": str(i + 1)}]} for i in range(40)]
    (folder / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def taught(place, out, recipe, data="length=40", student="layers=2", **knobs):
    big = f"hf:{place / 'big'}"
    given = {"recipe": recipe, "fit": FIT, "tokens": 6, "baseline": False, "options": QUIET, **knobs}
    return distill(big, f"{big}:{student}", f"lessons:{place / 'sums.jsonl'}:{data}", out=place / out, **given)


@pytest.mark.parametrize("student", ["layers=2", "lora=2"])
def test_a_student_is_taught_on_what_it_writes(place, student, monkeypatch):
    """What it wrote must be studied, by the tokens that the tokenizer knows."""
    made, write = [], generation._writes_on
    monkeypatch.setattr(generation, "_writes_on", lambda *given: made.append(write(*given)) or made[-1])
    done = taught(place, f"gkd-{student[:4]}", "gkd", student=student, on_policy=1.0)
    assert done.report["student"]["perplexity"] > 1
    studied = [tokens for tokens, _ in made if tokens.shape[1] == 6]  # the others are written for the report
    rows = torch.cat(studied)
    assert len(studied) == 5  # the rehearsal, the opening, and three steps
    assert int(rows.max()) < len(letters()) < 264
    assert done.model.module.config.use_cache is False


def test_a_student_studies_what_its_teacher_wrote(place):
    """The text is kept with the run, and ends as answers end."""
    done = taught(place, "seqkd", "seqkd", at_once=10, outputs=2)
    found, state = checkpoint.read(done.folder / "stages" / "00-write")
    prompts = 28  # seven tenths of the rows
    assert len(found["sizes"]) == 2 * prompts
    assert int(found["tokens"].max()) < len(letters())
    assert 0 <= state["result"]["ended"] <= 1
    assert not (done.folder / "written").exists()
    assert done.report["student"]["perplexity"] > 1
    taught(place, "seqkd", "seqkd", at_once=10, outputs=2, resume=True)
    assert (done.folder / "model" / "config.json").is_file()


def test_what_cannot_be_written_is_refused_before_anything_trains(place):
    big, chats = f"hf:{place / 'big'}", f"lessons:{place / 'sums.jsonl'}:length=40"
    for recipe in ("gkd", "seqkd"):
        with pytest.raises(BadInput, match="packing=none"):
            taught(place, "packed", recipe, data="length=60,packing=in-order")
    assert not (place / "packed").exists()
    kept = cache(big, chats, out=place / "kept", evaluation=False, options=QUIET)
    for recipe, said in (("gkd", "cannot be asked about text that the student writes"), ("seqkd", "cannot write")):
        with pytest.raises(BadInput, match=said):
            distill(f"cache:{kept.folder}", f"{big}:layers=2", chats, recipe=recipe, out=place / "none", options=QUIET)
