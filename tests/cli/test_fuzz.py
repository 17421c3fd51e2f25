"""Nothing that a user can type or write into a YAML file may end in a traceback: 0, or one sentence and an exit code.

Hypothesis makes command lines and config files from what is right, what is nearly right, and junk. The examples are the same each time;
TUTELAGE_FUZZ=5000 draws that many new ones for each property.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tutelage.cli.main import COMMANDS, main

MANY = int(os.environ.get("TUTELAGE_FUZZ", "0"))


def fuzz(examples: int) -> settings:
    """So many examples, the same each time, unless many new ones are asked for."""
    return settings(
        max_examples=MANY or examples, derandomize=not MANY, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )


@pytest.fixture(scope="module", autouse=True)
def _place(tmp_path_factory) -> Iterator[None]:
    """The commands run in a folder of files that are not what they should be."""
    root = tmp_path_factory.mktemp("fuzz")
    for folder in ("empty", "run/model", "odd/model"):
        (root / folder).mkdir(parents=True)
    files = {
        "file": "x",
        "run/config.yaml": "recipe: alone\nstudent: mlp\nout: run\n",
        "run/model/model.json": '{"spec": "mlp:width=2"}',
        "odd/config.yaml": "[1, 2]",
        "odd/environment.json": "3",
        "odd/model/model.json": '{"spec": 3}',
        "broken.py": "def net(:\n",
        "numbers.csv": "a,b,label\n" + "".join(f"{i},{i * i % 7},{'xyz'[i % 3]}\n" for i in range(60)),
        "texts.jsonl": "".join(f'{{"text": "word {i % 5}", "label": "{"xy"[i % 2]}"}}\n' for i in range(60)),
        "holes.csv": 'a,label\n1\n,x,"\n',
        "net.py": "import torch\nnumber = 3\n"
        "def net(width: int = 2): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))\n"
        "def three(): return 3\n"
        "def fails(): raise KeyError('no such thing')\n"
        "def needs(what): return torch.nn.Linear(2, 2)\n",
    }
    for name, text in files.items():
        (root / name).write_text(text)
    (root / "binary").write_bytes(bytes(range(256)))
    before = Path.cwd()
    os.chdir(root)
    yield
    os.chdir(before)


def held(words: list[str]) -> int:
    """Run a command and hold what every command must hold."""
    from accelerate.state import AcceleratorState

    err = io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
            code = main(words)
    except SystemExit as stop:  # after --help
        code = stop.code
        assert code == 0
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    said = err.getvalue()
    assert code in (0, 1, 2), (code, said)
    if code:
        assert said.startswith("tutelage: "), said
        assert said.endswith("\n"), said
        assert said[:-1].isprintable(), said
        assert len(said) < 1100, said
    for internal in ("Traceback", "<class", "object at 0x", "<function"):
        assert internal not in said, said
    return code


def parted(text: str) -> list[str]:
    """The words of a text, two spaces or a new line between them."""
    return [word for line in text.strip("\n").splitlines() for word in line.split("  ")]


LONG = ["x" * 300, "x" * 5000, "x/" * 3000, "9" * 5000]
STEERING = ["", " ", "\n", "\t", "\x00", "\x1b[31m", "a\x00b", "\udcff", "日本語", "<net>", "$HOME"]

NUMBERS = parted("""
0  1  -1  3.0  0.5  -0.0  1_0  0x10  1e3  1e12  1e400  -1e400  1e-400  5e-324  nan  -inf  .nan  .inf  true  null  None  1:30  1,2  0.1.2
1000000000000  -9223372036854775809  18446744073709551616  9999999999999999999999999999999999999999  [1]  [1, 2  {a: 1}  !!float x
""")

YAMLS = ["[" * 50, "{a: " * 50, "[" * 3000, "[" * 300 + "]" * 300, "[" * 900 + "]" * 900, "- a\n- b", "--- a\n--- b", ">\n x"]
YAMLS += parted("""
!!python/object:os.system x  !!python/name:os.system  !!python/object/apply:os.system ['echo']  {class_path: os.system}  !x y  !!binary x
{class_path: tutelage.errors.BadInput}  {steps: 1, lr: x}  {steps: [1]}  {? [1] : 2}  &a [*a]  *a  2001-01-01  2001-99-99  <<: 3  !!set {a}
2001-01-01 25:00  %YAML 9.9  a: b: c  ?  |  @x  `x`  '  ---  #
""")

MODELS = [*LONG, *STEERING, "mlp\x00", "net.py\x00:net", "mlp:width=3\n", "mlp:width=" + "9" * 5000, "mlp:" + "x" * 5000]
MODELS += parted("""
mlp  cnn  mlp:width=3  cnn:width=4,depth=2  cmn  MLP  mlp:  mlp::  :  mlp:width  mlp:width=  mlp:=3  mlp:self=1  mlp:widht=3  mlp:width=wide
mlp:width=0  mlp:width=-1  mlp:width=2.5  mlp:width=1e9  mlp:width=true  mlp:width=null  mlp:width=[1]  mlp:width={a: 1}  mlp:width='
mlp:width=[  mlp:width=*a  mlp:width=2001-99-99  mlp:width=!!python/name:os.system  mlp:width=16000000,depth=3  mlp:width=1000000000000
mlp:width=99999999999999999999  mlp:depth=1000000000  cnn:depth=1000000000  cnn:depth=60,pools=59  cnn:pools=9  cnn:norm=maybe
cnn:channels=3  mlp:dropout=2  mlp:dropout=nan  mlp:classes=0  mlp:classes=7  mlp:inputs=3  mlp:width=3,width=4  mlp:width=3:depth=2
empty  file  binary  run  odd  nothing/at/all  ./mlp  net.py  net.py:  net.py:net  net.py:net:width=3  net.py:three  net.py:fails
bag  vit:depth=1,width=8  resnet:depth=9  mixer:patch=3  depthwise:multiplier=1e300  vgg:size=-1  cnn:weights=file  cnn:weights=nothing
cnn:weights=odd  cnn:weights=  hf:  hf:empty  hf:nothing  hf:odd:x=1  hf:file  timm:  timm:nothing  timm:resnet18:x=1  fashion-mnist
net.py:needs  net.py:number  net.py:nothing  broken.py:net  nothing.py:net  .py:net  a.py:b.py:c
""")

DATA = [*STEERING, *LONG]
DATA += parted("""
digits  digits:seed=1  digits:seed=-1  digits:seed=x  digits:seed=null  digits:seed=1e400  digits:sede=1  digits:train=0.9  digits:train=1
digits:train=0  digits:train=2  digits:train=5  digits:train=-0.5  digits:train=nan  digits:train=[1]  digits:validation=0  digitz
csv:numbers.csv  csv:numbers.csv:label=a  csv:numbers.csv:label=x  csv:numbers.csv:text=[  csv:numbers.csv:columns=[1]  csv:numbers.csv:id=b
csv:numbers.csv:separator=  csv:numbers.csv:separator=ab  csv:numbers.csv:train=2  csv:numbers.csv:split=label  csv:numbers.csv:test=file
csv:  csv  csv:file  csv:binary  csv:empty  csv:nothing  csv:holes.csv  csv:net.py
jsonl:texts.jsonl  jsonl:numbers.csv  jsonl:texts.jsonl:text=label
jsonl:binary  parquet:binary  parquet:numbers.csv  folder:empty  folder:run  folder:file  folder:  hf:  hf:empty  hf:nothing  hf:file
fashion-mnist:samples=0  fashion-mnist:folder=empty  fashion-mnist:augment=flop  digits:augment=flip  fashion-mnist:samples=-1
digits:validation=0.6  digits:validation=1e-9  digits:validation=x  net.py:net  net.py:three  net.py:fails  run  :
""")

RECIPES = [*STEERING, *LONG]
RECIPES += parted("""
alone  hinton-kd  kd  hinton_kd  fitnets  HINTON-KD  hinton  __init__  os:system  alone.py  ../recipes/alone  net.py:net  net.py:three
broken.py:x  x.py:y
""")

PATHS = [*STEERING, *LONG]
PATHS += parted(".  empty  file  file/below  run  run/config.yaml  odd  odd/config.yaml  new  a/b/c  nothing.yml  ~  /dev/null  binary")

DATA_OPTIONS = parted(
    "label  text  columns  id  split  test  train  validation  seed  size  classes  separator  missing  rare  augment  lable"
)

WHOLE = ["1", "2", "7", "1000000000000", "9" * 40]
SHARE = ["0", "0.5", "0.9", "1", "1e-300"]
NUMBER = ["1", "0.5", "3", "1e-300", "1e300"]
FIT = {"epochs": [*NUMBER, "1e308"], "steps": WHOLE, "batch_size": WHOLE, "lr": NUMBER, "momentum": SHARE, "weight_decay": NUMBER}
FIT |= {"optimizer": ["sgd", "adam", "adamw"], "schedule": ["constant", "cosine", "linear", "steps"], "keep": ["last", "best"]}
FIT |= {"warmup": SHARE, "clip": NUMBER, "ema": SHARE}
RUN = {"seed": [*WHOLE, "-5"], "micro_batch": WHOLE, "checkpoint-every": WHOLE, "log_every": WHOLE, "share_every": ["0", *WHOLE]}
RUN |= {"workers": ["0"], "device": ["cpu", "auto"], "precision": ["fp32", "bf16"], "track": [""], "epochs": FIT["epochs"], "steps": WHOLE}
RUN |= {"lr": NUMBER, "batch-size": WHOLE, **{f"teacher_fit.{k}": v for k, v in FIT.items()}, **{f"fit.{k}": v for k, v in FIT.items()}}
TAPS = ["1", "0", "logits", "nothing"]
KNOBS = {
    "alone": {"label_smoothing": SHARE},
    "hinton-kd": {"temperature": NUMBER, "alpha": SHARE},
    "fitnets": {"temperature": NUMBER, "start": NUMBER, "end": ["-1", *NUMBER], "hint": TAPS, "guided": TAPS}
    | {f"hint_fit.{k}": v for k, v in FIT.items()},
    "born-again": {"generations": WHOLE, "arm": ["ban", "ban+l", "cwtm", "dkpp"]},
    "ps-kd": {"alpha": SHARE},
}
"""What the options of each recipe may be; some of it is more than any machine can bear."""
FLAGS = ["--train-teacher", "--no-baseline", "--baseline", "--trust_code", "--quiet", "--json", "--compile", "--no_quiet"]
FLAGS += ["--quiet=true", "--quiet=", "--json=x"]

ANY = st.text(max_size=12) | st.sampled_from([*STEERING, *LONG, *NUMBERS, *YAMLS, *parted("-  --  ---  =  :  ,  ~  .  ..  {}  %s  {x}")])
JUNK = ANY.filter(lambda word: word != "--debug")


def options(recipe: str) -> st.SearchStrategy[list[str]]:
    """Some options of a recipe: mostly right, else misspelt, of another recipe, with a value that is wrong, or with none."""

    @st.composite
    def one(draw) -> list[str]:
        own = {**RUN, **KNOBS.get(recipe, {})}
        every = {**own, **KNOBS["fitnets"], **KNOBS["born-again"]}
        kind = draw(st.integers(0, 19))
        if kind == 0:
            return [draw(st.sampled_from(FLAGS))]
        name = draw(st.sampled_from([*(every if kind == 1 else own)]))
        value = draw(st.sampled_from([*every[name]] if kind > 8 else NUMBERS) if kind > 4 else JUNK)
        if kind == 2:
            at = draw(st.integers(0, len(name)))
            name = name[:at] + draw(st.sampled_from("x-_. =é")) + name[at:]
        return [f"--{name}"] if kind == 3 else [f"--{name}={value}"] if draw(st.booleans()) else [f"--{name}", value]

    return st.lists(one(), max_size=4).map(lambda found: [word for words in found for word in words])


def asked(name: str, usual: str, others: list[str]) -> st.SearchStrategy[list[str]]:
    """An option that is mostly given as it should be."""
    odd = st.just([]) | (st.sampled_from(others) | JUNK).map(lambda value: [f"--{name}={value}"])
    return st.integers(0, 7).flatmap(lambda n: odd if n == 0 else st.just([f"--{name}", usual]))


@st.composite
def distill(draw, tiny: bool = False) -> list[str]:
    """The words after `distill`."""
    recipe = draw(st.sampled_from([*KNOBS]))
    words = draw(asked("student", "mlp:width=2", ["mlp"] if tiny else MODELS)) + draw(options(recipe))
    if recipe not in ("alone", "ps-kd"):
        words += [*draw(asked("teacher", "cnn:width=2,depth=2", ["cnn"] if tiny else MODELS)), "--train-teacher"]
    if not tiny:
        words += draw(asked("data", "digits", DATA)) + draw(asked("out", "never", PATHS)) + draw(asked("recipe", recipe, RECIPES))
        return words + draw(st.sampled_from([[], [], []]) | st.lists(JUNK, max_size=1))
    if draw(st.integers(0, 4)) == 0:
        words += [f"--out=out/{draw(st.sampled_from(PATHS))}"]
    bounded = ["--fit.steps=1", "--teacher_fit.steps=1", "--recipe", recipe]
    bounded += {"fitnets": ["--hint_fit.steps=1"], "born-again": ["--generations=1"]}.get(recipe, [])
    return words + bounded


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([*STEERING, *MODELS, 10**400]),
    lambda inner: (
        st.none() | st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*FIT, "class_path", "", 3]), inner, max_size=4)
    ),
    max_leaves=6,
)


@st.composite
def config(draw) -> str:
    """The text of a config file."""
    if draw(st.integers(0, 4)) == 0:
        key = draw(st.sampled_from(["", "fit: ", "seed: ", "recipe: ", "student: ", "teacher_fit:\n  "]))
        return key + draw(JUNK)
    every = {**RUN, **KNOBS[draw(st.sampled_from([*KNOBS]))]}
    settings: dict = {}
    for _ in range(draw(st.integers(0, 4))):
        name = draw(st.sampled_from([*every]))
        bundle, _, knob = name.replace("-", "_").rpartition(".")
        value = yaml.safe_load(draw(st.sampled_from(every[name]))) if draw(st.integers(0, 3)) else draw(VALUE)
        settings.update({bundle: {knob: value}} if bundle else {knob: value})
    if draw(st.integers(0, 3)) == 0:
        roles = ["teacher", "student", "data", "recipe", "out", "baseline", "dry_run", "resume", "config", "json", "fit", "teacher_fit", ""]
        settings[draw(st.sampled_from(roles))] = draw(VALUE)
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


@fuzz(120)
@given(distill(), st.sampled_from([["--dry-run"], ["--dry-run"], ["--print_config"]]))
def test_distill_takes_any_words(words, ending):
    """A slip of the pen gets an answer, not a stack of frames."""
    held(["distill", *words, *ending])


@fuzz(80)
@given(config(), distill() | st.just(["--student", "mlp", "--recipe", "alone"]))
def test_distill_takes_any_config(text, words):
    """A file from someone else, or from another version."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "c.yml"
        file.write_bytes(text.encode(errors="surrogatepass"))
        held(["distill", "--config", str(file), *words, "--dry-run"])


@fuzz(60)
@given(st.sampled_from(["config", "resume"]), st.sampled_from(PATHS) | JUNK, options("alone"))
def test_distill_takes_any_path(name, path, more):
    """Also one that is a folder, a device, or no path at all."""
    held(["distill", f"--{name}={path}", *more, "--dry-run"])


NAMED = [
    *RECIPES,
    *parted("hinton-kd:temperature=8  hinton-kd:alpha=2  fitnets:hint=9  alone:fit={lr:0.1}  ps-kd:  alone:student=mlp  kd:x"),
]
COMPARE = {
    "seeds": WHOLE,
    "seed": [*WHOLE, "-5"],
    "updates": WHOLE,
    "minutes": NUMBER,
    "tune": ["0", "1", *WHOLE],
    "workers": ["0", *WHOLE],
}
COMPARE |= {
    "threads": WHOLE,
    "engine": ["processes", "ray", "cluster"],
    "address": STEERING,
    "storage": ["sqlite:///x.db", "x://a:b@c", *STEERING],
}
COMPARE |= {f"teacher_fit.{k}": v for k, v in FIT.items()} | {"recipes": NAMED}


@st.composite
def compare(draw) -> list[str]:
    """The words after `compare`."""
    words = draw(asked("student", "mlp:width=2", MODELS)) + draw(asked("teacher", "cnn:width=2,depth=2", MODELS)) + ["--train-teacher"]
    words += draw(asked("data", "digits", DATA)) + draw(asked("out", "never", PATHS)) + draw(asked("updates", "10", NUMBERS))
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from([*COMPARE]))
        value = draw(st.sampled_from(COMPARE[name] if draw(st.booleans()) else NUMBERS) | JUNK)
        words += [f"--{name}={value}"] if draw(st.booleans()) else [f"--{name}", value]
    return words + draw(st.sampled_from([[], [], []]) | st.lists(st.sampled_from(FLAGS) | JUNK, max_size=1))


@fuzz(80)
@given(compare())
def test_compare_takes_any_words(words):
    """Everything is looked at before a night of trainings begins."""
    held(["compare", *words, "--dry-run"])


@fuzz(60)
@given(config(), st.lists(st.sampled_from(NAMED), max_size=2), st.sampled_from(["config", "resume"]))
def test_compare_takes_any_config(text, recipes, how):
    """A folder from someone else, or one that was cut off."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        begun = yaml.safe_dump({"seeds": 2, "student": "mlp", "recipes": recipes}) if how == "resume" else ""
        file.write_bytes((begun + text).encode(errors="surrogatepass"))
        held(["compare", f"--{how}", str(file if how == "config" else folder), "--student", "mlp:width=2", "--dry-run"])


SPACES = [*STEERING, *LONG]
SPACES += parted("""
resnet  vit  resnet:blocks=[1]  resnet:blocks=1,grows=2  resnet:blocks=0  resnet:blocks=x  resnet:blocks=[[1]]  resnet:width=3
resnet:stages=9  resnet:stages=0  resnet:stages=x  resnet:grows=0.5  resnet:grows=nan  resnet:widths=[1e400]  resnet:widths=[999999999999]
vit:patches=3  vit:size=0  vit:size=-1  vit:size=7  vit:heads=3  vit:widths=[10]  vit:ratios=[1e300]  rasnet  resnet:  :  net.py:net
net.py:three  net.py:fails  broken.py:net
""")
BUDGETS = [*STEERING, *NUMBERS]
BUDGETS += parted("""
params=1k  params=100k  params=  params=0  params=-1  params=nan  params=1e400  params=1kk  flops=1M  flops=1  flops=1M,params=9k
latency=1s  latency=1e-9  latency=5k  params=1k,params=1k  x=3  params  =3  ,
""")
SEARCH = dict.fromkeys(("candidates", "population", "parents", "batch_size", "batches"), WHOLE) | {"seed": [*WHOLE, "-5"]}
SEARCH |= {"score": ["diswot", "synflow", "params", "x"], "teacher_weights": ["fresh", "trained", "x"], "device": ["cpu", "x"]}


@st.composite
def search(draw) -> list[str]:
    """The words after `search`."""
    words = draw(asked("teacher", "cnn:width=2,depth=2", MODELS)) + draw(asked("space", "resnet:blocks=1,widths=2", SPACES))
    words += draw(asked("data", "digits", DATA)) + draw(asked("out", "never", PATHS)) + draw(asked("budget", "params=9k", BUDGETS))
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from([*SEARCH]))
        value = draw(st.sampled_from(SEARCH[name] if draw(st.booleans()) else NUMBERS) | JUNK)
        words += [f"--{name}={value}"] if draw(st.booleans()) else [f"--{name}", value]
    return words + draw(st.sampled_from([[], [], []]) | st.lists(st.sampled_from(FLAGS) | JUNK, max_size=1))


@fuzz(80)
@given(search())
def test_search_takes_any_words(words):
    """A space or a budget that cannot be is said before anything is scored."""
    held(["search", *words, "--dry-run"])


@fuzz(40)
@given(config(), st.sampled_from(["config", "resume"]))
def test_search_takes_any_config(text, how):
    """A folder from someone else, or one that was cut off."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_bytes((("space: resnet\nteacher: cnn\n" if how == "resume" else "") + text).encode(errors="surrogatepass"))
        held(["search", f"--{how}", str(file if how == "config" else folder), "--dry-run"])


CONDENSE = dict.fromkeys(("per_class", "experts", "studies", "inner.steps", "inner.ahead", "inner.starts", "condense_fit.steps"), WHOLE)
CONDENSE |= {"recipe": ["ast", "mtt", "alone", "dmd", "x"], "start": ["random", "k-means", "x"], "unseen": MODELS, "rate": NUMBERS}


@st.composite
def condense(draw) -> list[str]:
    """The words after `condense`."""
    words = draw(asked("student", "cnn:width=2,depth=2", MODELS)) + draw(asked("data", "digits", DATA)) + draw(asked("out", "never", PATHS))
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from([*CONDENSE]))
        value = draw(st.sampled_from(CONDENSE[name] if draw(st.booleans()) else NUMBERS) | JUNK)
        words += [f"--{name}={value}"] if draw(st.booleans()) else [f"--{name}", value]
    return words + draw(st.sampled_from([[], [], []]) | st.lists(st.sampled_from(FLAGS) | JUNK, max_size=1))


@fuzz(80)
@given(condense())
def test_condense_takes_any_words(words):
    """What cannot be condensed, or not so far, is said before an expert is trained."""
    held(["condense", *words, "--dry-run"])


@fuzz(40)
@given(config(), st.sampled_from(["config", "resume"]))
def test_condense_takes_any_config(text, how):
    """A folder from someone else, or one that was cut off."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_bytes((("studies: 1\nstudent: cnn\n" if how == "resume" else "") + text).encode(errors="surrogatepass"))
        held(["condense", f"--{how}", str(file if how == "config" else folder), "--dry-run"])


@fuzz(80)
@given(st.lists(st.sampled_from(MODELS) | JUNK, max_size=2), st.lists(st.sampled_from(DATA), max_size=1), st.lists(JUNK, max_size=1))
def test_taps_takes_any_words(models, data, more):
    """It builds what it is given, so it must first see that it can."""
    held(["taps", *models, *(f"--data={each}" for each in data), *more])


CACHE = {
    "keep": [*parted("all  none  top-3  top-0  sample-2  top-11  top-  top--1  TOP-3  sample-1e3"), "top-" + "9" * 5000],
    "taps": parted("2  0.5  1.5  depth-0.5  depth-9  logits  ,  2,,2  0.5,2  nothing  .  1e-3  [2]"),
    "logits_as": ["full", "float16", "8-bit", "float8"],
    "taps-as": ["full", "bfloat16", "8-bit"],
    "temperature": NUMBER,
    "views": ["0", "1", *WHOLE],
    "batch-size": ["1", "7", "64"],
    "seed": [*WHOLE, "-5"],
    "max_gib": ["1e-9", *NUMBER],
    "device": ["cpu", "auto", "tpu"],
    "precision": ["fp32", "bf16", "fp8"],
}


@st.composite
def cache(draw) -> list[str]:
    """The words after `cache`."""
    words = draw(asked("teacher", "net.py:net", MODELS)) + draw(asked("data", "digits", DATA)) + draw(asked("out", "never", PATHS))
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from([*CACHE]))
        value = draw(st.sampled_from(CACHE[name] if draw(st.integers(0, 3)) else NUMBERS) | JUNK)
        words += [f"--{name}={value}"] if draw(st.booleans()) else [f"--{name}", value]
    return words + draw(st.sampled_from([[], [], []]) | st.lists(st.sampled_from(["--no-evaluation", *FLAGS]) | JUNK, max_size=1))


@fuzz(80)
@given(cache())
def test_cache_takes_any_words(words):
    """The teacher is asked about a few batches before anything is written, whatever was typed."""
    held(["cache", *words, "--dry-run"])
    assert not Path("never").exists()


@fuzz(40)
@given(st.lists(st.sampled_from([*PATHS, "--json", "--data=digits", "--teacher=mlp", "--data.seed=1"]) | JUNK, max_size=3))
def test_cache_show_takes_any_words(words):
    """A folder need not hold a cache."""
    held(["cache", "show", *words])


WRITERS = parted(
    "server:  server:x  server:http://127.0.0.1:9/v1:model=m,retries=0  server:http://[:model=m  hf:never  cache:never  gpt  never"
)
GENERATE = {
    "tokens": WHOLE,
    "temperature": NUMBER,
    "top-k": WHOLE,
    "top_p": NUMBER,
    "outputs": ["1", "0", "-1", "x"],
    "prompt": WHOLE,
    "batch-size": WHOLE,
    "seed": [*WHOLE, "-5"],
    "device": ["cpu", "auto", "tpu"],
    "data.template": ["own", "turns", "never"],
    "data.columns": ["text", "[a,b]", "x"],
}


@fuzz(60)
@given(st.data())
def test_generate_takes_any_words(data):
    """Nothing is asked of anybody before all of it is understood."""
    draw = data.draw
    words = [
        draw(st.sampled_from(WRITERS) | JUNK),
        *draw(asked("data", "lessons:never.jsonl", DATA)),
        *draw(asked("out", "never.jsonl", PATHS)),
    ]
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from([*GENERATE]))
        words += [f"--{name}", draw(st.sampled_from(GENERATE[name]) | JUNK)]
    held(["generate", *words])
    assert not Path("never.jsonl").exists()


SAMPLE = {
    "count": WHOLE,
    "steps": WHOLE,
    "guidance": NUMBER,
    "labels": ["none", "0,1", "x", ""],
    "seed": [*WHOLE, "-5"],
    "batch-size": WHOLE,
    "device": ["cpu", "auto", "tpu"],
    "data": DATA,
}


@fuzz(60)
@given(st.data())
def test_sample_takes_any_words(data):
    """Whatever is no generator draws nothing."""
    draw = data.draw
    words = [draw(st.sampled_from([*MODELS, "run", "run/model", "unet:size=8"]) | JUNK), *draw(asked("out", "never", PATHS))]
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from([*SAMPLE]))
        words += [f"--{name}", draw(st.sampled_from(SAMPLE[name]) | JUNK)]
    held(["sample", *words])
    assert not Path("never").exists()


SPLITS = ["test", "train", "tset", "all", *STEERING]


@fuzz(60)
@given(
    st.lists(st.sampled_from([*MODELS, "run", "run/model"]) | JUNK, max_size=2),
    st.lists(st.sampled_from([*DATA, "digits", "csv:numbers.csv"]), max_size=1),
    st.lists(
        st.sampled_from([*(f"--split={s}" for s in SPLITS), "--teacher=mlp", "--device=tpu", "--seed=x", "--json"]) | JUNK, max_size=2
    ),
    st.sampled_from([[], [], []]) | st.sampled_from(PATHS).map(lambda path: [f"--out=out/{path}"]),
)
def test_evaluate_takes_any_words(models, data, more, out):
    """Models of all kinds on data of all kinds."""
    with tempfile.TemporaryDirectory() as folder:
        out = [word.replace("--out=", f"--out={folder}/") for word in out]
        held(["evaluate", *models, *(f"--data={each}" for each in data), *(w for w in more if not w.startswith("--out")), *out])


@fuzz(60)
@given(
    st.lists(st.sampled_from(DATA) | JUNK, max_size=1),
    st.lists(st.tuples(st.sampled_from(DATA_OPTIONS), st.sampled_from([*NUMBERS, *YAMLS, "label", "a", "a,b", ""])), max_size=2),
    st.lists(JUNK | st.sampled_from(["--json", "--options=csv", "--options=cvs"]), max_size=1),
)
def test_data_takes_any_words(data, options, more):
    """A user's own file is looked at before anything else, and nobody knows what is in it."""
    held(["data", *data, *(f"--data.{name}={value}" for name, value in options), *more])


@fuzz(40)
@given(st.lists(st.sampled_from([*PATHS, "--json"]) | JUNK, max_size=2))
def test_report_takes_any_words(words):
    """A folder need not hold a run that is finished."""
    held(["report", *words])


@fuzz(60)
@given(st.lists(st.sampled_from(RECIPES) | JUNK, max_size=2))
def test_recipes_takes_any_words(words):
    """Also the names of things that are no recipes."""
    held(["recipes", *words])


@fuzz(60)
@given(st.lists(st.sampled_from([*PATHS, "--json", "--all", "--sort=size", "--sort", "--sort="]) | JUNK, max_size=3))
def test_runs_takes_any_words(words):
    """Any folder may hold anything."""
    held(["runs", *(word for word in words if ".." not in word)])  # what lies around the folder of this test is no affair of it


@fuzz(60)
@given(st.sampled_from([*COMMANDS, "destill", ""]) | JUNK, st.lists(JUNK | st.sampled_from(["--help", "--version", "-h"]), max_size=2))
def test_any_verb_takes_any_words(verb, words):
    """The first word may be wrong, too."""
    held([verb, *(word for word in words if ".." not in word)])


@fuzz(12)
@given(distill(tiny=True))
def test_a_tiny_run_ends_well_or_is_refused(words):
    """What can be seen beforehand must not fail later, and never without a sentence."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        held(["distill", *words, "--no-compile", "--workers=0", "--no-dry_run", "--quiet"])
