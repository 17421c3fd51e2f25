"""What strangers may send: configs, run folders, weights, models and data that want more than to be read.

Each attack has a canary: a file that its payload would make, a file that it would change, or an element that would arise on the page. That
it ends in an error is not asked; that it does nothing is. SECURITY.md says in words what holds here.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tutelage.cli.main import main

SMALL = ["--recipe", "alone", "--student", "mlp:width=2,depth=1", "--steps", "2", "--quiet"]


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


def called(words: list) -> tuple[int, str]:
    """The exit code of a command, and all that it printed, once for a person and never as a traceback."""
    import contextlib

    from accelerate.state import AcceleratorState

    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main([str(word) for word in words])
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    return code, said.getvalue()


@pytest.fixture
def canary(tmp_path) -> Path:
    """A file or folder that must not come to be."""
    place = tmp_path / "canary"
    yield place
    assert not place.exists()


@pytest.fixture
def evil(tmp_path, canary) -> Path:
    """A file of code that makes the canary as soon as it is run."""
    file = tmp_path / "evil.py"
    file.write_text(f"import os\nos.mkdir({str(canary)!r})\ndef net(*_, **__): pass\nclass Evil: pass\n")
    return file


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A finished run with a teacher; its page is drawn where a test asks for it."""
    out = tmp_path_factory.mktemp("runs") / "made"
    patch = pytest.MonkeyPatch()
    patch.setattr("tutelage.jobs.report.render", lambda contents: "")
    words = [
        "distill",
        "--teacher",
        "mlp:width=2",
        "--train-teacher",
        "--teacher_fit.steps",
        "2",
        "--student",
        "mlp:width=2",
        "--steps",
        "2",
    ]
    assert called([*words, "--quiet", "--out", out])[0] == 0
    patch.undo()
    return out


@pytest.fixture
def run(made, tmp_path) -> Path:
    """A run folder to tamper with, as if someone had sent it."""
    return Path(shutil.copytree(made, tmp_path / "sent"))


# code named in settings

YAMLS = {
    "apply": "{key}: !!python/object/apply:builtins.open ['{canary}', w]",
    "new": "{key}: !!python/object/new:subprocess.Popen [[touch, '{canary}']]",
    "name": "{key}: !!python/name:os.system",
    "module": "{key}: !!python/module:evil",
    "tag of a key": "!!python/object/apply:builtins.open ['{canary}', w]: 3",
    "own tag": "!!python/object/apply:builtins.open ['{canary}', w]",
    "class path": "{key}: {{class_path: subprocess.Popen, init_args: {{args: [touch, '{canary}']}}}}",
    "class path below ours": "{key}: {{class_path: tutelage.jobs.environment.subprocess.Popen, init_args: {{args: [touch, '{canary}']}}}}",
    "function of ours": "{key}: {{class_path: tutelage.usercode.function_in, init_args: {{spec: '{evil}:net'}}}}",
    "bare path": "{key}: tutelage.jobs.environment.subprocess.Popen",
}


@pytest.mark.parametrize("key", ["fit", "seed", "recipe"])
@pytest.mark.parametrize("attack", YAMLS)
def test_no_yaml_runs_code(attack, key, run, evil, canary, tmp_path):
    """Whether it comes as --config, as a run's config.yaml, or as a file for one option."""
    text = YAMLS[attack].format(key=key, canary=canary, evil=evil)
    file = tmp_path / "sent.yml"
    file.write_text(text)
    asked = ["distill", *SMALL, "--dry-run"]
    called([*asked, "--config", file])
    called([*asked, f"--{key}", file])
    called([*asked, f"--{key}", text.partition(": ")[2] or text])
    (run / "config.yaml").write_text(text)
    for words in (["distill", "--resume", run, "--dry-run"], ["report", run], ["runs", run]):
        called(words)


@pytest.mark.parametrize("key", ["seeds", "recipes", "teacher_fit", "student"])
@pytest.mark.parametrize("attack", YAMLS)
def test_no_yaml_of_a_comparison_runs_code(attack, key, evil, canary, tmp_path):
    """The folder of a comparison is gone on with by its config, too."""
    sent = tmp_path / "sent"
    sent.mkdir()
    text = YAMLS[attack].format(key=key, canary=canary, evil=evil)
    others = {"student": "mlp:width=2", "seeds": 1}
    (sent / "config.yaml").write_text(yaml.safe_dump({k: v for k, v in others.items() if k != key}) + text)
    for how in (["--resume", sent], ["--config", sent / "config.yaml"]):
        called(["compare", *how, "--dry-run"])


def test_a_comparison_with_a_link_out_of_it_is_not_gone_on_with(tmp_path):
    """What is written into a training's folder would be written there."""
    sent, outside = tmp_path / "sent", tmp_path / "outside"
    (sent / "trials").mkdir(parents=True)
    outside.mkdir()
    (sent / "config.yaml").write_text("student: mlp:width=2\nseeds: 1\nrecipes: [alone]\nupdates: 2\n")
    (sent / "trials" / "alone-seed-0").symlink_to(outside)
    code, said = called(["compare", "--resume", sent, "--workers", "0", "--quiet"])
    assert code == 2
    assert "is a link that leads out" in said
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("kind", ["Any", "Callable", "Distance", "nn.Module"])
@pytest.mark.parametrize("attack", [a for a in YAMLS if "{key}" in YAMLS[a]])
def test_no_yaml_runs_code_through_the_knobs_of_a_users_recipe(kind, attack, evil, canary, tmp_path):
    """The recipe is the user's own and trusted; the settings are not."""
    method = tmp_path / "method.py"
    method.write_text(
        "from collections.abc import Callable\nfrom pathlib import Path\nfrom typing import Any\nfrom torch import nn\n"
        "from tutelage.recipes import recipe\nfrom tutelage.objectives.match import Distance\n"
        "from tutelage.recipes.alone import alone\nfrom tutelage.signals import Model\nfrom tutelage.data import Data\n"
        "from tutelage.training import Fit\n"
        f"@recipe(matches='labels')\ndef mine(student: Model, data: Data, *, odd: {kind} | None = None, fit: Fit = Fit(steps=1)):\n"
        "    if callable(odd): odd()\n    return alone(student, data, fit=fit)\n"
    )
    file = tmp_path / "sent.yml"
    file.write_text(YAMLS[attack].format(key="odd", canary=canary, evil=evil))
    called(["distill", "--recipe", f"{method}:mine", "--student", "mlp:width=2", "--config", file, "--dry-run"])


