"""model.py: a net as one file of code beside its weights, for a place where tutelage is not installed; and the trial that it works there.

The file holds the net's own definitions, its labels and its preprocessing, and three functions: `load` gives the net with its weights,
`inputs` makes what it is called with, `predict` names the class of each sample.
"""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.errors import BadInput, in_short
from tutelage.exports.code import Bundle
from tutelage.signals.columns import Columns
from tutelage.signals.images import ImageInputs
from tutelage.signals.preprocessing import OURS
from tutelage.signals.text import HashedWords

FILE = "model.py"
RESERVED = ("LABELS", "load", "loaded", "inputs", "predict", "read_inputs")
"""Names that the file itself gives to something."""

BESIDES = {ImageInputs: ("read", "save", "described"), HashedWords: ("described",), Columns: ("described", "_match", "__call__")}
"""Methods of preprocessing that a user of the file does not need."""

HEAD = '''"""A trained net, alone: this file and the weights beside it are all there is. It needs {packages}.

    import model

    net = model.load()
    labels, probabilities = model.predict({sample})

Written by tutelage; the definitions are those that the net was trained with. README.md says what the net is worth.
"""

from __future__ import annotations

'''

LOAD = '''def load(device: str = "cpu") -> {kind}:
    """The net with its weights, in evaluation mode."""
{made}
    return loaded.eval().to(device)
'''

PREDICT = '''def predict({argument}, net: {kind} | None = None) -> tuple[list[str], torch.Tensor]:
    """The class of each sample, and the probabilities of all classes, (samples, classes); give `net` where it is asked more than once."""
    net = net or load()
    given = inputs({argument})
    with torch.no_grad():
        output = net(**given) if isinstance(given, dict) else net(*given)
    probabilities = {logits}.softmax(-1)
    return [LABELS[i] for i in probabilities.argmax(-1).tolist()], probabilities
'''


def net_code(
    function: Callable[..., Any],
    options: Mapping[str, Any],
    *,
    name: str,
    labels: Sequence[str],
    inputs: Callable[..., Any] | None,
    logits: Callable[..., Any] | None,
    table: Sequence[Mapping[str, Any]] | None,
    arguments: tuple[Any, ...] | Mapping[str, Any],
    output: Any,
) -> tuple[str, list[str]]:
    """Write the file for a net that a function makes.

    Args:
        function: makes the net; its definition and what that needs are taken along.
        options: what it is called with, plain values.
        name: how messages call the net.
        labels: the classes in the order of the logits.
        inputs: the net's own preprocessing: of ours, or a function of the same file as `function`.
        logits: `output -> Tensor`, a function of that file; None where the output says where they are.
        table: the columns that numbers are made of, where samples are rows.
        arguments: what the net is called with for some samples, and
        output: what it gives for them.

    Returns:
        The text, and the packages that it imports.

    Raises:
        BadInput: the code cannot be taken out of its file; says what else to do.
    """
    bundle = Bundle(name)
    source = _file_of(function, name)
    bundle.take(source, function.__name__)
    kind = "torch.nn.Module"
    argument, see = _seen(bundle, inputs, table, arguments, source, name)
    if logits is not None:
        bundle.take(_file_of(logits, name), logits.__name__)
        read = f"{logits.__name__}(output)"
    elif isinstance(output, Tensor):
        read = "output"
    else:
        from tutelage.signals import outputs

        bundle.take(Path(outputs.__file__), "logits_of")
        read = 'logits_of(output, "the net")'
    clash = next((word for word in RESERVED if bundle.has(word)), None)
    if clash:
        raise BadInput(f"{source} defines {clash!r}, which model.py defines, too; give it another name, or export with --to onnx")
    written = ", ".join(f"{k}={v!r}" for k, v in options.items())
    made = (
        f"    loaded = {function.__name__}({written})\n"
        '    safetensors.torch.load_model(loaded, pathlib.Path(__file__).with_name("model.safetensors"))'
    )
    bundle.imports |= {"torch": "import torch", "safetensors": "import safetensors.torch", "pathlib": "import pathlib"}
    return _written(bundle, labels, argument, see, made, kind, read), bundle.packages()


