"""From what a user names to handles on models: `cnn:width=32`, `hf:FOLDER`, `timm:NAME`, `path/to/file.py:function`, a run folder.

Code of a `.py` file runs by intent: it is allowed where the user wrote it, and asked for with `trust_code` where a run folder or a YAML
file names it.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from tutelage import students
from tutelage.data import Data, kind_of
from tutelage.diffusion.pipeline import diffusers
from tutelage.errors import BadInput, MissingFile, TutelageError, nearest
from tutelage.jobs import specs
from tutelage.language import holds_dialogues
from tutelage.signals import RESERVED, Model
from tutelage.signals.columns import are_columns, rescaled
from tutelage.signals.preprocessing import CODE, rebuilt
from tutelage.students import hf, timm
from tutelage.students.causal import causal
from tutelage.students.labels import check_order
from tutelage.students.onnx import onnx
from tutelage.students.packed import read_packed
from tutelage.students.quantised import quantised
from tutelage.students.quantisers import BITS, Levels
from tutelage.usercode import function_in

FILE = Path("model") / "model.json"
LOCATED = ("hf", "timm", "diffusers")
LARGEST = 1 << 24
"""No size of a built-in net is above this; with it, no product of two sizes overflows."""
LIMITS = {"depth": 1000}
"""Sizes with a limit of their own: layers are built one by one."""
EXPECTED = "a run folder, file.py:function, hf:FOLDER_OR_ID, timm:NAME, diffusers:FOLDER_OR_ID, FILE.onnx, or one of " + ", ".join(
    students.__all__
)


def model_from(given: Any, role: str, *, data: Data, seed: int, trust_code: bool = False) -> Model:
    """Make a handle on a model.

    Args:
        given: a `Model`, an `nn.Module`, a function that makes one, or a spec.
        role: how messages call it ("teacher").
        data: fills in `classes`, `channels`, `size` and `inputs` where the model takes them and the spec leaves them out.
        seed: of the weights.
        trust_code: whether a `.py` file that a run folder names may run.

    Raises:
        BadInput: nothing of the kind, or for another kind of data; names the nearest.
        MissingFile: a path that does not exist.
    """
    if isinstance(given, Model):
        return given
    if isinstance(given, nn.Module) or (callable(given) and not isinstance(given, str)):
        return Model(given, seed=seed)
    if not isinstance(given, (str, Path)):
        raise BadInput(f"the {role} must be a model, a function that makes one, or a name or path, not {type(given).__name__}")
    spec = str(given)
    if spec.startswith("server:"):
        raise BadInput(
            f"the {role} {spec!r} is behind a server, which shows text only; let it answer (tutelage generate {spec} --data ... --out "
            "answers.jsonl), and teach by its answers (--recipe alone --data lessons:answers.jsonl)"
        )
    levels, _, plain = spec.partition(":")
    if levels in BITS and plain:
        return quantised(model_from(plain, role, data=data, seed=seed, trust_code=trust_code), cast("Levels", levels))
    if spec and os.path.isdir(spec):  # a spec may be no path at all, which is no error here
        return _from_folder(Path(spec), role, data, seed, trust_code)
    name, text = specs.divided(spec, LOCATED)
    if name.endswith(".onnx") and not text:
        return onnx(name, classes=data.classes, count=data.class_count(), prepared=data.prepared)
    return _made(name, specs.options_in(text, spec), role, data, seed)


def _made(
    name: str,
    options: dict[str, str],
    role: str,
    data: Data,
    seed: int,
    weights: Path | None = None,
    inputs: Callable[..., Any] | None = None,
) -> Model:
    kind = kind_of(data.train)
    located, _, where = name.partition(":")
    if located in LOCATED and where:
        if "weights" in options:
            raise BadInput(f"{name} reads its weights from its own place; it takes no option weights")
        language = located == "hf" and (kind == "tokens" or holds_dialogues(data))
        maker = causal if language else hf.hf if located == "hf" else timm.timm
        _none_of({"kind", "classes", "count", "seed"}, options, name)
        if located == "diffusers":
            return _denoiser(where, options, name, seed, weights)
        chosen = specs.typed(options, maker, name)
        own: dict[str, Any] = {} if weights is None else {"weights": weights}
        own |= {} if language else {"kind": kind, "classes": data.classes, "count": data.class_count()}
        model = maker(where, seed=seed, **own, **chosen)
        model.spec = specs.write(name, chosen)
        return model
    function = _function(name, role)
    takes = getattr(function, "takes", None)
    if takes and kind is not None and kind not in takes:
        raise BadInput(f"the {role} {name} takes {' or '.join(takes)}, but {data.name} holds {kind}; give a model of {kind}, or other data")
    if weights is None and "weights" in options and "weights" not in inspect.signature(function).parameters:
        weights = _weights(options.pop("weights"), name)
    chosen = {**fitting(function, sizes(data)), **specs.typed(options, function, name)}

    built_in = ".py:" not in name
    for key, value in chosen.items() if built_in else ():
        if isinstance(value, int) and value > (limit := LIMITS.get(key, LARGEST)):
            raise BadInput(f"{name}:{key}={value} is too large; expected at most {limit:,}")

    def make() -> nn.Module:
        try:
            return function(**chosen)
        except TutelageError:
            raise
        except Exception as error:
            if not built_in and torch.get_default_device().type == "meta":
                raise  # it may be this device that the function does not bear; `Model.skeleton` knows what to do
            raise BadInput(f"{specs.write(name, chosen)} cannot be built: {type(error).__name__}: {error}") from error

    inputs_for = getattr(function, "inputs_for", None)
    inputs = inputs or (inputs_for(chosen) if inputs_for else getattr(function, "inputs", None))
    logits = getattr(function, "logits", None)
    spec = specs.write(name, chosen)
    return Model(make, name=name.rpartition(":")[2], seed=seed, weights=weights, spec=spec, inputs=inputs, logits=logits)


def _denoiser(where: str, options: Mapping[str, str], name: str, seed: int, weights: Path | None) -> Model:
    """The denoiser of a pipeline; what images it takes is checked where it is asked for them."""
    chosen = specs.typed(options, diffusers, name)
    model = diffusers(where, seed=seed, weights=weights, **chosen)
    model.spec = specs.write(name, chosen)
    return model


def function_of(spec: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function that makes a net, and what it is called with, of a spec as a handle has it.

    Raises:
        BadInput: a spec of another kind.
    """
    if spec.partition(":")[0] in BITS:
        raise BadInput(f"{spec} is a net of few bits, which no one function of a file makes; use its run folder")
    name, text = specs.divided(spec, LOCATED)
    if name.partition(":")[0] in LOCATED and ".py:" not in name:
        raise BadInput(f"{name} is made by another package, not by a function of a file; export it with --to onnx")
    function = _function(name, "model")
    return function, specs.typed(specs.options_in(text, spec), function, name)