@pytest.mark.parametrize("role", ["teacher", "student", "data", "recipe"])
@pytest.mark.parametrize("way", ["config", "resume"])
@pytest.mark.parametrize("leave", ["", "trust_code: true", "trust-code: true"])
def test_a_config_that_names_code_needs_the_users_leave(role, way, leave, run, evil, canary, tmp_path):
    """A file cannot give itself the leave that only the command line gives."""
    settings = {"teacher": "mlp", "train_teacher": True, "student": "mlp", "recipe": "kd", role: f"{evil}:net"}
    place = run / "config.yaml" if way == "resume" else tmp_path / "sent.yml"
    place.write_text(yaml.safe_dump(settings) + leave)
    words = ["--resume", run] if way == "resume" else ["--config", place]
    code, said = called(["distill", *words, "--dry-run"])
    assert code == 2
    assert "--trust-code" in said or "trust" in leave


@pytest.mark.parametrize("leave", ["", "trust_code: true", "trust-code: true", "trust_code: yes"])
def test_a_model_that_names_code_needs_the_users_leave(leave, run, evil, canary, tmp_path):
    """Not even a config that names the run folder, and says trust_code, can give it."""
    for spec in (f"{evil}:net", f"{evil}:net:classes=10", f"mlp:weights={evil}:net", f"timm:{evil}:net", f"{evil.parent}/./evil.py:Evil"):
        (run / "model/model.json").write_text(json.dumps({"spec": spec}))
        file = tmp_path / "sent.yml"
        file.write_text(f"teacher: {run}\nstudent: mlp\n{leave}\n")
        for words in (["distill", "--config", file, "--dry-run"], ["distill", "--config", file, "--out", tmp_path / "new"], ["taps", run]):
            assert called(words)[0] == 2


def test_a_spec_leads_nowhere_else(run, tmp_path, canary):
    """A run folder's model is read from that folder, whatever model.json says."""
    torch.save({"a": Payload(canary)}, tmp_path / "evil.pt")
    for spec in (f"mlp:weights={tmp_path}/evil.pt", "mlp:weights=../../evil.pt", f"hf:{tmp_path}", "hf:../..", "../..", "runs/../../x"):
        (run / "model/model.json").write_text(json.dumps({"spec": spec}))
        code, said = called(["taps", run])
        assert code == 2
        assert "Traceback" not in said


# settings that fill the memory


def bomb(levels: int = 12) -> str:
    """Lists of nine aliases of the list before: 9**levels words when written out."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines)


BOMBS = {
    "unknown options": bomb(),
    "in a fit": f"{bomb()}\nfit: {{lr: *a11}}",
    "as a fit": f"{bomb()}\nfit: *a11",
    "as a student": f"{bomb()}\nstudent: *a11",
    "as a recipe": f"{bomb()}\nrecipe: *a11",
    "in itself": "fit: &a {lr: *a}",
    "in a list of itself": "track: &a [*a]",
    "merged": "\n".join([f"c{i}: &c{i} {{<<: [{', '.join([f'*c{i - 1}'] * 9 if i else [])}], b: 1}}" for i in range(12)]),
}

LIMITED = """
import resource, sys
from tutelage.cli.main import main
import tutelage.cli.distill, tutelage.cli.report, tutelage.cli.runs
from html.parser import HTMLParser
from pathlib import Path
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, resource.RLIM_INFINITY))
resource.setrlimit(resource.RLIMIT_CPU, (40, 40))
for words in {calls!r}:
    code = main(words)
    assert code in (0, 2), (words, code)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits its memory as Linux does")
def test_small_files_that_grow_when_they_are_read_are_refused(run, tmp_path):
    """Half a GiB of memory is enough to say no: as --config, as a run's config, and as the file of one option."""
    calls = []
    for name, text in BOMBS.items():
        file = tmp_path / f"{name}.yml"
        file.write_text(text)
        sent = Path(shutil.copytree(run, tmp_path / f"run {name}"))
        (sent / "config.yaml").write_text(f"recipe: alone\n{text}" if "recipe" not in text else text)
        calls += [["distill", *SMALL, "--dry-run", "--config", file], ["distill", *SMALL, "--dry-run", "--fit", file]]
        calls += [["distill", "--resume", sent, "--dry-run"], ["report", sent], ["runs", sent]]
    script = LIMITED.format(calls=[[str(word) for word in words] for words in calls])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


# code in weights