def hf_code(kind: str, labels: Sequence[str], inputs: Any) -> tuple[str, list[str]]:
    """Write the file for a Hugging Face folder that it lies in.

    Args:
        kind: of samples, "text" or "images".
        labels: the classes in the order of the logits.
        inputs: the model's own `Tokens` or `ImageInputs`.

    Returns:
        The text, and the packages that it imports.
    """
    bundle = Bundle("the model")
    auto = "AutoModelForSequenceClassification" if kind == "text" else "AutoModelForImageClassification"
    bundle.imports |= {"torch": "import torch", "pathlib": "import pathlib", "transformers": "import transformers"}
    if kind == "text":
        argument = "texts"
        see = (
            f'def inputs({argument}: list[str]) -> dict[str, torch.Tensor]:\n    """What the net is called with for these texts."""\n'
            "    tokenizer = transformers.AutoTokenizer.from_pretrained(pathlib.Path(__file__).parent)\n"
            f'    return dict(tokenizer({argument}, truncation=True, max_length={inputs.max_length}, padding=True, return_tensors="pt"))\n'
        )
    else:
        argument, see = _seen(bundle, inputs, None, {}, Path(), "the model")
    made = f"    loaded = transformers.{auto}.from_pretrained(pathlib.Path(__file__).parent)"
    return _written(bundle, labels, argument, see, made, "torch.nn.Module", "output.logits"), bundle.packages()


def _written(bundle: Bundle, labels: Sequence[str], argument: str, see: str, made: str, kind: str, logits: str) -> str:
    sample = {"rows": '[{"column": value, ...}, ...]', "texts": '["a text", ...]', "batch": '{"x": samples}'}[argument]
    packages = " and ".join(", ".join(bundle.packages()).rsplit(", ", 1))
    named = f'LABELS = {list(labels)!r}\n"""The classes, in the order of the logits."""\n'
    parts = [
        bundle.text(),
        named,
        see,
        LOAD.format(kind=kind, made=made),
        PREDICT.format(kind=kind, argument=argument, logits=logits),
    ]
    return HEAD.format(packages=packages, sample=sample) + "\n\n".join(parts)


def _seen(
    bundle: Bundle,
    inputs: Callable[..., Any] | None,
    table: Sequence[Mapping[str, Any]] | None,
    arguments: tuple[Any, ...] | Mapping[str, Any],
    source: Path,
    name: str,
) -> tuple[str, str]:
    """The name of what `inputs` takes, and its code."""
    if table is not None and (inputs is None or isinstance(inputs, Columns)):
        _take(bundle, Columns)
        return "rows", (
            f"read_inputs = Columns({list(table)!r})\n\n\n"
            "def inputs(rows: list[dict[str, Any]]) -> tuple[torch.Tensor]:\n"
            '    """What the net is called with for rows, each a mapping from column to value."""\n'
            "    return (read_inputs.of(rows),)\n"
        )
    if inputs is None:
        columns = list(arguments) if isinstance(arguments, Mapping) else ["x"]
        given = "{" + ", ".join(f"{c!r}: batch[{c!r}]" for c in columns) + "}" if isinstance(arguments, Mapping) else "(batch['x'],)"
        return "batch", (
            "def inputs(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...] | dict[str, torch.Tensor]:\n"
            f'    """What the net is called with: the batch\'s {", ".join(columns)}, as in training."""\n    return {given}\n'
        )
    if isinstance(inputs, ImageInputs):
        _take(bundle, ImageInputs)
        about = "images `x` (B, C, H, W), values in [0, 1]"
        made = f"ImageInputs({', '.join(f'{k}={v!r}' for k, v in inputs.described.items() if k != 'kind')})"
    elif isinstance(inputs, HashedWords):
        _take(bundle, HashedWords)
        about, made = "strings `text`", f"HashedWords({inputs.buckets}, {inputs.ngrams})"
    elif inspect.isfunction(inputs) and _file_of(inputs, name) == source:
        bundle.take(source, inputs.__name__)
        about, made = "columns", inputs.__name__
    else:
        raise BadInput(
            f"the inputs of {name} are made by {type(inputs).__qualname__}, which cannot be written as one file; make it a function in "
            f"{source.name}, or export with --to onnx"
        )
    if isinstance(inputs, OURS):
        made = f"read_inputs = {made}\n\n\n"
        call = "read_inputs"
    else:
        call, made = made, ""
    argument, given = ("texts", '{"text": texts}') if isinstance(inputs, HashedWords) else ("batch", "batch")
    typed = "list[str]" if argument == "texts" else "dict[str, Any]"
    bundle.imports |= {"Any": "from typing import Any"}
    return argument, (
        f"{made}def inputs({argument}: {typed}) -> Any:\n"
        f'    """What the net is called with; the batch holds {about}."""\n    return {call}({given})\n'
    )


