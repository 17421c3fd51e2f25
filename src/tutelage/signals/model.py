"""Model: a handle on a user's model, built on first use and never edited. What recipes pass around.

A handle is made from a module, or from a function that makes one; only the latter can be built anew (`fresh`). Nothing is built, and no
weights are read, until `module` is asked for: help, dry runs and the building of plans stay light.
"""

from __future__ import annotations

import contextlib
import copy
import pickle
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.errors import BadInput, Mismatch, MissingFile, in_short
from tutelage.randomness import seeded
from tutelage.signals import outputs
from tutelage.signals.deferred import DeferredLogits
from tutelage.signals.head import Head
from tutelage.signals.observe import Watch, unwatched_copy
from tutelage.signals.observe import trace as trace_module
from tutelage.signals.signals import Batch, Signals
from tutelage.signals.taps import LOGITS, Depth, Tap, Trace
from tutelage.signals.writes import Seen, Write


class Model:
    """A handle on a model.

    Args:
        source: an `nn.Module`, or a function without arguments that makes one.
        name: how messages and tables call it.
        seed: seeds the weights that `source` draws; ignored for an instance.
        weights: a file loaded into what `source` makes: safetensors, or .pt, .pth or .bin with nothing but tensors in it.
        inputs: `batch -> tuple | dict`, the model's own preprocessing; default: the only input column, or several by argument name.
        logits: `output -> Tensor`; default: the output itself, its `logits`, or the first tensor of a tuple.
        spec: text from which the same handle can be made again (`"cnn:width=32"`); None for objects made in Python.
        trained: whether what `source` makes has been trained for the task already; with `weights` it always counts as trained.
        blueprint: makes the same architecture without reading weights, where `source` reads some; for estimates.
        classes: names of what its logits stand for, in order; empty where it does not say.
        encodes: whether it is an encoder without a head: what stands for its logits are hidden states, (B, T, D) or (B, D).

    Attributes:
        sampling: how images are drawn from it, where it makes some, as plain values; kept in model.json.

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
        trained: bool = False,
        blueprint: Callable[[], nn.Module] | None = None,
        classes: Sequence[str] = (),
        encodes: bool = False,
    ) -> None:
        if not callable(source):
            raise BadInput(f"a model must be an nn.Module or a function that makes one, not {type(source).__name__}")
        self._module: nn.Module | None = source if isinstance(source, nn.Module) else None
        self._make = None if isinstance(source, nn.Module) else source
        self.name: str = name or (type(source).__name__ if isinstance(source, nn.Module) else str(getattr(source, "__name__", "model")))
        self.seed, self.weights, self.spec = seed, weights, spec
        self._inputs, self._logits, self._blueprint = inputs, logits, blueprint
        self.trained = trained or weights is not None
        self.classes = tuple(classes)
        self.sampling: Mapping[str, Any] = {}
        self.encodes = encodes
        self._trace: Trace | None = None
        self._watch: Watch | None = None
        self._head: Head | None = None
        self.defers = False  # whether `deferring` lets passes give deferred logits
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

        Raises:
            BadInput: the constructor refuses what it was given.
        """
        make = self._blueprint or self._make
        if make is None:
            return copy.deepcopy(self._module).to("meta") if self._module is not None else None
        try:
            with seeded("skeleton"), torch.device("meta"):
                return make()
        except BadInput:
            raise
        except Exception:
            return None  # some constructors compute with their weights, which the meta device refuses

    @property
    def preprocessing(self) -> Callable[[Batch], tuple[Any, ...] | dict[str, Any]] | None:
        """The model's own preprocessing, where it has one."""
        return self._inputs

    def inputs(self, batch: Batch, module: nn.Module | None = None) -> tuple[Any, ...] | dict[str, Any]:
        """What the module, or another of its architecture, is called with for this batch."""
        return self._inputs(batch) if self._inputs else outputs.inputs_of(batch, module or self.module, self.name)

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
        own = {"inputs": self._inputs, "logits": self._logits, "blueprint": self._blueprint, "encodes": self.encodes}
        return Model(self._make, name=self.name, seed=seed, spec=self.spec, **own)  # type: ignore[arg-type]

    def copy(self) -> Model:
        """A handle on a model with the same weights, as they are when the copy is built."""
        own = {"inputs": self._inputs, "logits": self._logits, "blueprint": self._blueprint, "encodes": self.encodes}
        return Model(lambda: unwatched_copy(self.module), name=self.name, spec=self.spec, trained=self.trained, **own)  # type: ignore[arg-type]

    def changed(self, change: Callable[[nn.Module], nn.Module], spec: str | None = None) -> Model:
        """A handle on a model of the same architecture and weights that a function has changed; this one stays as it is.

        Args:
            change: makes another module of one that is its own to take apart.
            spec: text from which the same handle can be made again.
        """

        def make() -> nn.Module:
            anew = not self.built and self._make is not None and self.weights is None
            return change(self._make() if anew and self._make is not None else unwatched_copy(self.module))

        def blueprint() -> nn.Module:
            made = self.skeleton()
            if made is None:
                raise TypeError(f"{self.name} cannot be made without memory")
            return change(made)

        own = {"inputs": self._inputs, "logits": self._logits, "classes": self.classes, "encodes": self.encodes}
        return Model(make, name=self.name, seed=self.seed, spec=spec, trained=self.trained, blueprint=blueprint, **own)  # type: ignore[arg-type]

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
    def watching(self, taps: Collection[Tap], batch: Batch, writes: Sequence[Write] = ()) -> Iterator[None]:
        """Keep one fixed set of hooks for many passes (a stage): passes that ask for these taps and writes install none of their own."""
        paths = {self.path(tap, batch) for tap in taps} - {LOGITS}
        before, self._watch = self._watch, Watch(self.module, paths, self.name, writes)
        try:
            yield
        finally:
            self._watch.close()
            self._watch = before

    @contextlib.contextmanager
    def deferring(self, now: bool = True) -> Iterator[None]:
        """Let passes in here give `DeferredLogits`: the hidden states before the head, and the head, rather than what it makes of them.

        Args:
            now: False only puts a hook on the head, which a compiled module honours if it was there first; a `deferring` within uses it.

        Raises:
            BadInput: the model has no head that is known. The first pass raises it, too, where the model changes its logits behind it.
        """
        before = self._head, self.defers
        self._head = self._head or Head(self.module, self.name)
        self.defers = now
        try:
            yield
        finally:
            if before[0] is None:
                self._head.close()
            self._head, self.defers = before

    def observe(
        self,
        batch: Batch,
        taps: Collection[Tap],
        *,
        writes: Sequence[Write] = (),
        teacher: Signals | None = None,
        stop_early: bool = True,
    ) -> Signals:
        """Run one pass and read the signals at some taps; the module's mode and the gradient mode are the caller's.

        Args:
            batch: columns, with the inputs of the model.
            taps: module paths, `"logits"`, or depths.
            writes: what is changed on the way, in this pass alone.
            teacher: what they put there.
            stop_early: leave the pass at the last inner tap where logits are not wanted. Not done on compiled modules, whose pass runs
                to its end; the signals are the same.

        Returns:
            The signals, keyed by the taps as asked; the logits are a tensor, within `deferring` they are `DeferredLogits`.

        Raises:
            UnknownTap: a path is not in the model; names the nearest.
            BadInput: a tap gave no tensor, or the output holds no logits, or none that can be deferred where they should be; or a write
                met no teacher, or a module that does not run.
            ShapeMismatch: a write puts another shape there.
        """
        paths = {tap: self.path(tap, batch) for tap in taps}
        inner = frozenset(paths.values()) - {LOGITS}
        arguments = self.inputs(batch)
        whole = LOGITS in paths.values() or not inner
        stop = stop_early and not whole and not self.compiled
        head = self._head if self.defers and whole else None
        if not inner and not writes:
            with head.passing() if head else contextlib.nullcontext():
                return Signals({tap: self._shown(self._call(arguments), head) for tap in paths})
        kept = (
            self._watch is not None
            and (self._watch.paths == inner or (not stop and inner <= self._watch.paths))
            and all(any(write is each for each in self._watch.writes) for write in writes)
        )
        watch = self._watch if kept and self._watch is not None else Watch(self.module, inner, self.name, writes)
        found: dict[str, Tensor | DeferredLogits] = {}
        try:
            with head.passing() if head else contextlib.nullcontext():
                seen, output = watch.run(arguments, stop, writes, Seen(teacher, batch, {}) if writes else None)
                found.update(seen)
                if whole:
                    found[LOGITS] = self._shown(output, head)
        finally:
            if not kept:
                watch.close()
        return Signals({tap: found[path] for tap, path in paths.items()})

    def _shown(self, output: Any, head: Head | None) -> Tensor | DeferredLogits:
        return self.logits(output) if head is None else head.logits(self.logits(output))

    @property
    def compiled(self) -> bool:
        """Whether the module was compiled, by us or by the user; an early stop would break its graph."""
        module = self.module  # by name, since importing dynamo to compare types takes a second
        return self._compiled or type(module).__name__ == "OptimizedModule" or module._compiled_call_impl is not None

    def __repr__(self) -> str:
        return f"Model({self.name}{'' if self.built else ', not built'})"