FORMS = {
    "zip": lambda what, file: torch.save(what, file),
    "zip of a state": lambda what, file: torch.save({"state_dict": {"w": torch.ones(1), "x": what}}, file),
    "legacy": lambda what, file: torch.save(what, file, _use_new_zipfile_serialization=False),
    "bare": lambda what, file: file.write_bytes(pickle.dumps(what)),
    "bare, protocol 0": lambda what, file: file.write_bytes(pickle.dumps(what, protocol=0)),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_payload_works_where_nothing_stops_it(form, evil, tmp_path):
    """Else the tests below would show nothing."""
    from tutelage.usercode import function_in

    place = tmp_path / "canary"
    function_in(f"{evil}:net")
    place.rmdir()
    FORMS[form](Payload(place), tmp_path / "w.pt")
    if form.startswith("bare"):
        pickle.loads((tmp_path / "w.pt").read_bytes())
    else:
        torch.load(tmp_path / "w.pt", weights_only=False)
    place.rmdir()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", ["pt", "pth", "bin", "safetensors"])
def test_no_file_of_weights_runs_code(form, suffix, tmp_path, canary):
    """The classic: a checkpoint from somewhere."""
    file = tmp_path / f"w.{suffix}"
    FORMS[form](Payload(canary), file)
    code, said = called(
        ["distill", "--teacher", f"mlp:weights={file}", "--student", "mlp:width=2", "--steps", "1", "--out", tmp_path / "o"]
    )
    assert code == 2
    assert said.startswith("tutelage: ")


@pytest.mark.parametrize("form", ["zip", "bare"])
@pytest.mark.parametrize(
    "place",
    ["teacher/model/model.safetensors", "model/model.safetensors", "stages/00-distil/tensors.safetensors", "predictions.safetensors"],
)
def test_no_file_of_a_run_folder_runs_code(place, form, run, canary, tmp_path, no_page):
    """Whatever a run folder holds is read as tensors and JSON alone."""
    file = run / place
    FORMS[form](Payload(canary), file)
    for name in ("pytorch_model.bin", "model.pt", "state.pkl", "optimizer.pt", "scheduler.bin", "random_states_0.pkl", "__init__.py"):
        shutil.copy(file, file.parent / name)
    if (file.parent / "checksums.json").is_file():
        sums = {name: zlib.crc32((file.parent / name).read_bytes()) for name in ("tensors.safetensors", "state.json")}
        (file.parent / "checksums.json").write_text(json.dumps(sums))
    shutil.copytree(run / "stages/00-distil", run / "checkpoints/00-step-000000001")
    for words in (["report", run], ["distill", "--resume", run], ["runs", run], ["taps", run]):
        assert "Traceback" not in called(words)[1]
    assert called(["distill", "--teacher", run, *SMALL[2:], "--no-baseline", "--out", tmp_path / "o"])[0] in (0, 2)


@pytest.fixture
def hub(tmp_path) -> Path:
    """A tiny classifier as a Hugging Face folder, with its weights."""
    pytest.importorskip("transformers")
    from hub_folders import bert

    return bert(tmp_path / "hub", head=2, labels=["a", "b"])


@pytest.fixture
def texts(tmp_path) -> Path:
    """Sixty texts of two classes."""
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(f'{{"text": "good film {i % 5}", "label": "{"ab"[i % 2]}"}}\n' for i in range(60)))
    return file


def teach(model: str, texts: Path, tmp_path: Path) -> tuple[int, str]:
    """Let a model teach two steps."""
    words = ["--teacher", model, "--student", "bag:width=2", "--data", f"jsonl:{texts}", "--steps", "2", "--quiet", "--no-baseline"]
    return called(["distill", *words, "--out", tmp_path / "out"])


def test_a_hugging_face_folder_as_it_should_be_teaches(hub, texts, tmp_path, no_page):
    """Else the tests below would show nothing."""
    assert teach(f"hf:{hub}", texts, tmp_path)[0] == 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "sharded", "of a run"])
def test_no_weights_of_a_hugging_face_folder_run_code(name, form, hub, texts, tmp_path, canary):
    """pytorch_model.bin is a pickle by design."""
    (hub / "model.safetensors").unlink()
    file = hub / {"sharded": "pytorch_model-00001-of-00001.bin", "of a run": "pytorch_model.bin"}.get(name, name)
    FORMS[form](Payload(canary), file)
    if name == "sharded":
        (hub / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": {"classifier.weight": file.name}}))
    model = f"hf:{hub}"
    if name == "of a run":
        model = str(tmp_path / "sent")
        shutil.copytree(hub, tmp_path / "sent/model")
        (tmp_path / "sent/model/model.json").write_text('{"spec": "hf:anything"}')
    code, said = teach(model, texts, tmp_path)
    assert code == 2
    assert said.startswith("tutelage: the ")


EVIL_CODE = """
import os
os.mkdir({canary!r})
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast
class Config(BertConfig): pass
class Model(BertForSequenceClassification): pass
class Tokenizer(BertTokenizerFast): pass
"""


@pytest.mark.parametrize(
    "where", ["config", "config of a new kind", "tokenizer", "tokenizer class", "chat template", "of a run", "reached by a path"]
)
def test_no_code_of_a_hugging_face_folder_runs(where, hub, texts, tmp_path, canary):
    """auto_map, classes of the folder's own, templates: trust_remote_code is off, and no option turns it on."""
    code = EVIL_CODE.format(canary=str(canary))
    for name in ("evil.py", "modeling_evil.py", "tokenization_evil.py", "hub.py", "__init__.py", "setup.py"):
        (hub / name).write_text(code)
    config = json.loads((hub / "config.json").read_text())
    tokenizer = json.loads((hub / "tokenizer_config.json").read_text())
    outside = "../evil" if where == "reached by a path" else "evil"
    config["auto_map"] = {"AutoConfig": f"{outside}.Config", "AutoModelForSequenceClassification": f"{outside}.Model"}
    if where == "config of a new kind":
        config |= {"model_type": "evil", "architectures": ["EvilForSequenceClassification"]}
    if where.startswith("tokenizer"):
        tokenizer["auto_map"] = {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}
    if where == "tokenizer class":
        tokenizer["tokenizer_class"] = "evil.Tokenizer"
    if where == "chat template":
        escape = "{{ ''.__class__.__mro__[1].__subclasses__() }}{% for c in [].__class__.__base__.__subclasses__() %}{% endfor %}"
        tokenizer["chat_template"] = escape + "{{ cycler.__init__.__globals__.os.system('touch " + str(canary) + "') }}"
        (hub / "chat_template.jinja").write_text(tokenizer["chat_template"])
    (tmp_path / "evil.py").write_text(code)
    (hub / "config.json").write_text(json.dumps(config))
    (hub / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    model = f"hf:{hub}"
    if where == "of a run":
        model = str(tmp_path / "sent")
        shutil.copytree(hub, tmp_path / "sent/model")
        (tmp_path / "sent/model/model.json").write_text('{"spec": "hf:anything:trust_remote_code=true"}')
    assert called(["distill", "--teacher", f"{model}:trust_remote_code=true", *SMALL[2:], "--data", f"jsonl:{texts}", "--dry-run"])[0] == 2
    code, said = teach(model, texts, tmp_path)
    assert "Traceback" not in said


def test_what_is_written_does_not_point_to_strangers_code(hub, texts, tmp_path, no_page):
    """A student's folder with an auto_map would ask its users to trust what its teacher's maker wrote."""
    for name, key in (("config.json", "AutoModelForSequenceClassification"), ("tokenizer_config.json", "AutoTokenizer")):
        read = json.loads((hub / name).read_text())
        (hub / name).write_text(json.dumps({**read, "auto_map": {key: "strangers/code--evil.Model"}}))
    words = ["--teacher", f"hf:{hub}", "--student", f"hf:{hub}:num_hidden_layers=1", "--data", f"jsonl:{texts}", "--steps", "2", "--quiet"]
    assert called(["distill", *words, "--no-baseline", "--out", tmp_path / "out"])[0] == 0
    for file in (tmp_path / "out/model").glob("*.json"):
        assert "auto_map" not in file.read_text()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "_attn_implementation_internal"])
