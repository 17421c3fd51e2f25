"""Read a model's signals with forward hooks: the only place that installs hooks, and it removes them on every way out.

A `Watch` is a fixed set of hooks on one module. A single pass installs one for itself; a stage installs one before its first step and
keeps it, because a compiled module honours only the hooks that it had at its first call. When all inner taps have been seen and the
logits are not wanted, the pass stops there by an exception that is caught here and nowhere else.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tutelage.errors import BadInput
from tutelage.signals.outputs import first_tensor
from tutelage.signals.taps import LOGITS, Trace, Visit, check_path


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
    return twin


class Watch:
    """Forward hooks at some paths of a module, installed until `close`.

    Args:
        module: the module that is watched; never changed otherwise.
        paths: module paths whose first output in a pass is kept.
        name: the model's name, for messages.

    Raises:
        UnknownTap: a path is not in the module.
    """

    def __init__(self, module: nn.Module, paths: Collection[str], name: str) -> None:
        self.module, self.name = module, name
        self.paths = frozenset(paths)
        self.seen: dict[str, Tensor] = {}
        self.wanted = 0
        self.active = False
        self._handles: list[RemovableHandle] = []
        targets = {path: check_path(module, path, name) for path in sorted(self.paths)}
        for path, target in targets.items():
            self._handles.append(target.register_forward_hook(self._keep(path)))

    def _keep(self, path: str) -> Callable[[nn.Module, Any, Any], None]:
        @marked
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if not self.active or path in self.seen:
                return
            tensor = first_tensor(output)
            if tensor is not None:
                last = len(self.seen) + 1 == self.wanted
                self.seen[path] = tensor if last else _as_it_is(tensor)  # nothing runs after the last one
                if last:
                    raise _Enough

        return hook

    def run(self, arguments: tuple[Any, ...] | Mapping[str, Any], stop_early: bool) -> tuple[dict[str, Tensor], Any]:
        """Run one pass.

        Args:
            arguments: positional (tuple) or named (mapping) inputs.
            stop_early: leave the pass at the last tap; the output is then None.

        Returns:
            The tensors seen by path, and the module's output.

        Raises:
            BadInput: a watched module did not run or gave no tensor.
        """
        self.seen = {}
        self.wanted = len(self.paths) if stop_early else -1
        self.active = True
        output = None
        try:
            output = self.module(**arguments) if isinstance(arguments, Mapping) else self.module(*arguments)
        except _Enough:
            pass
        finally:
            self.active = False
        seen, self.seen = self.seen, {}
        if len(seen) < len(self.paths):
            silent = min(self.paths - seen.keys())
            raise BadInput(f"tap {silent!r} of {self.name} gave no tensor in this pass: its module did not run, or its output holds none")
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
