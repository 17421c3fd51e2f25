"""Jobs on language models: from chats in a file and a Hugging Face folder to a smaller folder, with a report in tokens."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("pandas")

from tiny_causal import causal_folder
from tiny_tokenizers import SILENT, letters
from tutelage import Fit, RunOptions
from tutelage.errors import BadInput
from tutelage.jobs.cache import cache
from tutelage.jobs.compare import compare
from tutelage.jobs.distill import distill
from tutelage.jobs.evaluate import evaluate
from tutelage.jobs.export import export
from tutelage.jobs.models import model_from
from tutelage.jobs.sources import data_from, described, in_a_line
from tutelage.jobs.tokenizers import with_tokenizer
from tutelage.signals.reading import Reading

QUIET = RunOptions(quiet=True)
FIT = Fit(steps=2, batch_size=8, lr=1e-2)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A teacher's folder, and chats."""
    folder = tmp_path_factory.mktemp("language")
    causal_folder(folder / "big")
    rows = [{"messages": [{"role": "user", "content": f"{i}+1?"}, {"role": "assistant", "content": str(i + 1)}]} for i in range(40)]
    (folder / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def spec(place, **options) -> str:
    given = {"length": 40, **options}
    return f"lessons:{place / 'sums.jsonl'}:" + ",".join(f"{k}={v}" for k, v in given.items())


@pytest.fixture(scope="module")
def run(place):
    """A student of two layers out of four."""
    big = f"hf:{place / 'big'}"
    out = place / "run"
    return distill(big, f"{big}:layers=2", spec(place), recipe="lm-kd", out=out, fit=FIT, options=QUIET)


def test_the_tokenizer_of_the_models_splits_the_texts(place, run):
    """The run says whose it was, so that all that comes later reads the same tokens."""
    config = (run.folder / "config.yaml").read_text()
    assert f"tokenizer={json.dumps(str(place / 'big'))}" in config or f"tokenizer={place / 'big'}" in config
    data = data_from(with_tokenizer(spec(place), run.folder))
    assert data.prepared["tokenizer"] == str(run.folder / "model")
    assert data.class_count() == data.prepared["vocabulary"] == len(letters())
    assert "tokens to learn" in in_a_line(data)
    assert described(data)["kind"] == "tokens"
    assert with_tokenizer("digits", run.folder) == "digits"
    assert with_tokenizer(spec(place, tokenizer="x"), run.folder) == spec(place, tokenizer="x")


def test_the_report_speaks_of_tokens(run):
    """All three models, on the same tokens."""
    report = run.report
    assert report["splits"]["test"]["tokens"] == report["tokens"]
    for name in ("teacher", "alone", "student"):
        assert report[name]["perplexity"] > 1
        assert report[name]["tokens_a_second"] > 0
        assert set(report[name]["latency_ms"]) == {"batch_1", "batch_8"}
    assert report["teacher"]["forward_kl"] == 0
    assert report["student"]["parameters"] < report["teacher"]["parameters"]
    assert set(report["taught_minus_alone"]) == {"nll", "low", "high"}
    assert sum(row["samples"] for row in report["reliability"]["student"]) == report["tokens"]
    assert "nats a token" in (run.folder / "report.html").read_text()


def test_what_is_exported_is_read_without_us(place, run):
    """By transformers alone, in another process, to the same logits."""
    made = export(run.folder, to="hf")
    assert made.about["difference"] == 0
    assert "AutoModelForCausalLM" in (made.folder / "README.md").read_text()
    code = (
        "import sys, torch; sys.modules['tutelage'] = None\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "model, tokenizer = AutoModelForCausalLM.from_pretrained(sys.argv[1]), AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "given = tokenizer.apply_chat_template([{'role': 'user', 'content': '3+1?'}], add_generation_prompt=True, return_tensors='pt', "
        "return_dict=True)\n"
        "print(given['input_ids'].tolist(), float(model(**given).logits.double().sum()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(made.folder)], capture_output=True, text=True, check=True)
    tokens, total = done.stdout.rsplit(" ", 1)
    student = model_from(run.folder, "student", data=data_from(with_tokenizer(spec(place), run.folder)), seed=0)
    with student.mode(training=False), torch.no_grad():
        own = student.observe({"input_ids": torch.tensor(json.loads(tokens))}, {"logits"})["logits"].double().sum()
    assert float(total) == pytest.approx(float(own), rel=1e-5)
    with pytest.raises(BadInput, match="export it with --to hf"):
        export(run.folder, to="onnx")


def test_adapters_are_trained_resumed_and_added_into_the_weights(place):
    """What is written at the end is a plain folder of the student's layers."""
    big = f"hf:{place / 'big'}"
    student = f"{big}:layers=[0,3],lora=2"
    once = distill(big, student, spec(place), recipe="lm-kd", out=place / "lora", fit=FIT, baseline=False, options=QUIET)
    again = distill(big, student, spec(place), recipe="lm-kd", out=place / "lora", fit=FIT, baseline=False, options=QUIET, resume=True)
    assert again.report["student"]["nll"] == once.report["student"]["nll"]
    from safetensors.torch import load_file

    written = load_file(place / "lora" / "model" / "model.safetensors")
    assert not any("lora" in name for name in written)
    numbers = evaluate(place / "lora").models["student"]
    assert numbers["nll"] == pytest.approx(once.report["student"]["nll"], abs=1e-5)


def test_evaluate_gives_intervals_and_says_which_is_better(place, run):
    """And the numbers of the report again."""
    found = evaluate(run.folder)
    assert found.tokens == run.report["tokens"]
    assert found.recorded is not None
    assert found.recorded["equal"]
    for numbers in found.models.values():
        ends = numbers["intervals"]["perplexity"]
        assert ends["low"] <= numbers["perplexity"] <= ends["high"]
    assert "forward_kl" not in found.models["teacher"]["intervals"]
    assert [each["second"] for each in found.comparisons] == ["teacher", "alone"]
    gap = found.comparisons[0]["nll"]
    assert gap["difference"] == pytest.approx(found.models["student"]["nll"] - found.models["teacher"]["nll"])


@pytest.mark.parametrize(("recipe", "known"), [("lm-kd", [True, True]), ("gkd", [True, False]), ("seqkd", [True, False, True])])
def test_what_it_takes_to_write_is_not_guessed(recipe, known, place):
    """A time that leaves the writing out would be short by a factor of ten; by stages."""
    big = f"hf:{place / 'big'}"
    rows = distill(big, f"{big}:layers=1", spec(place), recipe=recipe, fit=FIT, dry_run=True, options=QUIET).rows
    assert [row.seconds is not None for row in rows] == known


def test_all_splits_together_are_the_mean_of_their_tokens(place, run):
    """Batches of two splits are of two lengths; what fills up the shorter must not count."""
    found = {split: evaluate(run.folder, split=split) for split in ("train", "validation", "test", "all")}
    parts = [found[split] for split in ("train", "validation", "test")]
    assert found["all"].tokens == sum(each.tokens for each in parts)
    for name in ("student", "teacher"):
        mean = sum(each.models[name]["nll"] * each.tokens for each in parts) / found["all"].tokens
        assert found["all"].models[name]["nll"] == pytest.approx(mean, rel=1e-4)


def test_a_cache_teaches_a_student_as_its_teacher_does(place):
    """Bit for bit, from full precision in batches of one shape."""
    big = f"hf:{place / 'big'}"
    data = spec(place, padding="length")
    cache(big, data, out=place / "signals", batch_size=8, options=QUIET)
    left = {}
    for teacher in (big, f"cache:{place / 'signals'}"):
        out = place / f"by-{teacher.partition(':')[0]}"
        made = distill(teacher, f"{big}:layers=2", data, recipe="lm-kd", out=out, fit=FIT, baseline=False, options=QUIET)
        left[teacher] = made.model.module.state_dict()
        assert made.report["teacher"]["perplexity"] > 1
    one, other = left.values()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_recipes_are_compared_by_the_likelihood_of_tokens(place, cheap_comparisons):
    """The inverse of the perplexity, of which more is better."""
    big = f"hf:{place / 'big'}"
    given = {"recipes": ["lm-kd"], "seeds": 1, "updates": 2, "workers": 0, "quiet": True, "out": place / "which"}
    found = compare(big, f"{big}:layers=1", spec(place), **given).found
    assert found["metric"] == "likelihood"
    for name in ("alone", "lm-kd"):
        test = found["results"][name]["test"]
        assert test["likelihood"]["mean"] == pytest.approx(1 / test["perplexity"]["mean"], rel=0.01)
    assert found["classes"] == []


def test_packed_windows_teach_a_net_of_our_own(place):
    """It takes its vocabulary and its context from the data."""
    big = f"hf:{place / 'big'}"
    data = spec(place, packing="first-fit")
    made = distill(big, "gpt:width=8,depth=1,heads=2", data, recipe="taid", out=place / "gpt", fit=FIT, baseline=False, options=QUIET)
    assert made.model.module.head.out_features == len(letters())
    assert made.model.module.context == 40
    assert evaluate(place / "gpt").recorded["equal"]


def test_a_padded_head_is_cut_to_what_both_have(place, tmp_path):
    """152,064 against 151,936 in a well-known family; here by eight."""
    causal_folder(tmp_path / "wide", vocabulary=272)
    out = tmp_path / "run"
    made = distill(f"hf:{tmp_path / 'wide'}", f"hf:{place / 'big'}:layers=1", spec(place), recipe="lm-kd", out=out, fit=FIT, options=QUIET)
    assert made.report["teacher"]["perplexity"] > 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"length": 80}, "reads 64 tokens at most"),
        ({"tokenizer": "{other}"}, "the teacher knows other tokens; leave --data.tokenizer out"),
        ({"student": "hf:{foreign}"}, "the vocabularies of the teacher .* and the student .* differ"),
        ({"student": "cnn:width=4"}, "the student cnn takes images, but sums.jsonl holds tokens"),
        ({"student": "hf:{big}:layers=5"}, "the model has 4 layers; expected 1 to 4"),
        ({"teacher": "gpt:width=8,heads=2", "student": "gpt:width=8,heads=2"}, "none of the models says how to split them into tokens"),
    ],
)
def test_what_does_not_fit_is_one_sentence_before_anything_trains(change, said, place, tmp_path):
    """No run folder is left behind."""
    causal_folder(tmp_path / "other", tokenizer=letters(merges=[("1", "2")]), vocabulary=272)
    foreign = causal_folder(tmp_path / "foreign", tokenizer=letters(merges=[("3", "4")]), vocabulary=272)
    names = {"big": place / "big", "other": tmp_path / "other", "foreign": foreign}
    change = {k: v.format(**names) if isinstance(v, str) else v for k, v in change.items()}
    teacher, student = change.pop("teacher", f"hf:{place / 'big'}"), change.pop("student", f"hf:{place / 'big'}:layers=2")
    if change.get("length") == 80:
        rows = [{"text": "a" * 90}] * 12
        (tmp_path / "long.jsonl").write_text("\n".join(map(json.dumps, rows)))
        data = f"lessons:{tmp_path / 'long.jsonl'}:length=80"
    else:
        data = spec(place, **change)
    with pytest.raises(BadInput, match=said):
        distill(teacher, student, data, recipe="lm-kd", out=tmp_path / "run", fit=FIT, options=QUIET)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_chats_for_a_tokenizer_without_a_template_are_refused(place, tmp_path):
    """With what to do about it; a template of one's own is taken."""
    causal_folder(tmp_path / "bare", tokenizer=letters(None))
    bare = f"hf:{tmp_path / 'bare'}"
    rows = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 2}] * 12
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = f"lessons:{tmp_path / 'chats.jsonl'}"
    with pytest.raises(BadInput, match="the tokenizer has no chat template; choose template=turns"):
        distill(bare, bare, data, recipe="lm-kd", out=tmp_path / "run", fit=FIT, options=QUIET)
    (tmp_path / "own.jinja").write_text(SILENT)
    assert len(data_from(with_tokenizer(f"{data}:template={tmp_path / 'own.jinja'}", bare)).train) == 8


def test_models_without_tokenizers_have_none_to_give(place):
    """And a module's own preprocessing is asked."""
    assert with_tokenizer(spec(place), "cnn:width=4", None, "runs/nowhere") == spec(place)
    handle = model_from(f"hf:{place / 'big'}", "teacher", data=data_from(spec(place)), seed=0)
    assert isinstance(handle.preprocessing, Reading)
    assert "tokenizer=" in with_tokenizer(spec(place), handle)