@pytest.mark.parametrize("way", ["config", "option"])
def test_no_kernel_is_fetched_for_a_model(key, way, hub, texts, tmp_path, monkeypatch):
    """A config may name a repository of compiled code for its attention; transformers would fetch and run it where it can."""
    from transformers import modeling_utils
    from transformers.integrations import hub_kernels

    asked = []
    for module in (hub_kernels, modeling_utils):
        for name in ("get_kernel", "load_and_register_attn_kernel", "lazy_import_flash_attention", "lazy_import_paged_flash_attention"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, lambda *given, **more: asked.append(given))
    if way == "config":
        config = json.loads((hub / "config.json").read_text())
        (hub / "config.json").write_text(json.dumps({**config, key: "strangers/attention"}))
        teach(f"hf:{hub}", texts, tmp_path)
    else:
        assert teach(f"hf:{hub}:{key}=strangers/attention", texts, tmp_path)[0] == 2
    assert asked == []


def test_a_timm_model_takes_no_file_of_weights_by_the_way(run, tmp_path, monkeypatch, canary):
    """timm reads a checkpoint_path itself, and its older versions unpickle it."""
    import types

    stand_in = types.ModuleType("timm")
    stand_in.is_model = lambda name: True
    stand_in.get_pretrained_cfg = lambda name: None
    stand_in.create_model = lambda name, **options: canary.write_text(str(options))
    monkeypatch.setitem(sys.modules, "timm", stand_in)
    digits = ["--data", "digits"]
    for option in (
        "checkpoint_path=w.pth",
        'pretrained_cfg={"file": "w.pth"}',
        'pretrained_cfg_overlay={"url": "https://example.org/w.pth"}',
    ):
        (run / "model/model.json").write_text(json.dumps({"spec": f"timm:tiny:{option}"}))
        for model in (run, f"timm:tiny:{option}"):
            code, said = called(["distill", "--teacher", model, *SMALL[2:], *digits, "--out", tmp_path / "o"])
            assert code == 2, said
            assert "option" in said


# code in data


def test_no_data_run_code(tmp_path, canary, evil):
    """Pickles, scripts and archives beside or in place of what is read."""
    pytest.importorskip("pyarrow")
    pytest.importorskip("datasets")
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"x": list(range(60)), "label": [i % 2 for i in range(60)]})
    field = pyarrow.field(
        "x",
        pyarrow.int64(),
        metadata={"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickle.dumps(Payload(canary))},
    )
    about = {"pandas": json.dumps({"index_columns": [], "columns": [{"name": "x", "metadata": {"a": "!!python/object/apply:os.system"}}]})}
    table = table.cast(pyarrow.schema([field, pyarrow.field("label", pyarrow.int64())], metadata=about))
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    called(["data", f"parquet:{tmp_path}/x.parquet", "--data.label", "label"])
    called(["data", f"hf:{tmp_path}/x.parquet"])

    sent = tmp_path / "set"
    sent.mkdir()
    called(["data", f"hf:{sent}"])
    for name in ("set.py", "__init__.py", "dataset.py"):
        (sent / name).write_text(evil.read_text())
    called(["data", f"hf:{sent}"])
    for name in ("train.pkl", "train.pickle", "train.pt"):
        (sent / name).write_bytes(pickle.dumps(Payload(canary)))
        called(["data", f"hf:{sent}"])
        called(["data", f"csv:{sent}/{name}"])
        called(["data", f"parquet:{sent}/{name}"])
    (sent / "README.md").write_text(f"---\nconfigs: !!python/object/apply:builtins.open ['{canary}', w]\n---\n")
    called(["data", f"hf:{sent}"])
    (sent / "dataset_info.json").write_text('{"features": {"x": {"_type": "os.system"}}, "citation": ""}')
    (sent / "state.json").write_text('{"_data_files": [{"filename": "train.pkl"}], "_fingerprint": "x"}')
    called(["data", f"hf:{sent}"])


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz"])
def test_no_archive_writes_beside_itself(form, tmp_path, canary, monkeypatch):
    """../ and links in archives; datasets unpacks them into its cache, pandas reads them in memory, we never do."""
    pytest.importorskip("datasets")
    cache = tmp_path / "cache/a/b"
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache)
    monkeypatch.setattr("datasets.config.EXTRACTED_DATASETS_PATH", cache / "extracted")
    sent = tmp_path / "set"
    sent.mkdir()
    ups = ["../" * i + "canary" for i in range(8)] + [str(canary)]
    rows = b"x,label\n" + b"1,a\n2,b\n" * 30
    file = sent / f"train.{form}"
    if form == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("train.csv", rows)
            for name in ups[1:]:
                archive.writestr(name, "x")
    else:
        with tarfile.open(file, "w:gz" if form.endswith("gz") else "w") as archive:
            for name, what in [("train.csv", rows), *((name, b"x") for name in ups[1:])]:
                about = tarfile.TarInfo(name)
                about.size = len(what)
                archive.addfile(about, io.BytesIO(what))
            link = tarfile.TarInfo("link")
            link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
            archive.addfile(link)
            through = tarfile.TarInfo("link/canary")
            archive.addfile(through, io.BytesIO(b""))
    for words in (["data", f"hf:{sent}"], ["data", f"csv:{file}"], ["taps", f"mlp:weights={file}"]):
        assert "Traceback" not in called(words)[1]
    assert not [f for f in tmp_path.rglob("canary") if cache not in f.parents]


