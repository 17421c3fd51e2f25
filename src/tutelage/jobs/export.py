"""export: the bare model in a folder that needs no tutelage, tried there before it is handed over, with a card that says what it is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from tutelage.data import Data, kind_of
from tutelage.errors import BadInput, nearest
from tutelage.evaluation import difference, measure, predict, size_of
from tutelage.exports import card, onnx, standalone
from tutelage.jobs import models, sources, specs
from tutelage.jobs.folder import read_config
from tutelage.jobs.foreign import refuse_links_out
from tutelage.jobs.lineup import check_trusted, data_of, run_at
from tutelage.jobs.measurement import last_split
from tutelage.jobs.tokenizers import with_tokenizer
from tutelage.signals import Model
from tutelage.signals.columns import Columns
from tutelage.signals.preprocessing import described
from tutelage.signals.reading import Reading
from tutelage.signals.tokens import Tokens
from tutelage.students import hf
from tutelage.students.onnx import OnnxNet
from tutelage.students.packed import write_packed
from tutelage.training.checkpoint import write_text_atomically

Format = Literal["safetensors", "hf", "onnx", "packed"]
TRIED = (1, 3, 64)
"""Real samples a batch that an exported model is compared on with the model itself."""


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Args:
        folder: where it lies.
        about: the content of its model.json: `exported`, `name`, `classes`, `prepared`, `preprocessing`, `files` (bytes by name),
            `difference` (the largest from the model itself, of a probability or, for ONNX, a logit; None where it was not tried), `int8`.
    """

    folder: Path
    about: Mapping[str, Any]


