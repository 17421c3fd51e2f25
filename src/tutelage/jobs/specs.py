"""From what a user writes to handles: `cnn:width=32`, `path/to/file.py:function`, a run folder; data likewise.

Code of a `.py` file runs by intent: it is allowed where the user wrote it, and asked for with `trust_code` where a run folder or a YAML
file names it.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.utils.data import Dataset

from tutelage import data as data_room
from tutelage import students
from tutelage.data import Data, Indexed, Source
from tutelage.errors import BadInput, MissingFile, nearest
from tutelage.signals import RESERVED, Model
from tutelage.usercode import function_in

MODEL_FILE = Path("model") / "model.json"


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """Part `name:key=value,key=value` into a name and options; `file.py:function:key=value` keeps its first colon.

    Raises:
        BadInput: an option that is not `key=value`.
    """
    head, tail = "", spec
    if ".py:" in spec:
        file, _, tail = spec.partition(".py:")
        head = file + ".py:"
    name, _, rest = tail.partition(":")
    options: dict[str, Any] = {}
    for each in filter(None, rest.split(",")):
        key, equals, value = each.partition("=")
        if not equals or not key.strip().isidentifier():
            raise BadInput(f"{spec!r}: {each!r} is no option; expected NAME:key=value,key=value")
        options[key.strip()] = yaml.safe_load(value)
    return head + name, options


def write(name: str, options: Mapping[str, Any]) -> str:
    """The spec that `parse` reads back."""
    return name + (":" + ",".join(f"{k}={json.dumps(v)}" for k, v in options.items()) if options else "")


def model_from(given: Any, role: str, *, data: Data, seed: int, trust_code: bool = False) -> Model:
    """Make a handle on a model.

    Args:
        given: a `Model`, an `nn.Module`, a function that makes one, or a spec.
        role: how messages call it ("teacher").
        data: fills in `classes`, `channels` and `inputs` where the model takes them and the spec leaves them out.
        seed: of the weights.
        trust_code: whether a `.py` file that a run folder names may run.

    Raises:
        BadInput: nothing of the kind; names the nearest.
        MissingFile: a path that does not exist.
    """
    if isinstance(given, Model):
        return given
    if isinstance(given, nn.Module) or (callable(given) and not isinstance(given, str)):
        return Model(given, seed=seed)
    if not isinstance(given, (str, Path)):
        raise BadInput(f"the {role} must be a model, a function that makes one, or a name or path, not {type(given).__name__}")
    spec = str(given)
    if Path(spec).is_dir():
        return _from_run(Path(spec), role, trust_code)
    name, options = parse(spec)
    function = _model_function(name, role)
    options = {**_fitting(function, sizes(data)), **options}
    return _handle(name, function, options, seed)


def _handle(name: str, function: Callable[..., Any], options: dict[str, Any], seed: int, weights: Path | None = None) -> Model:
    parameters = inspect.signature(function).parameters
    unknown = [k for k in options if k not in parameters]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        raise BadInput(f"{name} has no option {unknown[0]!r}{nearest(unknown[0], parameters)}; it takes {', '.join(parameters) or 'none'}")

    def make() -> nn.Module:
        try:
            return function(**options)
        except TypeError as error:
            raise BadInput(f"{write(name, options)} cannot be built: {error}") from error

    return Model(make, name=name.rpartition(":")[2], seed=seed, weights=weights, spec=write(name, options))


def _model_function(name: str, role: str) -> Callable[..., Any]:
    if ".py:" in name:
        return function_in(name)
    if name in students.__all__:
        return getattr(students, name)
    if "/" in name or name.startswith("."):
        raise MissingFile(
            f"{role} {name!r} does not exist; expected a run folder, file.py:function, or one of {', '.join(students.__all__)}"
        )
    raise BadInput(
        f"{role} {name!r} is not known{nearest(name, students.__all__)}; expected a run folder, file.py:function, or one of "
        f"{', '.join(students.__all__)} (with options: cnn:width=16)"
    )


def _from_run(folder: Path, role: str, trust_code: bool) -> Model:
    file = folder / MODEL_FILE
    if not file.is_file():
        unfinished = " (its run is not finished; go on with --resume)" if (folder / "config.yaml").is_file() else ""
        raise MissingFile(f"{role} {str(folder)!r} holds no model: {file} is missing{unfinished}")
    try:
        about = json.loads(file.read_text())
        spec = about["spec"]
    except (ValueError, KeyError, TypeError):
        raise BadInput(f"{file} is damaged: expected JSON with a 'spec'") from None
    if spec is None:
        raise BadInput(
            f"the model of {folder} was given as a Python object, so it cannot be rebuilt by name; "
            f"build it in Python and load {folder / 'model' / 'model.safetensors'}"
        )
    name, options = parse(spec)
    if ".py:" in name and not trust_code:
        raise BadInput(f"{folder} names code to run, {name!r}; look at it, then allow it with --trust-code")
    return _handle(name, _model_function(name, role), options, 0, folder / "model" / "model.safetensors")


def sizes(data: Data) -> dict[str, int]:
    """What models can be fitted to: the number of classes, the channels of images, the numbers in a sample."""
    classes = data.class_count()
    found = {} if classes is None else {"classes": classes}
    inputs = [v for k, v in data.train.batch(torch.tensor([0])).items() if k not in RESERVED and isinstance(v, Tensor)]
    if len(inputs) == 1:
        found["inputs"] = inputs[0][0].numel()
        if inputs[0].ndim == 4:
            found["channels"] = inputs[0].shape[1]
    return found


def _fitting(function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    return {k: v for k, v in options.items() if k in parameters}


def data_from(given: Any) -> Data:
    """Make the splits of a task.

    Args:
        given: a `Data`, a source, a torch data set, a mapping of splits, or a spec (`digits`, `digits:seed=1`, `file.py:function`).

    Raises:
        BadInput: nothing of the kind; names the nearest.
    """
    if isinstance(given, str):
        name, options = parse(given)
        if ".py:" in name:
            made = data_from(_call(function_in(name), name, options))
            return made if made.name != "data" else Data(made.train, made.validation, made.test, made.classes, given)
        if name != "digits":
            raise BadInput(f"data {name!r} is not known{nearest(name, ['digits'])}; expected digits or file.py:function")
        return _call(data_room.digits, name, options)
    if isinstance(given, Data):
        return given
    if isinstance(given, Source):
        return Data(given)
    if isinstance(given, Dataset):
        return Data(Indexed(given, "train"))
    if isinstance(given, Mapping):
        unknown = set(given) - {"train", "validation", "test"}
        if unknown or "train" not in given:
            raise BadInput(f"data has splits {sorted(given)}; expected train, and validation and test where there are any")
        splits = {k: v if isinstance(v, Source) else Indexed(v, k) for k, v in given.items()}
        return Data(splits["train"], splits.get("validation"), splits.get("test"))
    raise BadInput(f"data must be a name, a Data, a Source or a torch data set, not {type(given).__name__}")


def _call(function: Callable[..., Any], name: str, options: dict[str, Any]) -> Any:
    parameters = inspect.signature(function).parameters
    unknown = [k for k in options if k not in parameters]
    if unknown:
        raise BadInput(
            f"data {name!r} has no option {unknown[0]!r}{nearest(unknown[0], parameters)}; it takes {', '.join(parameters) or 'none'}"
        )
    try:
        return function(**options)
    except (TypeError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"data {write(name, options)} cannot be made: {error}") from error