def test_a_zip_of_weights_is_not_unpacked(tmp_path, canary, monkeypatch):
    """A .pt is a zip; what else is in it is nobody's business."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "w.pt"
    torch.save({"weight": torch.ones(2)}, file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("../canary", "x")
        archive.writestr("w/../../canary", "x")
        archive.writestr(str(canary), "x")
    assert called(["distill", "--teacher", f"mlp:weights={file}", *SMALL[2:], "--out", tmp_path / "o"])[0] == 2
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "o") == ["w.pt"]


@pytest.mark.parametrize("name", ["x.png", "x.eps", "x.jpg"])
def test_no_image_starts_another_program(name, tmp_path, canary, monkeypatch):
    """Pillow gives PostScript to Ghostscript, whatever the file is called."""
    pytest.importorskip("PIL")
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("gs", "gswin64c"):
        (tools / tool).write_text(f"#!/bin/sh\ntouch {canary}\n")
        (tools / tool).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    text = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%Page: 1 1\nshowpage\n%%EOF\n"
    for label in "ab":
        for number in range(10):
            place = tmp_path / f"set/{label}/{number}{name}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
    assert called(["data", f"folder:{tmp_path}/set"])[0] == 2


HEADERS = {
    "length beyond the file": b"\xff\xff\xff\xff\xff\xff\xff\x7f{}",
    "length of 2 GB": b"\x00\x00\x00\x80\x00\x00\x00\x00{}",
    "offsets beyond the file": b'{"w":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}',
    "shape that overflows": b'{"w":{"dtype":"F32","shape":[9223372036854775807,9223372036854775807],"data_offsets":[0,4]}}',
    "deep": b'{"__metadata__":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "negative": b'{"w":{"dtype":"F32","shape":[-1],"data_offsets":[4,0]}}',
}


@pytest.mark.parametrize("attack", HEADERS)
def test_absurd_headers_of_safetensors_are_refused(attack, run, tmp_path, no_page):
    """And allocate nothing: the file is as large as it is."""
    header = HEADERS[attack]
    whole = header if header[0] != ord("{") else len(header).to_bytes(8, "little") + header + b"\0" * 4
    for place in ("model/model.safetensors", "predictions.safetensors", "stages/00-distil/tensors.safetensors"):
        (run / place).write_bytes(whole)
    sums = {name: zlib.crc32((run / "stages/00-distil" / name).read_bytes()) for name in ("tensors.safetensors", "state.json")}
    (run / "stages/00-distil/checksums.json").write_text(json.dumps(sums))
    for words in (["report", run], ["distill", "--resume", run], ["distill", "--teacher", run, *SMALL[2:], "--out", tmp_path / "o"]):
        code, said = called(words)
        assert code == 2
        assert "damaged" in said


JSONS = {
    "deep list": "[" * 100_000 + "]" * 100_000,
    "deep mapping": '{"spec":' * 100_000 + "3" + "}" * 100_000,
    "long number": '{"spec": ' + "9" * 100_000 + "}",
}


@pytest.mark.parametrize("attack", JSONS)
@pytest.mark.parametrize(
    "name", ["model/model.json", "report.json", "environment.json", "disagreements.json", "metrics.jsonl", "failure.json", "splits.json"]
)
def test_json_without_end_gets_one_sentence(name, attack, run, tmp_path, no_page):
    """Not a stack of frames, and no crash of the interpreter."""
    (run / name).write_text(JSONS[attack])
    for words in (["report", run], ["runs", run], ["taps", run], ["distill", "--resume", run, "--dry-run"]):
        code, said = called(words)
        assert code in (0, 2)
        assert "Traceback" not in said


CHANGED = ("student", "samples", "seed", "taught_minus_alone", "timing", "kept")


@pytest.mark.parametrize(
    ("value", "drawn"), [(v, False) for v in ("1e400", "NaN", "9" * 400, "-5", '"x"', "{}")] + [("1e400", True), ("NaN", True)]
)
def test_absurd_numbers_in_a_report_get_a_page_or_one_sentence(value, drawn, run, monkeypatch):
    """Each number of a report in turn, as the words and tables see it, and then all at once in the figures."""
    if not drawn:
        for name in ("quality_against_cost", "curves", "terms", "reliability_diagram", "class_changes", "heat_map", "class_sizes"):
            monkeypatch.setattr(f"tutelage.evaluation.plots.{name}", lambda *_, **__: '<svg viewBox="0 0 288 100"></svg>')
    whole = json.loads((run / "report.json").read_text())
    places = [path for path in paths(whole) if isinstance(found(whole, path), (int, float)) and path[0] in CHANGED]
    for some in [[place] for place in places] if not drawn else [places]:
        numbers = json.loads(json.dumps(whole))
        for *above, last in some:
            found(numbers, above)[last] = "CHANGED"
        (run / "report.json").write_text(json.dumps(numbers).replace('"CHANGED"', value))
        code, said = called(["report", run])
        assert code in (0, 2), (some, said)


def paths(values, above=()):
    """The paths to all plain values in nested mappings and lists."""
    inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else None
    return [above] if inner is None else [path for key, value in inner for path in paths(value, (*above, key))]


def found(values, path):
    """What stands at a path."""
    for key in path:
        values = values[key]
    return values


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("way", ["clean", "process", "included", "fsmonitor", "hook", "a strange name"])
def test_no_command_of_the_repository_around_runs(way, tmp_path, canary):
    """`git status` runs what a repository's own config says; one may have been sent with its .git."""
    from tutelage.jobs.environment import git_state

    place = tmp_path / "sent"
    git = ["git", "-C", str(place), "-c", "user.name=x", "-c", "user.email=x@x"]
    subprocess.run(["git", "init", "-q", str(place)], check=True)
    (place / "file").write_text("x")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    command = tmp_path / "command"
    command.write_text(f"#!/bin/sh\nmkdir {canary}\ncat\n")
    command.chmod(0o755)
    name = "e=v.il" if way == "a strange name" else "evil"
    (place / ".git/info/attributes").write_text(f"file filter={name}\n")
    if way == "hook":
        shutil.copy(command, place / ".git/hooks/post-index-change")
    elif way == "included":
        (tmp_path / "more").write_text(f'[filter "evil"]\nclean = {command}\nrequired = true\n')
        subprocess.run([*git, "config", "include.path", str(tmp_path / "more")], check=True)
    else:
        key = {"fsmonitor": "core.fsmonitor", "process": "filter.evil.process"}.get(way, f"filter.{name}.clean")
        subprocess.run([*git, "config", key, str(command)], check=True)
    os.utime(place / "file", (1, 1))  # so that git must look into it
    if way != "hook":
        subprocess.run([*git, "status"], capture_output=True)
        assert canary.exists()
        canary.rmdir()
        (place / "file").write_text("y")
    found = git_state(place)
    assert found is not None
    assert len(found["commit"]) == 40


