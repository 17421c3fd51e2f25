"""Read a model's signals with forward hooks: the only place that installs hooks, and it removes them on every way out.

A `Watch` is a fixed set of hooks on one module. A single pass installs one for itself; a stage installs one before its first step and
keeps it, because a compiled module honours only the hooks that it had at its first call. When all inner taps have been seen and the
logits are not wanted, the pass stops there by an exception that is caught here and nowhere else. The same hooks carry out writes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tutelage.errors import BadInput
from tutelage.signals.outputs import first_tensor
from tutelage.signals.taps import LOGITS, Trace, Visit, check_path
from tutelage.signals.writes import Seen, Write, with_first


class _Enough(BaseException):
    """All taps have been seen. Not an Exception, so that a model's own `except Exception` lets it through."""


LAZY = getattr(torch, "_lazy_clone", None)
"""Not promised by torch: where a release lacks it, tensors are copied."""


def _as_it_is(tensor: Tensor) -> Tensor:
    """The tensor as it is now, though a later module may write into it (`ReLU(inplace=True)`)."""
    if LAZY is not None and tensor.is_cpu and not torch.compiler.is_compiling():
        try:
            return LAZY(tensor)  # shares the memory until somebody writes into it; only then it is copied
        except RuntimeError:  # memory that is not torch's own, such as NumPy's
            pass
    return tensor.clone()


def marked(hook: Callable[..., Any]) -> Callable[..., Any]:
    """A hook of ours, which a copy of the module is not to have."""
    hook.of_a_watch = True  # type: ignore[attr-defined]
    return hook


def unwatched_copy(module: nn.Module) -> nn.Module:
    """A deep copy of a module without the hooks of a watch, which would write into the original's signals."""
    twin = copy.deepcopy(module)
    for part in twin.modules():
        for hooks in (part._forward_hooks, part._forward_pre_hooks):
            for number in [n for n, hook in hooks.items() if getattr(hook, "of_a_watch", False)]:
                del hooks[number]
                part._forward_pre_hooks_with_kwargs.pop(number, None)
    return twin


