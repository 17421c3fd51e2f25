"""Model: a handle on a user's model, built on first use and never edited. What recipes pass around.

A handle is made from a module, or from a function that makes one; only the latter can be built anew (`fresh`). Nothing is built, and no
weights are read, until `module` is asked for: help, dry runs and the building of plans stay light.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.errors import BadInput, Mismatch, MissingFile
from tutelage.randomness import seeded
from tutelage.signals import outputs
from tutelage.signals.observe import Watch, unwatched_copy
from tutelage.signals.observe import trace as trace_module
from tutelage.signals.signals import Batch, Signals
from tutelage.signals.taps import LOGITS, Depth, Tap, Trace


class Model:
    """A handle on a model.

    Args:
        source: an `nn.Module`, or a function without arguments that makes one.
        name: how messages and tables call it.
        seed: seeds the weights that `source` draws; ignored for an instance.
        weights: a safetensors file loaded into what `source` makes.
        inputs: `batch -> tuple | dict`, the model's own preprocessing; default: the only input column, or several by argument name.
        logits: `output -> Tensor`; default: the output itself, its `logits`, or the first tensor of a tuple.
        spec: text from which the same handle can be made again (`"cnn:width=32"`); None for objects made in Python.

    Raises:
        BadInput: `source` is neither a module nor callable.
    """

    def __init__(
        self,
        source: nn.Module | Callable[[], nn.Module],
        *,
        name: str | None = None,
        seed: int = 0,
        weights: Path | None = None,
        inputs: Callable[[Batch], tuple[Any, ...] | dict[str, Any]] | None = None,
        logits: Callable[[Any], Tensor] | None = None,
        spec: str | None = None,
    ) -> None:
        if not callable(source):
            raise BadInput(f"a model must be an nn.Module or a function that makes one, not {type(source).__name__}")
        self._module: nn.Module | None = source if isinstance(source, nn.Module) else None
        self._make = None if isinstance(source, nn.Module) else source
        self.name: str = name or (type(source).__name__ if isinstance(source, nn.Module) else str(getattr(source, "__name__", "model")))
        self.seed, self.weights, self.spec = seed, weights, spec
        self._inputs, self._logits = inputs, logits
        self._trace: Trace | None = None
        self._watch: Watch | None = None
        self._compiled = False
        self.evaluating = False  # whether `mode` holds all parts in evaluation mode

    @property
    def built(self) -> bool:
        """Whether the module exists yet."""
        return self._module is not None

    @property
    def module(self) -> nn.Module:
        """The module itself, built (and its weights read) at first use."""
        if self._module is None:
            assert self._make is not None
            with seeded("init", self.seed):
                made = self._make()
            if not isinstance(made, nn.Module):
                raise BadInput(f"{self.name} made a {type(made).__name__}; expected an nn.Module")
            if self.weights is not None:
                load_weights(made, self.weights, self.name)
            self._module = made
        return self._module

    def skeleton(self) -> nn.Module | None:
        """The same architecture without memory for its weights (meta device); None where only an instance or no such form exists.

        Reads no weights. Used to estimate costs before anything is built.
        """
        if self._make is None:
            return copy.deepcopy(self._module).to("meta") if self._module is not None else None
        try:
            with seeded("skeleton"), torch.device("meta"):
                return self._make()
        except (RuntimeError, NotImplementedError, TypeError, ValueError):
            return None  # some constructors compute with their weights, which the meta device refuses

    def inputs(self, batch: Batch) -> tuple[Any, ...] | dict[str, Any]:
        """What the module is called with for this batch."""
        return self._inputs(batch) if self._inputs else outputs.inputs_of(batch, self.module, self.name)

    def logits(self, output: Any) -> Tensor:
        """The logits in what the module gave."""
        return self._logits(output) if self._logits else outputs.logits_of(output, self.name)

    def fresh(self, seed: int) -> Model:
        """The same architecture with new weights, drawn from `seed`; a handle, nothing is built yet.

        Raises:
            BadInput: only an instance was given, so nothing knows how to build another one.
        """
        if self._make is None:
            raise BadInput(
                f"{self.name} was given as an instance, which cannot be built anew; give a function that makes it: Model(lambda: Net(...))"
            )
        return Model(self._make, name=self.name, seed=seed, inputs=self._inputs, logits=self._logits, spec=self.spec)

    def copy(self) -> Model:
        """A handle on a model with the same weights, as they are when the copy is built."""
        return Model(lambda: unwatched_copy(self.module), name=self.name, inputs=self._inputs, logits=self._logits, spec=self.spec)

    def materialize(self, batch: Batch) -> None:
        """Let lazily built layers (`nn.LazyLinear`) take their shapes from a real batch; does nothing to other models."""
        if any(isinstance(p, nn.parameter.UninitializedParameter) for p in self.module.parameters()):
            with seeded("init", self.seed), self.mode(training=False), torch.no_grad():
                self._call(self.inputs(batch))

    def _call(self, arguments: tuple[Any, ...] | Mapping[str, Any]) -> Any:
        return self.module(**arguments) if isinstance(arguments, Mapping) else self.module(*arguments)

    @contextlib.contextmanager
    def mode(self, training: bool) -> Iterator[None]:
        """Put the module into training or evaluation mode and every part of it back into its own mode afterwards."""
        before, evaluating = [(m, m.training) for m in self.module.modules()], self.evaluating
        self.module.train(training)
        self.evaluating = not training
        try:
            yield
        finally:
            self.evaluating = evaluating
            for part, was in before:
                part.training = was

    def trace(self, batch: Batch | None = None) -> Trace:
        """The modules in the order in which they finish, recorded once on the first batch given (evaluation mode, global seeds kept).

        Raises:
            BadInput: no batch was given and none was before.
        """
        if self._trace is None:
            if batch is None:
                raise BadInput(f"the depth of {self.name} is unknown before it has seen a batch")
            with seeded("trace"), self.mode(training=False):
                self._trace = trace_module(self.module, self.inputs(batch), self.logits)
        return self._trace

    def path(self, tap: Tap, batch: Batch | None = None) -> str:
        """The module path (or `"logits"`) that a tap stands for in this model."""
        return self.trace(batch).resolve(tap) if isinstance(tap, Depth) else tap

    def compile(self) -> None:
        """Compile the module in place, so that names in its state stay bare and hooks are honoured."""
        self.module.compile()
        self._compiled = True

    def uncompile(self) -> None:
        """Undo `compile`: the module is again as the user gave it, and what was compiled for its hooks is dropped."""
        self.module._compiled_call_impl = None
        self._compiled = False
        torch._dynamo.reset()

    @contextlib.contextmanager
    def watching(self, taps: Collection[Tap], batch: Batch) -> Iterator[None]:
        """Keep one fixed set of hooks for many passes (a stage): passes that ask for these taps install none of their own."""
        paths = {self.path(tap, batch) for tap in taps} - {LOGITS}
        before, self._watch = self._watch, Watch(self.module, paths, self.name)
        try:
            yield
        finally:
            self._watch.close()
            self._watch = before

    def observe(self, batch: Batch, taps: Collection[Tap], *, stop_early: bool = True) -> Signals:
        """Run one pass and read the signals at some taps; the module's mode and the gradient mode are the caller's.

        Args:
            batch: columns, with the inputs of the model.
            taps: module paths, `"logits"`, or depths.
            stop_early: leave the pass at the last inner tap where logits are not wanted. Not done on compiled modules, whose pass runs
                to its end; the signals are the same.

        Returns:
            The signals, keyed by the taps as asked.

        Raises:
            UnknownTap: a path is not in the model; names the nearest.
            BadInput: a tap gave no tensor, or the output holds no logits.
        """
        paths = {tap: self.path(tap, batch) for tap in taps}
        inner = frozenset(paths.values()) - {LOGITS}
        arguments = self.inputs(batch)
        whole = len(inner) < len(set(paths.values())) or not inner
        stop = stop_early and not whole and not self.compiled
        if not inner:
            return Signals({tap: self.logits(self._call(arguments)) for tap in paths})
        kept = self._watch is not None and (self._watch.paths == inner or (not stop and inner <= self._watch.paths))
        watch = self._watch if kept and self._watch is not None else Watch(self.module, inner, self.name)
        try:
            seen, output = watch.run(arguments, stop)
        finally:
            if not kept:
                watch.close()
        if whole:
            seen[LOGITS] = self.logits(output)
        return Signals({tap: seen[path] for tap, path in paths.items()})

    @property
    def compiled(self) -> bool:
        """Whether the module was compiled, by us or by the user; an early stop would break its graph."""
        module = self.module  # by name, since importing dynamo to compare types takes a second
        return self._compiled or type(module).__name__ == "OptimizedModule" or module._compiled_call_impl is not None

    def __repr__(self) -> str:
        return f"Model({self.name}{'' if self.built else ', not built'})"


def load_weights(module: nn.Module, path: Path, name: str) -> None:
    """Load a safetensors file into a module, strictly.

    Raises:
        MissingFile: no such file.
        Mismatch: names or shapes differ; says which side has what.
        BadInput: the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    if not path.is_file():
        raise MissingFile(f"weights {path} of {name} do not exist")
    try:
        load_model(module, path)
    except SafetensorError as error:
        raise BadInput(f"weights {path} of {name} are damaged or no safetensors file: {error}") from None
    except RuntimeError as error:
        details = " ".join(str(error).split())[:300]
        raise Mismatch(f"weights {path} do not fit {name}: {details}") from None