# links in run folders


WRITTEN = [
    "metrics.jsonl",
    "config.yaml",
    "environment.json",
    "splits.json",
    "report.json",
    "report.html",
    "predictions.safetensors",
    ".predictions.safetensors.tmp",
    "disagreements.json",
    "failure.json",
    "model",
    "model/model.json",
    "model/model.safetensors",
    "checkpoints",
    "stages",
    "stages/00-distil",
    "teacher",
    "teacher/metrics.jsonl",
    "teacher/model",
    "baseline/metrics.jsonl",
    "trackers",
    "also",
]


@pytest.mark.parametrize("kind", ["file", "folder", "nothing"])
@pytest.mark.parametrize("name", WRITTEN)
def test_nothing_is_written_through_a_link_out_of_a_run_folder(name, kind, run, tmp_path, no_page):
    """A run that someone sent is gone on with, and its links lead to what is dear to the user."""
    outside = tmp_path / "dear"
    outside.mkdir()
    for each in ("00-holidays", ".old.tmp", "00-step-000000001"):
        (outside / each).mkdir()
        (outside / each / "picture").write_text("dear")
    (outside / "letter").write_text("dear " * 1000)
    (outside / "model.safetensors").write_text("dear")
    before = {f.relative_to(outside): f.read_bytes() for f in outside.rglob("*") if f.is_file()}
    if not name.startswith("stages"):
        shutil.rmtree(run / "stages")  # so that it is trained again
    place = run / name
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.symlink_to(outside / {"file": "letter", "folder": ".", "nothing": "new"}[kind])
    for words in (["distill", "--resume", run, "--quiet"], ["report", run], ["runs", run], ["distill", *SMALL, "--out", run]):
        _code, said = called(words)
        assert "Traceback" not in said
    assert {f.relative_to(outside): f.read_bytes() for f in outside.rglob("*") if f.is_file()} == before


def test_a_link_beside_a_file_that_is_written_is_not_followed(run, tmp_path, no_page):
    """The name of a temporary file can be guessed; it is made new."""
    from tutelage.training.checkpoint import write_text_atomically

    dear = tmp_path / "dear"
    dear.write_text("dear")
    for name in ("report.html", "environment.json"):
        (run / f".{name}.{os.getpid()}.tmp").symlink_to(dear)
        write_text_atomically(run / name, "new")
        assert (run / name).read_text() == "new"
        assert not (run / name).is_symlink()
    assert dear.read_text() == "dear"


@pytest.mark.parametrize(
    "name", ["config.yaml", "environment.json", "report.json", "disagreements.json", "metrics.jsonl", "teacher/metrics.jsonl"]
)
def test_no_page_tells_what_a_link_leads_to(name, run, tmp_path):
    """Else the page that is sent back holds what nobody meant to send."""
    whole = (run / name).read_text()
    secret = tmp_path / "secret"
    text = (
        json.dumps({**json.loads(whole), "password": "xyzzy"})
        if name in ("environment.json", "report.json")
        else f"{whole}\npassword: xyzzy\n"
    )
    secret.write_text(text if name.endswith(("json", "yaml")) else whole)
    (run / name).unlink()
    (run / name).symlink_to(secret)
    code, said = called(["report", run])
    assert code == 2
    assert "leads out of the run folder" in said
    assert "xyzzy" not in said


def test_links_within_a_run_folder_and_to_it_are_the_users_own(run, tmp_path, no_page):
    """`latest -> runs/first` is common; a refusal would be of no use."""
    (run / "model/copy").symlink_to("model.json")
    (tmp_path / "latest").symlink_to(run)
    assert called(["report", tmp_path / "latest"])[0] == 0
    assert called(["distill", "--resume", tmp_path / "latest"])[0] == 0


@pytest.mark.parametrize("name", ["../canary", "..", "/tmp/../canary", "a/../../canary", "..\\canary", "~/canary", "\0canary"])
def test_names_in_a_run_folder_are_no_paths(name, run, tmp_path, no_page):
    """Stages, learners, plans and models are named in its files; what is written has names of our own."""
    before = {p for p in tmp_path.rglob("*") if run not in p.parents}
    report = json.loads((run / "report.json").read_text())
    (run / "report.json").write_text(json.dumps(report).replace('"teacher"', json.dumps(name)))
    tensors = load_file(run / "predictions.safetensors")
    save_file({k.replace("teacher", name.replace("\0", "")): v for k, v in tensors.items()}, run / "predictions.safetensors")
    state = json.loads((run / "stages/00-distil/state.json").read_text())
    state["identity"]["stages"] = {f"00-{name}": state["identity"]["stages"]["00-distil"]}
    state["parts"] = {name: {}}
    (run / "stages/00-distil/state.json").write_text(json.dumps(state))
    (run / "stages/00-distil/checksums.json").write_text(json.dumps({name: 0, "../../config.yaml": 0}))
    (run / "metrics.jsonl").write_text(json.dumps({"stage": name, "step": 1, "terms": {name: 1.0}}) + "\n")
    index = {"metadata": {}, "weight_map": {"classifier.weight": f"{name}.safetensors"}}
    (run / "model/model.safetensors.index.json").write_text(json.dumps(index))
    for words in (["report", run], ["runs", run], ["taps", run], ["distill", "--resume", run]):
        assert "Traceback" not in called(words)[1]
    assert {p for p in tmp_path.rglob("*") if run not in p.parents} == before