def _none_of(ours: set[str], options: Mapping[str, str], name: str) -> None:
    """Refuse options that the data and the run decide."""
    for key in ours & set(options):
        raise BadInput(f"{name} takes no option {key!r}: it comes from the data or the run")


def _function(name: str, role: str) -> Callable[..., Any]:
    if ".py:" in name:
        return function_in(name)
    if name.replace("-", "_") in students.__all__:
        return getattr(students, name.replace("-", "_"))
    if "/" in name or name.startswith("."):
        raise MissingFile(f"{role} {name!r} does not exist; expected {EXPECTED}")
    raise BadInput(f"{role} {name!r} is not known{nearest(name, students.__all__)}; expected {EXPECTED} (with options: cnn:width=16)")


def _weights(given: str, name: str) -> Path:
    """A file of weights: itself, or that of a run folder or a Hugging Face folder."""
    path = Path(given.strip("\"'"))
    for inside in ("model/model.safetensors", "model.safetensors", "pytorch_model.bin"):
        if (path / inside).is_file():
            return path / inside
    if not path.is_file():
        raise MissingFile(f"weights {str(path)!r} of {name} do not exist; expected a safetensors or .pt file, or a run folder")
    if path.suffix not in (".safetensors", ".pt", ".pth", ".bin"):
        raise BadInput(
            f"weights {str(path)!r} of {name} end in {path.suffix!r}; expected .safetensors, or .pt, .pth or .bin with tensors only"
        )
    return path


def _from_folder(folder: Path, role: str, data: Data, seed: int, trust_code: bool) -> Model:
    file = next((f for f in (folder / FILE, folder / FILE.name) if f.is_file()), None)
    if file is None:
        if (folder / "cache.json").is_file():
            raise BadInput(f"{role} {str(folder)!r} is a cache of signals; write cache:{folder} where a teacher is asked for")
        if (folder / "config.json").is_file():
            raise BadInput(f"{role} {str(folder)!r} is a Hugging Face folder; write hf:{folder}")
        unfinished = " (its run is not finished; go on with --resume)" if (folder / "config.yaml").is_file() else ""
        raise MissingFile(f"{role} {str(folder)!r} holds no model: {folder / FILE} is missing{unfinished}")
    said = read_model(file)
    spec = said["spec"]
    check_order(said.get("classes"), data.classes, f"the {role} {str(folder)!r}")
    if said.get("exported") == "onnx":
        return onnx(str(file.with_name("model.onnx")), classes=data.classes, count=data.class_count(), prepared=data.prepared)
    if spec is None:
        raise BadInput(
            f"the model of {folder} was given as a Python object, so it cannot be rebuilt by name; "
            f"build it in Python and load {file.with_name('model.safetensors')}"
        )
    levels, _, plain = spec.partition(":")
    if levels in BITS:
        spec = plain
    if said.get("exported") == "packed" and levels in BITS:
        return _packed(file, cast("Levels", levels), spec, role, data)
    model = _refilled(folder, file, said, spec, role, data, trust_code, seed)
    return quantised(model, cast("Levels", levels)) if levels in BITS else model