def _take(bundle: Bundle, ours: type) -> None:
    bundle.take(Path(inspect.getfile(ours)), ours.__name__, BESIDES[ours])
    bundle.imports |= {"Any": "from typing import Any"}


def _file_of(function: Callable[..., Any], name: str) -> Path:
    """The file that defines a function at its top.

    Raises:
        BadInput: it is no plain function of a file.
    """
    code = getattr(inspect.unwrap(function), "__code__", None)
    if inspect.isclass(function):
        return Path(inspect.getfile(function))
    if code is None or "<" in getattr(function, "__qualname__", "<"):
        raise BadInput(f"{name} is made by something that is no function or class of a file; export it with --to onnx")
    return Path(code.co_filename)


TRIAL = """
import importlib.util, json, sys
sys.modules["tutelage"] = None  # importing it raises
folder, beside = sys.argv[1:]
spec = importlib.util.spec_from_file_location("model", folder + "/model.py")
model = importlib.util.module_from_spec(spec)
sys.modules["model"] = model
spec.loader.exec_module(model)
import torch
from safetensors.torch import load_file, save_file
torch.set_num_threads(1)
tensors, texts = load_file(beside + "/given.safetensors"), json.load(open(beside + "/texts.json"))
net = model.load()
if texts:
    probabilities = model.predict(texts, net)[1]
elif "batch.x" in tensors:
    probabilities = model.predict({"x": tensors["batch.x"]}, net)[1]
else:
    given = {name.removeprefix("argument."): tensor for name, tensor in tensors.items()}
    with torch.no_grad():
        output = net(**given) if not all(name.isdigit() for name in given) else net(*(given[str(i)] for i in range(len(given))))
    output = getattr(output, "logits", output)
    probabilities = (output[0] if isinstance(output, tuple) else output).softmax(-1)
save_file({"probabilities": probabilities.contiguous()}, beside + "/found.safetensors")
"""


def tried(folder: Path, batch: Mapping[str, Any], arguments: tuple[Any, ...] | Mapping[str, Any], logits: Tensor, name: str) -> float:
    """Load the file in a fresh process that knows no tutelage, and compare what it says of real samples.

    Args:
        folder: holds model.py and the weights.
        batch: some samples.
        arguments: what the model is called with for them.
        logits: what the model says of them, (B, V).
        name: how messages call it.

    Returns:
        The largest difference of a probability.

    Raises:
        BadInput: the file does not run there, or says something else.
    """
    from safetensors.torch import load_file, save_file

    named = dict(arguments) if isinstance(arguments, Mapping) else {str(i): a for i, a in enumerate(arguments)}
    tensors = {f"argument.{k}": v.contiguous() for k, v in named.items() if isinstance(v, Tensor)}
    texts = list(batch["text"]) if isinstance(batch.get("text"), (list, tuple)) and "text_pair" not in batch else []
    code = (folder / FILE).read_text(encoding="utf8")
    if "def inputs(batch" in code and isinstance(batch.get("x"), Tensor):
        tensors = {"batch.x": batch["x"].contiguous()}
    with tempfile.TemporaryDirectory() as beside:
        save_file({k: v.clone() for k, v in tensors.items()}, Path(beside) / "given.safetensors")
        (Path(beside) / "texts.json").write_text(json.dumps(texts))
        words = [sys.executable, "-c", TRIAL, str(folder.resolve()), beside]
        ended = subprocess.run(words, capture_output=True, text=True, cwd=beside, check=False)
        if ended.returncode:
            said = in_short(Exception(ended.stderr.strip().splitlines()[-1] if ended.stderr.strip() else "no message"))
            raise BadInput(f"the code of {name} does not run by itself ({said}); export it with --to onnx")
        found = load_file(Path(beside) / "found.safetensors")["probabilities"]
    expected = logits.double().softmax(-1)
    if found.shape != expected.shape or not torch.allclose(found.double(), expected, rtol=1e-4, atol=1e-5):
        raise BadInput(f"the code of {name}, run by itself, does not say what the model says; export it with --to onnx")
    return float((found.double() - expected).abs().max())