# caches of strangers


@pytest.fixture
def kept(tmp_path, untimed_caches) -> Path:
    """A small cache to tamper with."""
    from small_caches import written

    written(tmp_path / "kept", taps="2")
    return tmp_path / "kept"


def resealed(shard: Path) -> None:
    """Give a shard that was exchanged the size and the checksum that its note should say, as whoever exchanged it would."""
    note = json.loads(shard.with_suffix(".json").read_text())
    content = shard.read_bytes()
    shard.with_suffix(".json").write_text(json.dumps({**note, "bytes": len(content), "crc32": zlib.crc32(content)}))


def test_no_file_of_a_cache_runs_code(kept, canary):
    """Pickles in the place of shards, with checksums that are right, and beside them."""
    for shard in sorted(kept.rglob("*.safetensors")):
        torch.save(Payload(canary), shard)
        resealed(shard)
    for name in ("signals.pt", "train/plain-00000.pkl", "pytorch_model.bin", "__init__.py"):
        shutil.copy(kept / "train/plain-00000.safetensors", kept / name)
    code, said = called(["cache", "show", kept])
    assert code == 1
    assert "7 shards are damaged" in said


@pytest.mark.parametrize("attack", HEADERS)
def test_absurd_headers_of_the_shards_of_a_cache_are_refused(attack, kept):
    """Checksums hold: it was written so."""
    header = HEADERS[attack]
    whole = header if header[0] != ord("{") else len(header).to_bytes(8, "little") + header + b"\0" * 4
    for shard in kept.rglob("*.safetensors"):
        shard.write_bytes(whole)
        resealed(shard)
    code, said = called(["cache", "show", kept])
    assert code in (0, 1)
    assert "Traceback" not in said


@pytest.mark.parametrize("attack", JSONS)
@pytest.mark.parametrize("name", ["cache.json", "train/plain-00000.json"])
def test_the_json_of_a_cache_may_be_without_end(name, attack, kept, run):
    """Looked at, and taken for one to go on with."""
    (kept / name).write_text(JSONS[attack])
    for words in (["cache", "show", kept], ["cache", "--teacher", run / "teacher", "--out", kept]):
        code, said = called(words)
        assert code in (1, 2)
        assert "Traceback" not in said


@pytest.mark.parametrize("name", ["../canary", "..", "/tmp/../canary", "a/../../canary", "..\\canary", "~/canary", "\0canary"])
def test_names_in_a_cache_are_no_paths(name, kept, tmp_path, canary):
    """Splits are folders; whoever names one names a place."""
    from small_caches import signed

    before = {p for p in tmp_path.rglob("*") if kept not in p.parents}

    def change(said):
        said["splits"] = {name: said["splits"]["train"]}

    signed(kept, change)
    code, said = called(["cache", "show", kept])
    assert code == 2
    assert "a split's name" in said
    assert {p for p in tmp_path.rglob("*") if kept not in p.parents} == before


def test_a_teacher_that_names_code_needs_the_users_leave_to_be_kept(run, kept, evil, canary, tmp_path):
    """As everywhere."""
    (run / "model/model.json").write_text(json.dumps({"spec": f"{evil}:net"}))
    for words in (["cache", "--out", tmp_path / "new"], ["cache", "show", kept, "--data", "digits"]):
        code, said = called([*words, "--teacher", run])
        assert code == 2
        assert "--trust-code" in said
    assert not (tmp_path / "new").exists()


def test_no_name_in_a_cache_steers_the_terminal(kept):
    """Names of teacher, data and taps come from whoever wrote it."""
    from small_caches import signed

    def change(said):
        said["teacher"] = dict.fromkeys(("name", "spec", "weights", "preprocessing"), STEERING) | {"asked": {"batch_size": STEERING}}
        said["data"] = {"name": STEERING, "classes": [STEERING]}
        taps = said["splits"]["train"]["taps"]
        taps[STEERING] = {**taps.pop("2"), "path": STEERING}

    signed(kept, change)
    code, said = called(["cache", "show", kept])
    assert code == 1
    for sign in "\x1b\x07\x9b\x08\r":
        assert sign not in said


# names and texts on the page and in the terminal


HOSTILE = [
    "<script>document.title = 'hit'</script>",
    '"><img src=x onerror="document.title=\'hit\'">',
    "'><svg onload=\"document.title='hit'\">",
    "</style></svg></title><script>document.title='hit'</script>",
    "]]><script>document.title='hit'</script>",
    "--><script>document.title='hit'</script><!--",
    "{{ 7 * 191 }}{% include '/etc/passwd' %}${7 * 191}#{7 * 191}",
    "javascript:document.title='hit'",
    "x\" onmouseover=\"document.title='hit'\" autofocus onfocus=\"document.title='hit'",
    "&lt;script&gt;document.title='hit'&lt;/script&gt;",
    "$\\input{/etc/passwd}$ $\\frac{1}{0}$ \\write18{touch canary}",
]