def _packed(file: Path, levels: Levels, spec: str, role: str, data: Data) -> Model:
    """A student of few bits from an export that holds them packed."""
    name, text = specs.divided(spec, LOCATED)
    options = specs.options_in(text, spec)
    if ".py:" in name:
        raise BadInput(f"{file.parent} names code to run, {name!r}; packed exports are read for built-in and Hugging Face models only")
    if name.startswith("hf:"):
        own = {k: v for k, v in options.items() if k in ("max_length", "size")}
        plain = _made(f"hf:{file.parent}", {**own, "pretrained": "false"}, role, data, 0)
    else:
        plain = _made(name, options, role, data, 0)
    read = plain.changed(lambda module: read_packed(module, levels, file.with_name("model.safetensors")), plain.spec)
    read.trained = True
    made = quantised(read, levels)
    made.trained = True
    return made


def _refilled(folder: Path, file: Path, said: Mapping[str, Any], spec: str, role: str, data: Data, trust_code: bool, seed: int) -> Model:
    """A net as its spec says, with the weights of a folder, or with ones drawn by the seed where it holds none."""
    name, text = specs.divided(spec, LOCATED)
    options = specs.options_in(text, spec)
    if ".py:" in name and not trust_code:
        raise BadInput(f"{folder} names code to run, {name!r}; look at it, then allow it with --trust-code")
    if said.get("untrained"):  # what a search found: an architecture, for weights of one's own
        return _made(name, options, role, data, seed)
    if name.startswith("hf:"):  # written whole into the folder, tokenizer and all
        own = {k: v for k, v in options.items() if k in ("max_length", "size", "encoder")}
        return _made(f"hf:{file.parent}", own, role, data, 0)
    inputs = rescaled(said.get("prepared"), data.prepared, str(folder)) or _as_exported(said, file)
    if said.get("exported") and ".py:" in name:
        name = f"{file.parent}/{name}"
    model = _made(name, options, role, data, 0, file.with_name("model.safetensors"), inputs)
    model.classes = tuple(map(str, said.get("classes") or ()))
    model.sampling = dict(said.get("sampling") or {})
    return model


def read_model(file: Path) -> dict[str, Any]:
    """What model.json says.

    Raises:
        BadInput: it is damaged.
    """
    try:
        said = json.loads(file.read_text())
        if not isinstance(said["spec"], (str, type(None))):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadInput(f"{file} is damaged: expected JSON with a 'spec'") from None
    classes, prepared = said.get("classes") or [], said.get("prepared") or {}
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise BadInput(f"{file} is damaged: 'classes' is no list of names")
    if not isinstance(said.get("sampling") or {}, dict):
        raise BadInput(f"{file} is damaged: 'sampling' does not say how images are drawn")
    if not isinstance(prepared, dict) or not (prepared.get("kind") != "table" or are_columns(prepared.get("columns"))):
        raise BadInput(f"{file} is damaged: 'prepared' does not say how its rows were made numbers")
    return said


def _as_exported(said: Mapping[str, Any], file: Path) -> Callable[..., Any] | None:
    """The preprocessing that an exported folder describes, or holds as code; None for other folders."""
    seen = said.get("preprocessing")
    if not said.get("exported") or seen is None or ".py:" not in said["spec"]:
        return None
    if seen.get("kind") == CODE:
        return function_in(f"{file.with_name('model.py')}:inputs")
    return rebuilt(seen, lambda: None, str(file))


def sizes(data: Data) -> dict[str, int]:
    """What models can be fitted to: the number of classes, the channels and the side of images, the numbers in a sample, the
    tokens in a row."""
    classes = data.class_count()
    found = {} if classes is None else {"classes": classes}
    shown = {k: v for k, v in data.train.batch(torch.tensor([0])).items() if k not in RESERVED and isinstance(v, Tensor)}
    inputs = list(shown.values())
    if kind_of(data.train) == "tokens":
        found["context"] = int(data.prepared.get("length", shown["input_ids"].shape[1]))
    elif len(inputs) == 1:
        found["inputs"] = inputs[0][0].numel()
        if inputs[0].ndim == 4:
            found["channels"] = inputs[0].shape[1]
            if inputs[0].shape[2] == inputs[0].shape[3]:
                found["size"] = inputs[0].shape[2]
    return found


def fitting(function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options that a function takes."""
    parameters = inspect.signature(function).parameters
    return {k: v for k, v in options.items() if k in parameters}
