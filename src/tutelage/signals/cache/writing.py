"""From what a teacher shows, batch by batch, to the tensors of a shard. Shapes: B batch, T positions, V classes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.signals.cache.about import KeptLogits, KeptSplit
from tutelage.signals.cache.codes import FLOATS, coded, pack
from tutelage.signals.sparse import sampled, top_k


class Shard:
    """A shard that is being filled.

    Args:
        kept: how the split's signals are kept.
    """

    def __init__(self, kept: KeptSplit) -> None:
        self.kept = kept
        self._ids: list[Tensor] = []
        self._lengths: list[Tensor] = []
        self._logits: list[dict[str, Tensor]] = []
        self._taps: dict[str, list[Tensor]] = {name: [] for name in kept.taps}
        self._positions: int | None = None

    def add(self, ids_B: Tensor, signals: Mapping[str, Tensor], *, uniforms: Tensor | None = None, mask_BT: Tensor | None = None) -> None:
        """Take the signals of a batch.

        Args:
            ids_B: int64.
            signals: dense logits under "logits", the others by the names of the taps.
            uniforms: for sampled logits, in [0, 1), one a row of logits: (B,) or (B, T).
            mask_BT: of ragged samples, which positions are kept, in their order.

        Raises:
            ShapeMismatch: a signal has another shape than the description says, or not a row for each sample.
            BadInput: a signal is NaN or infinite, too large for its precision, or of a type that is not kept; there is no mask, or
                there are no uniforms.
        """
        kept, logits = self.kept, self.kept.logits
        real_BT = _positions(mask_BT, len(ids_B)) if kept.ragged else None
        rows = {}
        wanted = {name: (tap.shape, tap.positions) for name, tap in kept.taps.items()}
        if logits is not None:
            wanted["logits"] = (logits.classes,), logits.positions
        for name, (shape, positions) in wanted.items():
            lead = self._lead(len(ids_B), signals[name], mask_BT) if positions else (len(ids_B),)
            _check(name, signals[name], lead, shape)
            rows[name] = _real(signals[name], real_BT, positions)
        if logits is not None:
            drawn = None if uniforms is None else _real(uniforms, real_BT, logits.positions)
            self._logits.append(_kept(rows["logits"], logits, drawn))
        for name in kept.taps:
            self._taps[name].append(rows[name].cpu())
        if real_BT is not None:
            self._lengths.append(real_BT.sum(1).cpu())
        self._ids.append(ids_B.cpu())

    def _lead(self, samples: int, signal: Tensor, mask_BT: Tensor | None) -> tuple[int, int]:
        """Samples and positions that a signal must have: those of the mask, or as many positions as the first batch had."""
        if self.kept.ragged and mask_BT is not None:
            return samples, mask_BT.shape[1]
        if self._positions is None:
            self._positions = signal.shape[1] if signal.ndim > 1 else 0
        return samples, self._positions

    def tensors(self) -> dict[str, Tensor]:
        """All that was added, by the names that it has in the file.

        Raises:
            BadInput: a number is too large for the precision in which it is kept.
        """
        made = {"id": torch.cat(self._ids)}
        if self._lengths:
            made["lengths"] = torch.cat(self._lengths).to(torch.int32)
        for name, tap in self.kept.taps.items():
            made |= {f"tap.{name}{suffix}": t for suffix, t in coded(torch.cat(self._taps[name]), tap.precision, tap.positions).items()}
        if self._logits:
            made |= {f"logits{suffix}": torch.cat([each[suffix] for each in self._logits]) for suffix in self._logits[0]}
        return made


def _kept(rows: Tensor, logits: KeptLogits, uniforms: Tensor | None) -> dict[str, Tensor]:
    """Rows of logits as they are kept, on the CPU."""
    if logits.form == "dense":
        return coded(rows.cpu(), logits.precision, logits.positions)
    if logits.form == "top-k":
        sparse = top_k(rows, logits.kept, logits.temperature)
    elif uniforms is None:
        raise BadInput("sampled logits need uniform numbers, one a row of logits")
    else:
        sparse = sampled(rows, logits.kept, uniforms.to(rows.device), logits.temperature)
    return {f".{name}": tensor for name, tensor in pack(sparse.to("cpu"), logits.precision).items()}


def _check(name: str, signal: Tensor, lead: tuple[int, ...], shape: tuple[int, ...]) -> None:
    if tuple(signal.shape) != (*lead, *shape):
        raise ShapeMismatch(
            f"the teacher's signal at {name!r} has shape {tuple(signal.shape)} in this batch, but {shape} a sample in the first one "
            f"(expected {(*lead, *shape)}); a cache keeps signals of one shape"
        )
    if signal.dtype not in FLOATS:
        raise BadInput(f"the teacher's signal at {name!r} is of {signal.dtype}; a cache keeps {', '.join(map(str, FLOATS))}")
    if not signal.isfinite().all():
        raise BadInput(f"the teacher gives NaN or infinite numbers at {name!r}; they cannot be taught")


def _positions(mask_BT: Tensor | None, samples: int) -> Tensor:
    if mask_BT is None or mask_BT.ndim != 2 or len(mask_BT) != samples:
        raise BadInput("samples of different lengths need a column 'mask' of shape (B, T) that says which positions are real")
    return mask_BT.bool()


def _real(signal: Tensor, real_BT: Tensor | None, positions: bool) -> Tensor:
    """A signal as it is; of ragged samples their real positions, one after the other."""
    return signal if real_BT is None or not positions else signal[real_BT]
