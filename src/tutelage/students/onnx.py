"""A model in an ONNX file, run by onnxruntime: it teaches and is measured like any other, but shows its logits alone and does not learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.errors import BadInput, MissingFile
from tutelage.exports.onnx import answer_of, asked, read_metadata, session
from tutelage.signals import Model
from tutelage.signals.columns import rescaled
from tutelage.signals.preprocessing import rebuilt
from tutelage.students.hf import tokenizer_of
from tutelage.students.labels import check_order


class OnnxNet(nn.Module):
    """An ONNX file as a module: tensors in, logits out, on the CPU and without gradients.

    Args:
        file: the ONNX file.

    Attributes:
        size: the `parameters` of the file and the `bytes` that it takes, since torch sees none of them.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self.running = session(file)
        self.names = [i.name for i in self.running.get_inputs()]
        self.size = {"parameters": _parameters(file), "bytes": file.stat().st_size + sum(f.stat().st_size for f in _beside(file))}

    def forward(self, *arguments: Tensor, **named: Tensor) -> Tensor:
        """Logits (B, V), where the arguments were."""
        given = named or arguments
        device = next((a.device for a in (*arguments, *named.values())), torch.device("cpu"))
        return asked(self.running, given).to(device)

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxNet:
        return OnnxNet(self.file)


def _beside(file: Path) -> list[Path]:
    return [f for f in (file.with_name(file.name + ".data"),) if f.is_file()]


def _parameters(file: Path) -> int | None:
    """Numbers in the file's weights; None where onnx, which can look into it, is missing."""
    try:
        import onnx
    except ImportError:
        return None
    import math

    graph = onnx.load(file, load_external_data=False).graph
    return sum(math.prod(w.dims) for w in graph.initializer if w.data_type in (1, 2, 3, 10, 11, 16) and w.dims)


def onnx(where: str, *, classes: Sequence[str] = (), count: int | None = None, prepared: Mapping[str, Any] | None = None) -> Model:
    """Make a handle on a model in an ONNX file.

    Args:
        where: the file.
        classes: names of the data's classes, in order.
        count: number of the data's classes.
        prepared: how the data's rows were prepared, see `Data`.

    Returns:
        A handle that counts as trained. What the file's metadata say of preprocessing is done; else it takes the batch's columns.

    Raises:
        MissingFile: no such file.
        BadInput: onnxruntime is missing, or cannot read it; it has no output of logits; its labels stand in another order.
    """
    file = Path(where)
    if not file.is_file():
        raise MissingFile(f"{where} does not exist; expected an ONNX file")
    running = session(file)
    said = read_metadata(running, file)
    inputs = rebuilt(said.get("preprocessing"), lambda: tokenizer_of(str(file.parent)), where)
    inputs = inputs or rescaled(said.get("prepared"), prepared or {}, where)
    gives = _classes(running)
    if count is not None and gives not in (None, count):
        raise BadInput(f"{where} gives {gives} logits, but the data have {count} classes")
    check_order(said.get("labels"), classes, where)
    labels = said.get("labels") or [str(i) for i in range(gives or 0)]
    return Model(lambda: OnnxNet(file), name=file.name, spec=where, trained=True, inputs=inputs, classes=labels)


def _classes(running: Any) -> int | None:
    shape = answer_of(running).shape
    return shape[-1] if shape and isinstance(shape[-1], int) else None