def load_weights(module: nn.Module, path: Path, name: str) -> None:
    """Load a file of weights into a module, strictly.

    Args:
        module: whose parameters and buffers are set.
        path: safetensors, or a .pt, .pth or .bin with tensors by name: a state dict, or one under "state_dict" or "model". It is read
            without running code. Names that all begin with "module." lose it.
        name: how messages call the model.

    Raises:
        MissingFile: no such file.
        Mismatch: names or shapes differ; says which side has what.
        BadInput: the file is damaged, or holds more than tensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    if not path.is_file():
        raise MissingFile(f"weights {path} of {name} do not exist")
    try:
        if path.suffix in (".pt", ".pth", ".bin"):
            module.load_state_dict(_state_in(path, name))
        else:
            load_model(module, path)
    except SafetensorError as error:
        raise BadInput(f"weights {path} of {name} are damaged or no safetensors file: {error}") from None
    except RuntimeError as error:
        raise Mismatch(f"weights {path} do not fit {name}: {in_short(error, 300)}") from None


def _state_in(path: Path, name: str) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings(action="ignore"):  # on pickles that are then refused
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise BadInput(
            f"weights {path} of {name} hold more than tensors, or are no file of torch; "
            "save them anew: torch.save(model.state_dict(), ...), or as safetensors"
        ) from None
    except (OSError, EOFError, RuntimeError, ValueError, KeyError) as error:
        raise BadInput(f"weights {path} of {name} are damaged: {in_short(error)}") from None
    for key in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found or not all(isinstance(v, Tensor) for v in found.values()):
        raise BadInput(f"weights {path} of {name}: expected tensors by name, found {type(found).__name__}; save model.state_dict()")
    prefix = "module." if all(k.startswith("module.") for k in found) else ""
    return {k.removeprefix(prefix): v for k, v in found.items()}