class Elements(HTMLParser):
    """Which elements a page has, and which attributes on them; what its addresses are."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: set[tuple[str, str]] = set()
        self.addresses: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found |= {(tag, ""), *((tag, name) for name, _ in attrs)}
        self.addresses |= {
            value or "" for name, value in attrs if name in ("href", "src", "xlink:href", "action", "data", "srcset", "style")
        }


def renamed(values, names: dict):
    """All texts in nested mappings and lists, keys among them, put through a table."""
    if isinstance(values, dict):
        return {names.get(k, k): renamed(v, names) for k, v in values.items()}
    if isinstance(values, list):
        return [renamed(v, names) for v in values]
    return names.get(values, values) if isinstance(values, str) else values


def hostile(run: Path, payload: str) -> None:
    """Put a payload wherever a run folder holds a text: names of models, classes, stages and terms, paper, settings, versions."""
    tensors = load_file(run / "predictions.safetensors")
    save_file({k.replace(".teacher", f".{payload}"): v for k, v in tensors.items()}, run / "predictions.safetensors")
    report = renamed(json.loads((run / "report.json").read_text()), {"teacher": payload})
    report |= {"recipe": payload, "data": payload, "classes": [f"{payload}{i}" for i in range(10)]}
    report["paper"] = {"title": payload, "authors": payload, "year": payload, "url": f"https://example.org/{payload}"}
    report["timing"] = {"threads": 1, "processor": payload, "device": payload}
    for name in report["models"]:
        report[name]["model"] = payload
    report["per_class"] = [{**row, "class": payload} for row in report["per_class"]]
    (run / "report.json").write_text(json.dumps(report))
    shown = [
        {"kind": "text", "text": payload, "cut": False},
        {"kind": "numbers", "name": payload, "values": [1.5], "of": 1},
        {"kind": "none", "why": payload},
        {"kind": "image", "png": f"data:image/png;base64,{payload}", "scaled": False},
        {"kind": "image", "png": payload, "scaled": False},
    ]
    models = {name: {"choice": 1, "confidence": 0.5} for name in report["models"]}
    (run / "disagreements.json").write_text(json.dumps([{"id": payload, "label": 0, "models": models, "sample": each} for each in shown]))
    for file in (run / "metrics.jsonl", run / "teacher/metrics.jsonl"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        changed = [{**line, "stage": payload, "terms": {payload: 1.0, f"{payload}2": 2.0}, "shares": {payload: 1.0}} for line in lines]
        file.write_text("".join(json.dumps(line) + "\n" for line in changed))
    (run / "teacher").rename(run / "teacher-2")
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**renamed(config, {"digits": payload}), payload: payload, "track": [payload]}))
    about = json.loads((run / "environment.json").read_text())
    about |= {"versions": {payload: payload, "tutelage": payload}, "platform": payload, "accelerators": [payload], "command": [payload]}
    (run / "environment.json").write_text(json.dumps(about))


@pytest.fixture
def plain_page(run, tmp_path) -> Elements:
    """The page of the same folder with a harmless word in all places."""
    sent = Path(shutil.copytree(run, tmp_path / "plain"))
    hostile(sent, "harmless")
    assert called(["report", sent])[0] == 0
    return Elements((sent / "report.html").read_text())


def test_no_name_or_text_becomes_an_element_of_the_page(run, plain_page, tmp_path):
    """The page of a hostile run has the elements of that of a harmless one, with the same attributes, and leads to the same places."""
    assert ("section", "id") in plain_page.found
    for number, payload in enumerate((" ".join(HOSTILE[:4]), " ".join(HOSTILE[4:]))):
        sent = Path(shutil.copytree(run, tmp_path / str(number)))
        hostile(sent, payload)
        code, said = called(["report", sent])
        assert code == 0, (payload, said)
        page = (sent / "report.html").read_text()
        elements = Elements(page)
        assert elements.found <= plain_page.found, payload
        assert not any(name.startswith("on") for _, name in elements.found)
        led = {a for a in elements.addresses - plain_page.addresses if not a.startswith(("#", "url(#"))}
        assert all(a.startswith(("https://example.org/", "data:image/png;base64,")) or (":" in a and "hit" not in a) for a in led), payload
        assert "1337" not in page
        assert "Content-Security-Policy" in page


@pytest.mark.slow
def test_no_script_runs_when_a_browser_opens_the_page(run, tmp_path):
    """As the parser sees it is not yet as a browser does."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no browser is installed")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=3000",
        f"--user-data-dir={tmp_path}/profile",
        "--dump-dom",
    ]

    def opened(page: Path) -> str:
        done = subprocess.run([browser, *options, page.as_uri()], capture_output=True, text=True, timeout=60)
        return done.stdout.partition("</title>")[0]

    control = tmp_path / "control.html"
    control.write_text(f"<title>plain</title>{HOSTILE[0]}{HOSTILE[1]}")
    assert opened(control).endswith("hit")
    for number in range(4):
        payload = " ".join(HOSTILE[number::4])
        sent = Path(shutil.copytree(run, tmp_path / str(number)))
        hostile(sent, payload)
        assert called(["report", sent])[0] == 0
        page = sent / "report.html"
        page.write_text(page.read_text().replace("Content-Security-Policy", "nothing"))  # the policy would forbid all scripts
        assert not opened(page).endswith(">hit"), payload


STEERING = "\x1b]0;hit\x07\x1b[31mred\x1b[0m\x9b31m\x08\r[bold]x[/bold][/red][link=https://example.org]y[/link]"


def test_no_name_steers_the_terminal(run, tmp_path):
    """An escape sequence in a class or a file's name could rewrite what the user sees; a bracket could end the table."""
    pytest.importorskip("pandas")
    file = tmp_path / f"{STEERING.replace('/', '')}.csv"
    rows = "".join(f'"{STEERING} good {i}",{"ab"[i % 2]}{STEERING}\n' for i in range(60))
    file.write_text(f"text,label\n{rows}")
    numbers = tmp_path / "numbers.csv"
    numbers.write_text(f"{STEERING},label\n" + "".join(f"{i},{'ab'[i % 2]}{STEERING}\n" for i in range(60)))
    hostile(run, STEERING)
    (tmp_path / "runs").mkdir()
    run.rename(tmp_path / "runs" / STEERING.replace("/", ""))
    sent = tmp_path / "runs" / STEERING.replace("/", "")
    done = tmp_path / "done"
    calls = [
        ["data", f"csv:{file}"],
        ["data", f"csv:{numbers}"],
        ["data", f"csv:{file}", "--data.label", STEERING],
        ["distill", *[word for word in SMALL if word != "--quiet"], "--data", f"csv:{numbers}", "--out", done],
        ["distill", *SMALL, "--data", f"csv:{numbers}", "--dry-run"],
        ["report", sent],
        ["report", done],
        ["runs", tmp_path],
        ["taps", "mlp", "--data", f"csv:{numbers}"],
        ["taps", STEERING],
        ["recipes", STEERING],
    ]
    for words in calls:
        code, said = called(words)
        assert code in (0, 2), said
        for sign in "\x1b\x07\x9b\x08\r":
            assert sign not in said, (words, said)
        assert "Traceback" not in said