class Watch:
    """Forward hooks at some paths of a module, installed until `close`.

    Args:
        module: the module that is watched; never changed otherwise.
        paths: module paths whose first output in a pass is kept.
        name: the model's name, for messages.
        writes: changes that a pass may ask for; none happens unless it does.

    Raises:
        UnknownTap: a path is not in the module.
    """

    def __init__(self, module: nn.Module, paths: Collection[str], name: str, writes: Sequence[Write] = ()) -> None:
        self.module, self.name, self.writes = module, name, tuple(writes)
        self.paths = frozenset(paths)
        self.seen: dict[str, Tensor] = {}
        self.wanted = 0
        self.active = False
        self._writing: Sequence[Write] = ()
        self._written: set[int] = set()
        self._met: Seen | None = None
        self._handles: list[RemovableHandle] = []
        beside = {path for write in self.writes for path in write.sees} - self.paths
        targets = {path: check_path(module, path, name) for path in sorted({*self.paths, *beside, *(w.path for w in self.writes)})}
        for path, target in targets.items():
            if path in self.paths:
                self._handles.append(target.register_forward_hook(self._keep(path)))
            if path in beside:
                self._handles.append(target.register_forward_hook(self._note(path)))
            for write in self.writes:  # after what is kept: a tap shows the model's own
                if write.path == path and write.side == "input":
                    self._handles.append(target.register_forward_pre_hook(self._change_input(write), with_kwargs=True))
                elif write.path == path:
                    self._handles.append(target.register_forward_hook(self._change_output(write)))

    def _keep(self, path: str) -> Callable[[nn.Module, Any, Any], None]:
        looked = any(path in write.sees for write in self.writes)

        @marked
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if not self.active or path in self.seen:
                return
            tensor = first_tensor(output)
            if tensor is not None:
                last = len(self.seen) + 1 == self.wanted
                self.seen[path] = tensor if last else _as_it_is(tensor)  # nothing runs after the last one
                if looked:
                    self._show(path, self.seen[path])
                if last:
                    raise _Enough

        return hook

    def _note(self, path: str) -> Callable[[nn.Module, Any, Any], None]:
        """Keep an output for writes alone."""

        @marked
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if self._met is not None and path not in self._met.student:
                tensor = first_tensor(output)
                if tensor is not None:
                    self._show(path, _as_it_is(tensor))

        return hook

    def _show(self, path: str, tensor: Tensor) -> None:
        if self._met is not None:
            self._met.student[path] = tensor  # type: ignore[index]

    def _due(self, write: Write) -> bool:
        """Whether a write is to happen at this call: asked for, turned on, and the first call of its module in the pass."""
        if self._met is None or id(write) in self._written or not any(write is each for each in self._writing) or not write.on:
            return False
        missing = next((path for path in write.sees if path not in self._met.student), None)
        if missing is not None:
            raise BadInput(f"the write at {write.path!r} of {self.name} sees {missing!r}, which has not run before it and shown a tensor")
        self._written.add(id(write))
        return True

    def _made(self, write: Write) -> Callable[[Tensor], Tensor]:
        met = self._met
        assert met is not None
        return lambda own: write.made(own, met)

    def _change_output(self, write: Write) -> Callable[[nn.Module, Any, Any], Any]:
        @marked
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            return with_first(output, self._made(write), write.path) if self._due(write) else None

        return hook

    def _change_input(self, write: Write) -> Callable[[nn.Module, Any, Any], Any]:
        @marked
        def hook(_module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
            if not self._due(write):
                return None
            if first_tensor(arguments) is not None:
                return with_first(arguments, self._made(write), write.path), named
            return arguments, with_first(named, self._made(write), write.path)

        return hook

    def run(
        self,
        arguments: tuple[Any, ...] | Mapping[str, Any],
        stop_early: bool,
        writes: Sequence[Write] = (),
        met: Seen | None = None,
    ) -> tuple[dict[str, Tensor], Any]:
        """Run one pass.

        Args:
            arguments: positional (tuple) or named (mapping) inputs.
            stop_early: leave the pass at the last tap; the output is then None.
            writes: those of its writes that happen in this pass.
            met: what they may look at; its `student` is filled while the pass runs.

        Returns:
            The tensors seen by path, and the module's output.

        Raises:
            BadInput: a watched module did not run or gave no tensor, or a write did not fit.
            ShapeMismatch: a write of another shape.
        """
        self.seen = {}
        self.wanted = len(self.paths) if stop_early else -1
        self._writing, self._met, self._written = writes, met if writes else None, set()
        self.active = True
        output = None
        try:
            output = self.module(**arguments) if isinstance(arguments, Mapping) else self.module(*arguments)
        except _Enough:
            pass
        finally:
            self.active = False
            written, self._writing, self._met, self._written = self._written, (), None, set()
        seen, self.seen = self.seen, {}
        if len(seen) < len(self.paths):
            silent = min(self.paths - seen.keys())
            raise BadInput(f"tap {silent!r} of {self.name} gave no tensor in this pass: its module did not run, or its output holds none")
        undone = next((w for w in writes if w.on and id(w) not in written), None) if output is not None else None
        if undone is not None:
            raise BadInput(f"the write at {undone.path!r} of {self.name} did not happen: its module did not run in this pass")
        return seen, output

    def close(self) -> None:
        """Remove all hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


def trace(module: nn.Module, arguments: tuple[Any, ...] | Mapping[str, Any], logits: Callable[[Any], Tensor]) -> Trace:
    """Record the modules in the order in which they first finish, in one pass without gradients.

    Args:
        module: the module, run in the mode that it is in.
        arguments: positional or named inputs.
        logits: finds the logits in the output, for their shape; a model without logits is traced all the same.
    """
    visits: dict[str, Visit] = {}
    calls: dict[str, int] = {}
    layers = 0
    handles = []

    lists = {path for path, child in module.named_modules() if isinstance(child, (nn.ModuleList, nn.Sequential))}

    def element(path: str) -> bool:
        return bool(path) and path.rpartition(".")[0] in lists

    def block(path: str) -> bool:
        above = path.rpartition(".")[0]
        within = False
        while above:
            within |= element(above) and above not in lists
            above = above.rpartition(".")[0]
        return "." not in path or (element(path) and not within)

    def hook_for(path: str, child: nn.Module) -> Callable[[nn.Module, Any, Any], None]:
        weighted = any(p.ndim >= 2 for p in child.parameters(recurse=False))
        leaf = next(child.children(), None) is None

        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            nonlocal layers
            calls[path] = calls.get(path, 0) + 1
            if path not in visits:
                layers += weighted
                tensor = first_tensor(output)
                visits[path] = Visit(
                    path, type(child).__name__, None if tensor is None else tensor.shape, layers, weighted, leaf, block(path)
                )

        return hook

    try:
        for path, child in module.named_modules():
            if path:
                handles.append(child.register_forward_hook(hook_for(path, child)))
        with torch.no_grad():
            output = module(**arguments) if isinstance(arguments, Mapping) else module(*arguments)
    finally:
        for handle in handles:
            handle.remove()
    final = tuple(Visit(v.path, v.kind, v.shape, v.layers, v.weighted, v.leaf, v.block, calls[v.path]) for v in visits.values())
    try:
        return Trace(final, logits(output).shape)
    except BadInput:
        return Trace(final)  # an encoder of hidden states only: its inner taps are as good as any


__all__ = ["LOGITS", "Watch", "trace"]
