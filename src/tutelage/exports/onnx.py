"""A model as an ONNX file: batch (and sequence) of any size, labels and preprocessing in its metadata, tried under onnxruntime.

Shapes: B batch, T tokens, V classes.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.errors import BadInput, in_short
from tutelage.extras import needed
from tutelage.signals import Model

PURPOSE = "an ONNX file"
TOLERANCE = 1e-4
"""How far, absolutely and relatively, a logit under onnxruntime may be from torch's."""


class _Bare(nn.Module):
    """A model whose arguments stand in order and whose output is the logits alone."""

    def __init__(self, model: Model, names: Sequence[str] | None) -> None:
        super().__init__()
        self.net, self.names, self.logits = model.module, names, model.logits

    def forward(self, *arguments: Tensor) -> Tensor:
        """The logits."""
        output = self.net(*arguments) if self.names is None else self.net(**dict(zip(self.names, arguments, strict=True)))
        return self.logits(output)


def write(
    model: Model, batch: Mapping[str, Any], other: Mapping[str, Any], file: Path, metadata: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Write a model as an ONNX file.

    Args:
        model: in evaluation mode, on the CPU.
        batch: some samples, at least two.
        other: another number of samples, which shows what axes grow with it.
        file: where to.
        metadata: kept in the file by name.

    Returns:
        The file's inputs: `name`, `type` and `shape`, names for what may have any size.

    Raises:
        BadInput: torch cannot export the model, or a package is missing.
    """
    needed("onnxscript", "onnx", PURPOSE)
    arguments = model.inputs(batch)
    names = list(arguments) if isinstance(arguments, Mapping) else None
    values = tuple(arguments.values() if isinstance(arguments, Mapping) else arguments)
    if not all(isinstance(v, Tensor) for v in values):
        raise BadInput(f"{model.name} takes something other than tensors, which an ONNX file cannot")
    called = names or _names(model.module, len(values))
    larger = model.inputs(other)
    grown = larger.values() if isinstance(larger, Mapping) else larger
    sizes = len(batch["id"]), len(other["id"])
    shapes = tuple(_free(v, w, sizes, name) for v, w, name in zip(values, grown, called, strict=True))
    bare = _Bare(model, names).eval()
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                bare, values, dynamo=True, dynamic_shapes=(shapes,), input_names=called, output_names=["logits"], verbose=False
            )
            assert program is not None
            _strip(program.model)
            program.model.metadata_props.update(metadata)
            program.save(str(file), external_data=_bytes(model.module) > 2**30)
    except Exception as error:  # whatever a user's module or the exporter raises
        raise BadInput(f"{model.name} cannot be exported to ONNX: {type(error).__name__}: {in_short(_root(error), 300)}") from error
    return [
        {"name": name, "type": str(v.dtype).removeprefix("torch."), "shape": [free.get(i, size) for i, size in enumerate(v.shape)]}
        for name, v, free in zip(called, values, shapes, strict=True)
    ]


def _strip(model: Any) -> None:
    """Take out what the exporter notes of its own work: lines of source and where they lie, which is most of a small file."""
    for graph in (model.graph, *(function.graph for function in model.functions.values())):
        for node in graph.all_nodes():
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
        graph.metadata_props.clear()
        for value in (*graph.inputs, *graph.initializers.values()):
            value.metadata_props.clear()


def _root(error: BaseException) -> Exception:
    """The first cause: the exporter wraps errors in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error if isinstance(error, Exception) else Exception(str(error))


def _bytes(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())


def _free(value: Tensor, other: Tensor, samples: tuple[int, int], name: str) -> dict[int, str]:
    """The axes that may have any size, by name: samples, tokens of a text, or words of all texts one after another."""
    if value.ndim == 0:
        return {}
    if (value.shape[0], other.shape[0]) != samples:
        return {0: f"{name}_length"}
    return {0: "batch", 1: "sequence"} if value.ndim == 2 and not value.is_floating_point() else {0: "batch"}


def _names(module: nn.Module, count: int) -> list[str]:
    found = [n for n, p in inspect.signature(module.forward).parameters.items() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    found = [re.sub(r"_[A-Z]+$", "", n) for n in found]  # x, not x_BCHW
    return found[:count] if len(found) >= count and len(set(found)) == len(found) else [f"input_{i}" for i in range(count)]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks off the screen: on packages that are missing, and on its own insides."""
    loggers = [logging.getLogger(n) for n in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "onnxscript.optimizer", "root")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


def session(file: Path, threads: int | None = None) -> Any:
    """An onnxruntime session on the CPU.

    Args:
        file: the ONNX file.
        threads: within one operation; by default as many as torch uses.

    Raises:
        BadInput: onnxruntime is missing, or cannot read the file.
    """
    runtime = needed("onnxruntime", "onnx", PURPOSE)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 4
    # threads that wait busily would take the processor from whatever runs between two passes, and be timed with it
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds of error have no common base of their own
        raise BadInput(f"{file} is no ONNX file that onnxruntime can run: {in_short(error)}") from None


def asked(running: Any, arguments: tuple[Any, ...] | Mapping[str, Any]) -> Tensor:
    """The logits that a session gives for a model's arguments."""
    names = [i.name for i in running.get_inputs()]
    if isinstance(arguments, Mapping) and (missing := [n for n in names if n not in arguments]):
        raise BadInput(f"the ONNX file takes {', '.join(names)}, but the batch has no {missing[0]!r}")
    values = [arguments[n] for n in names] if isinstance(arguments, Mapping) else list(arguments)
    given = {n: v.detach().cpu().numpy() for n, v in zip(names, values, strict=True)}
    return torch.from_numpy(running.run([answer_of(running).name], given)[0])


def answer_of(running: Any) -> Any:
    """The output that holds the logits: the one of that name, or the only one.

    Raises:
        BadInput: there are several, none of them called logits.
    """
    outputs = running.get_outputs()
    found = next((o for o in outputs if o.name == "logits"), outputs[0] if len(outputs) == 1 else None)
    if found is None:
        raise BadInput(f"the ONNX file has no output called logits; its outputs are {', '.join(o.name for o in outputs)}")
    return found


def difference(file: Path, model: Model, batches: Sequence[Mapping[str, Any]]) -> float:
    """The largest difference of a logit between onnxruntime and torch.

    Args:
        file: the ONNX file.
        model: what it was made of.
        batches: real samples, of several sizes.

    Raises:
        BadInput: they do not agree to 1e-4.
    """
    running, largest = session(file), 0.0
    with model.mode(training=False), torch.no_grad():
        for batch in batches:
            arguments = model.inputs(batch)
            output = model.module(**arguments) if isinstance(arguments, Mapping) else model.module(*arguments)
            expected, found = model.logits(output), asked(running, arguments)
            if found.shape != expected.shape or not torch.allclose(found, expected.float(), rtol=TOLERANCE, atol=TOLERANCE):
                gap = "of other shape" if found.shape != expected.shape else f"{float((found - expected).abs().max()):.2g} apart"
                raise BadInput(f"{file.name} and {model.name} do not agree on {len(batch['id'])} samples: logits are {gap}")
            largest = max(largest, float((found - expected).abs().max()))
    return largest


def quantized(file: Path, out: Path) -> None:
    """Write an ONNX file with weights of matrix products (and embeddings) in 8 bits; what flows between them is quantised as it comes.

    Args:
        file: the ONNX file in float32.
        out: where to.

    Raises:
        BadInput: onnx or onnxruntime is missing, or nothing in the file can be quantised.
    """
    needed("onnx", "onnx", "an ONNX file in 8 bits")
    import onnx

    quantization = needed("onnxruntime.quantization", "onnx", "an ONNX file in 8 bits")
    model = onnx.load(file)
    del model.graph.value_info[:]  # shapes of what lies between, which the quantiser infers itself and may name otherwise
    convolves = any(node.op_type == "Conv" for node in model.graph.node)
    # onnxruntime's integer convolution takes unsigned weights only
    kind = quantization.QuantType.QUInt8 if convolves else quantization.QuantType.QInt8
    metadata = {p.key: p.value for p in model.metadata_props}
    try:
        with _quiet():
            quantization.quantize_dynamic(model, out, weight_type=kind, per_channel=not convolves)
    except Exception as error:
        raise BadInput(f"{file.name} cannot be quantised to 8 bits: {type(error).__name__}: {in_short(error)}") from None
    made = onnx.load(out)
    if not any(node.op_type in ("MatMulInteger", "ConvInteger", "DynamicQuantizeLinear", "DequantizeLinear") for node in made.graph.node):
        out.unlink()
        raise BadInput(f"{file.name} holds nothing that can be quantised to 8 bits")
    if {p.key for p in made.metadata_props} != set(metadata):
        onnx.helper.set_model_props(made, metadata)
    onnx.save(made, out)
    session(out)


def metadata(labels: Sequence[str], described: Mapping[str, Any]) -> dict[str, str]:
    """What a file says of itself, as the format has it: text by name.

    Args:
        labels: the classes in the order of the logits.
        described: further plain values by name.
    """
    return {"labels": json.dumps(list(labels), ensure_ascii=False), **{k: json.dumps(v, ensure_ascii=False) for k, v in described.items()}}


def read_metadata(running: Any, file: Path) -> dict[str, Any]:
    """What a file says of itself; values that are no JSON stay text."""
    found: dict[str, Any] = {}
    for key, value in running.get_modelmeta().custom_metadata_map.items():
        try:
            found[key] = json.loads(value)
        except (ValueError, RecursionError):
            found[key] = value
    return found