def export(
    model: Any,
    *,
    to: Format = "safetensors",
    which: str = "student",
    out: str | Path | None = None,
    int8: bool = False,
    data: Any = None,
    trust_code: bool = False,
) -> Exported:
    """Write a model so that it can be used without tutelage, and try it.

    Args:
        model: a run folder, or any model that `distill` takes; in Python also a Model or a module.
        to: safetensors (weights, and model.py that builds the net), hf (a Hugging Face folder), or onnx.
        which: of a run: student, teacher, baseline, or the name of another model that it kept, such as generation-1.
        out: the folder; default: RUN/exported/FORMAT, or exported/FORMAT. An earlier export there is replaced.
        int8: for onnx: write also model.int8.onnx, and measure what it loses.
        data: real samples to try it on, as for `distill`; default: those of the run.
        trust_code: let a run folder name a .py file whose code then runs.

    Returns:
        The folder, and what its model.json says.

    Raises:
        BadInput: the model cannot be written so, or does not say the same there.
        MissingFile: a path that does not exist.
    """
    if to not in get_args(Format):
        raise BadInput(f"--to {to!r}: expected one of {', '.join(get_args(Format))}{nearest(str(to), get_args(Format))}")
    if int8 and to != "onnx":
        raise BadInput(f"--int8 is for --to onnx; {to} keeps the weights as they are")
    run, name = _run_of(model, which)
    if run is None and which != "student":
        raise BadInput(f"--which {which} names a model of a run, but {str(model)!r} is none; leave it out")
    if run is not None:
        refuse_links_out(run)  # a link in somebody else's run would copy any file out, or write to any place
    given = model if run is None else _part(run, name, trust_code)
    report = _report(run)
    studied = sources.data_from(data_of(model, trust_code) if data is None else with_tokenizer(data, model))
    handle = models.model_from(given, "model", data=studied, seed=0, trust_code=trust_code)
    if not handle.trained and handle.spec is not None:
        raise BadInput(f"{model!r} has no trained weights to export; give a run folder or weights=FILE")
    if handle.sampling:
        raise BadInput(
            f"{str(model)!r} draws images, which no form of export holds yet; model/model.safetensors holds its bare weights, and "
            "`tutelage sample` draws from it"
        )
    if isinstance(handle.module, OnnxNet):
        raise BadInput(f"{str(model)!r} is an exported ONNX file already; export the run that it was made from")
    target = Path(out) if out is not None else _place(run, name, to)
    _check_target(target)
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        about = _Writer(handle, studied, beside, _recorded(given)).write(to, int8)
        known = "alone" if name == "baseline" else name
        write_text_atomically(beside / "model.json", json.dumps(about, indent=1))
        about["files"] = {f.name: f.stat().st_size for f in sorted(beside.iterdir())}
        write_text_atomically(beside / "README.md", card.card(about, report, known, _use(about, kind_of(studied.train))))
        about["files"]["README.md"] = (beside / "README.md").stat().st_size
        write_text_atomically(beside / "model.json", json.dumps(about, indent=1))
        for file in beside.iterdir():  # some writers allow nobody else to read; who serves a model may be somebody else
            if file.is_file():
                shutil.copymode(beside / "README.md", file)
        if target.is_dir():
            shutil.rmtree(target)
        beside.rename(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Exported(target, about)


class _Writer:
    """Writes one model into one folder."""

    def __init__(self, model: Model, data: Data, folder: Path, recorded: Mapping[str, Any]) -> None:
        self.model, self.data, self.folder = model, data, folder
        self.split, self.source = last_split(data)
        self.batches = [self.source.batch(torch.arange(n) % len(self.source)) for n in TRIED]
        self.prepared = dict(recorded.get("prepared") or data.prepared)
        self.classes = list(recorded.get("classes") or data.classes)
        if not self.classes and not isinstance(model.preprocessing, Reading):
            self.classes = [str(i) for i in range(data.class_count() or 0)]
        model.module.to("cpu")

    def write(self, to: Format, int8: bool) -> dict[str, Any]:
        seen = None if isinstance(self.model.preprocessing, Columns) else described(self.model.preprocessing)
        spec = None if self.model.spec is None else card.short(self.model.spec)
        about: dict[str, Any] = {"format": 1, "exported": to, "spec": spec, "name": self.model.name}
        about |= {**size_of(self.model.module), "classes": self.classes, "prepared": self.prepared, "preprocessing": seen}
        if self.model.encodes and to != "hf":
            raise BadInput(f"{self.model.name} is an encoder of Hugging Face; export it with --to hf, a folder that AutoModel reads")
        with self.model.mode(training=False), torch.no_grad():
            if to == "packed":
                return about | self._packed()
            if to == "onnx":
                if isinstance(self.model.preprocessing, Reading):
                    raise BadInput(
                        f"{self.model.name} is a language model of Hugging Face, whose cache of keys an ONNX file of ours would lack; "
                        "export it with --to hf, a folder that vLLM, llama.cpp's converter and optimum read"
                    )
                return about | self._onnx(int8, about)
            if hf.is_hf(self.model.module):
                return about | self._hf(to)
            if to == "hf":
                raise BadInput(
                    f"{self.model.name} is no Hugging Face model; export it with --to safetensors, whose model.py builds it without "
                    "tutelage, or --to onnx"
                )
            return about | self._safetensors()

    def _safetensors(self) -> dict[str, Any]:
        from safetensors.torch import save_model

        save_model(self.model.module, str(self.folder / "model.safetensors"))
        spec = self.model.spec
        if spec is None:
            return {"packages": [], "difference": None}
        batch = self.batches[1]
        arguments = self.model.inputs(batch)
        output = self._called(arguments)
        function, options = models.function_of(spec)
        code, packages = standalone.net_code(
            function,
            options,
            name=spec,
            labels=self.classes,
            inputs=self.model.preprocessing,
            logits=getattr(function, "logits", None),
            table=self.prepared["columns"] if self.prepared.get("kind") == "table" else None,
            arguments=arguments,
            output=output,
        )
        made = {"spec": specs.write(f"model.py:{function.__name__}", options)} if ".py:" in spec else {}
        return {**made, "packages": packages, "difference": self._tried(code)}

    def _packed(self) -> dict[str, Any]:
        """Weights of few bits in few bits, tried by reading them again."""
        levels = getattr(self.model, "levels", None)
        if levels is None:
            raise BadInput(f"{self.model.name} has no weights of few bits to pack; train one by --student ternary:SPEC")
        if hf.is_hf(self.model.module):
            hf.save(self.model, self.folder)
        file = self.folder / "model.safetensors"
        before = sum(p.numel() * p.element_size() for p in self.model.module.parameters())
        write_packed(self.model.module, levels, file)
        about = {"spec": self.model.spec, "levels": levels, "packages": ["tutelage"], "bytes_before": before}
        write_text_atomically(self.folder / "model.json", json.dumps({**about, "exported": "packed", "classes": self.classes}))
        again = models.model_from(str(self.folder), "model", data=self.data, seed=0)
        batch = self.batches[1]
        with again.mode(training=False):
            found, expected = (m.observe(batch, {"logits"})["logits"].double() for m in (again, self.model))
        if found.shape != expected.shape or not torch.allclose(found, expected, rtol=1e-3, atol=1e-3):
            raise BadInput(f"the packed weights of {self.model.name}, read again, do not say what the model says")
        return about | {"difference": float((found - expected).abs().max())}

    def _hf(self, to: Format) -> dict[str, Any]:
        hf.save(self.model, self.folder)
        inputs = self.model.preprocessing
        options: dict[str, Any] = {"max_length": inputs.max_length} if isinstance(inputs, Tokens) else {}
        options |= {"encoder": True} if self.model.encodes else {}
        about: dict[str, Any] = {"packages": ["transformers"], "class": type(self.model.module).__name__}
        about["spec"] = specs.write(f"hf:{self.model.name}", options)
        about |= {"exported": "hf"} if isinstance(inputs, Reading) or self.model.encodes else {}
        about |= {"encodes": True} if self.model.encodes else {}
        if to == "safetensors" and not isinstance(inputs, Reading):
            code, packages = standalone.hf_code(kind_of(self.data.train) or "", self.classes, inputs)
            return about | {"packages": packages, "difference": self._tried(code)}
        return about | {"difference": self._read_again(options)}

    def _read_again(self, options: Mapping[str, Any]) -> float:
        """The largest difference of a probability between the Hugging Face folder, read as anyone reads it, and the model."""
        again = models.model_from(specs.write(f"hf:{self.folder}", options), "model", data=self.data, seed=0)
        batch = self.batches[1]
        with again.mode(training=False):
            found, expected = (m.observe(batch, {"logits"})["logits"].double() for m in (again, self.model))
        if not self.model.encodes:
            found, expected = found.softmax(-1), expected.softmax(-1)
        if found.shape != expected.shape or not torch.allclose(found, expected, rtol=1e-4, atol=1e-5):
            raise BadInput(f"the Hugging Face folder of {self.model.name}, read again, does not say what the model says")
        return float((found - expected).abs().max())

    def _tried(self, code: str) -> float:
        (self.folder / standalone.FILE).write_text(code, encoding="utf8")
        batch = self.batches[1]
        arguments = self.model.inputs(batch)
        logits = self.model.logits(self._called(arguments))
        return standalone.tried(self.folder, batch, arguments, logits, self.model.name)

    def _called(self, arguments: Any) -> Any:
        return self.model.module(**arguments) if isinstance(arguments, Mapping) else self.model.module(*arguments)

    def _onnx(self, int8: bool, about: Mapping[str, Any]) -> dict[str, Any]:
        file = self.folder / "model.onnx"
        kept = {k: about[k] for k in ("prepared", "preprocessing", "name")}
        inputs = onnx.write(self.model, self.batches[1], self.batches[2], file, onnx.metadata(self.classes, kept))
        if isinstance(self.model.preprocessing, Tokens):
            self.model.preprocessing.save(self.folder)
        found: dict[str, Any] = {"inputs": inputs, "difference": onnx.difference(file, self.model, self.batches)}
        if int8:
            small = self.folder / "model.int8.onnx"
            onnx.quantized(file, small)
            found["int8"] = self._lost(file, small)
        return found

    def _lost(self, file: Path, small: Path) -> dict[str, Any]:
        """What the file in 8 bits loses, on all samples that nothing was chosen on."""
        before, after = (predict(Model(OnnxNet(f), inputs=self.model.inputs), self.source) for f in (file, small))
        numbers, now = measure(before), measure(after, before)
        found = {
            "file": small.name,
            "bytes": small.stat().st_size,
            "bytes_before": file.stat().st_size,
            "split": self.split,
            "samples": len(self.source),
            "agreement": now["agreement"],
        }
        gap = difference(after, before)
        if gap is not None:
            found |= {"accuracy": now["accuracy"], "accuracy_before": numbers["accuracy"], "difference": gap["accuracy"]}
            found |= {"low": gap["low"], "high": gap["high"]}
        return found


def _use(about: Mapping[str, Any], kind: str | None) -> str:
    """Code that shows how to use what was exported."""
    seen = about["preprocessing"] or {}
    if about["exported"] == "packed":
        return card.PACKED
    if about["exported"] == "onnx":
        if seen.get("kind") == "tokens":
            return card.TOKENS.format(file="model.onnx", length=seen["max_length"])
        given = ", ".join(f"{json.dumps(i['name'])}: {i['name'] if i['name'].isidentifier() else 'value'}" for i in about["inputs"])
        return card.ONNX.format(file="model.onnx", given=given)
    if standalone.FILE in about["files"]:
        samples = {"table": '[{"column": value}]', "text": '["a text"]'}
        return card.CODE.format(sample=samples.get(about["prepared"].get("kind", kind), '{"x": samples}'))
    if seen.get("kind") == "causal":
        return card.CAUSAL
    if about["exported"] != "hf":
        return card.WEIGHTS
    if about.get("encodes"):
        return card.ENCODER if seen.get("kind") == "tokens" else card.HF.format(auto="AutoModel")
    return card.HF_TEXT if seen.get("kind") == "tokens" else card.HF.format(auto=_auto(about["class"]))


def _auto(name: str) -> str:
    return next((a for a in hf.HEADS.values() if name.endswith(a.removeprefix("AutoModel"))), "AutoModel")


def _run_of(model: Any, which: str) -> tuple[Path | None, str]:
    """The run that is meant and the model in it, where a run's folder was given or that of a model in one; else no run."""
    run = run_at(model)
    if run is not None or not (isinstance(model, (str, Path)) and os.path.isdir(model)):
        return run, which
    whole = Path(model).resolve()
    for above in (whole.parent, whole.parent.parent if whole.parent.name == "also" else None):
        if above is not None and which == "student" and (whole / models.FILE).is_file() and (above / "config.yaml").is_file():
            return above, whole.name
    return None, which


def _part(run: Path, which: str, trust_code: bool) -> Any:
    """What of a run is meant: a folder, or the teacher as the run was given it."""
    if which == "student":
        return run
    kept = {f.name: f for f in sorted((run / "also").glob("*")) if (f / models.FILE).is_file()}
    kept |= {n: run / n for n in ("teacher", "baseline") if (run / n / models.FILE).is_file()}
    if which in kept:
        return kept[which]
    config = read_config(run)
    given = config.get(which)
    if which == "teacher" and isinstance(given, str) and not given.startswith("<"):
        check_trusted(given, run, trust_code)
        return given
    raise BadInput(f"{run} holds no model {which!r}{nearest(which, kept)}; it holds {', '.join(['student', *kept])}")


def _recorded(given: Any) -> Mapping[str, Any]:
    """What model.json of a folder says; empty for other models."""
    if not (isinstance(given, (str, Path)) and os.path.isdir(given)):
        return {}
    found = next((f for f in (Path(given) / models.FILE, Path(given) / models.FILE.name) if f.is_file()), None)
    return {} if found is None else models.read_model(found)


def _report(run: Path | None) -> dict[str, Any] | None:
    if run is None or not (run / "report.json").is_file():
        return None
    from tutelage.jobs.report import numbers_of

    return numbers_of(run)


def _place(run: Path | None, which: str, to: str) -> Path:
    return (run or Path()) / "exported" / (to if which == "student" else f"{which}-{to}")


def _check_target(target: Path) -> None:
    """Refuse to write over what is no earlier export."""
    if target.exists() and not target.is_dir():
        raise BadInput(f"--out {target} is a file; expected a folder")
    if target.is_dir() and any(target.iterdir()):
        file = target / "model.json"
        if not (file.is_file() and "exported" in models.read_model(file)):
            raise BadInput(f"--out {target} already holds something else; choose another folder")
    parent = next(p for p in target.absolute().parents if p.exists())
    if not os.access(parent, os.W_OK):
        raise BadInput(f"--out {target} cannot be written to")
