"""From what a teacher shows, batch by batch, to the tensors of a shard. Shapes: B batch, T positions, V classes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.signals.cache.about import KeptLogits, KeptSplit, KeptTap
from tutelage.signals.cache.codes import DTYPES, coded, narrow, pack
from tutelage.signals.sparse import SparseLogits, sampled, top_k


class Shard:
    """A shard that is being filled.

    Args:
        kept: how the split's signals are kept.
    """

    def __init__(self, kept: KeptSplit) -> None:
        self.kept = kept
        self._ids: list[Tensor] = []
        self._lengths: list[Tensor] = []
        self._logits: list[Tensor | SparseLogits] = []
        self._taps: dict[str, list[Tensor]] = {name: [] for name in kept.taps}

    def add(self, ids_B: Tensor, signals: Mapping[str, Tensor], *, uniforms: Tensor | None = None, mask_BT: Tensor | None = None) -> None:
        """Take the signals of a batch.

        Args:
            ids_B: int64.
            signals: dense logits under "logits", the others by the names of the taps.
            uniforms: for sampled logits, in [0, 1), one a row of logits: (B,) or (B, T).
            mask_BT: of ragged samples, which positions are real: a sample's first ones.

        Raises:
            ShapeMismatch: a signal has another shape than the description says.
            BadInput: a signal is NaN or infinite, or a mask has holes.
        """
        lengths_B = None
        if self.kept.ragged:
            lengths_B = _lengths(mask_BT)
            self._lengths.append(lengths_B.cpu())
        self._ids.append(ids_B.cpu())
        for name, tap in self.kept.taps.items():
            _check(name, signals[name], tap.shape, tap.positions)
            self._taps[name].append(_real(signals[name], lengths_B, tap.positions).cpu())
        logits = self.kept.logits
        if logits is not None:
            _check("logits", signals["logits"], (logits.classes,), logits.positions)
            rows = _real(signals["logits"], lengths_B, logits.positions)
            drawn = None if uniforms is None else _real(uniforms, lengths_B, logits.positions)
            self._logits.append(_kept(rows, logits, drawn))

    def tensors(self) -> dict[str, Tensor]:
        """All that was added, by the names that it has in the file."""
        made = {"id": torch.cat(self._ids)}
        if self._lengths:
            made["lengths"] = torch.cat(self._lengths).to(torch.int32)
        for name, tap in self.kept.taps.items():
            made |= {f"tap.{name}{suffix}": t for suffix, t in coded(torch.cat(self._taps[name]), tap.precision, tap.positions).items()}
        logits = self.kept.logits
        if logits is not None and logits.form == "dense":
            dense = torch.cat([each for each in self._logits if isinstance(each, Tensor)])
            made["logits"] = coded(dense, logits.precision, logits.positions)[""]
        elif logits is not None:
            packed = [pack(each, logits.precision) for each in self._logits if isinstance(each, SparseLogits)]
            made |= {f"logits.{name}": torch.cat([each[name] for each in packed]) for name in packed[0]}
        return made


def _kept(rows: Tensor, logits: KeptLogits, uniforms: Tensor | None) -> Tensor | SparseLogits:
    if logits.form == "dense":
        return rows.cpu()
    if logits.form == "top-k":
        return top_k(rows, logits.kept, logits.temperature).to("cpu")
    assert uniforms is not None
    return sampled(rows, logits.kept, uniforms.to(rows.device), logits.temperature).to("cpu")


def _check(name: str, signal: Tensor, shape: tuple[int, ...], positions: bool) -> None:
    if tuple(signal.shape[2 if positions else 1 :]) != tuple(shape):
        raise ShapeMismatch(
            f"the teacher's signal at {name!r} has shape {tuple(signal.shape)} in this batch, but {tuple(shape)} a sample "
            "in the first one; a cache keeps signals of one shape"
        )
    if not signal.isfinite().all():
        raise BadInput(f"the teacher gives NaN or infinite numbers at {name!r}; they cannot be taught")


def _lengths(mask_BT: Tensor | None) -> Tensor:
    if mask_BT is None or mask_BT.ndim != 2:
        raise BadInput("samples of different lengths need a column 'mask' of shape (B, T) that says which positions are real")
    real_BT = mask_BT.bool()
    lengths_B = real_BT.sum(1)
    if (real_BT != (torch.arange(real_BT.shape[1], device=real_BT.device) < lengths_B[:, None])).any():
        raise BadInput("the mask of a sample has holes; a cache keeps a sample's first positions, so real ones must come first")
    return lengths_B


def _real(signal: Tensor, lengths_B: Tensor | None, positions: bool) -> Tensor:
    """A signal as it is; of ragged samples their real positions, one after the other."""
    if lengths_B is None or not positions:
        return signal
    return signal[torch.arange(signal.shape[1], device=signal.device) < lengths_B[:, None]]


def bytes_a_sample(kept: KeptSplit, positions: float = 1.0, dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """How many bytes one sample takes in one view, by signal: "logits", and each tap by its name.

    Args:
        kept: how they are kept.
        positions: of a sample, on average, where there are any.
        dtype: of the teacher's numbers, for what is kept in full.
    """
    sizes = {}
    if kept.logits is not None:
        sizes["logits"] = bytes_a_row(kept.logits, dtype) * (positions if kept.logits.positions else 1)
    for name, tap in kept.taps.items():
        sizes[name] = _tap_bytes(tap, dtype) * (positions if tap.positions else 1)
    return sizes


def bytes_a_row(logits: KeptLogits, dtype: torch.dtype = torch.float32) -> int:
    """How many bytes one row of logits takes: one sample, or one token."""
    if logits.form == "dense":
        return logits.classes * _width(logits.precision, dtype)
    dtype = dtype if dtype == torch.float64 else torch.float32
    number = 1 if logits.precision == "8-bit" else _width(logits.precision, dtype)
    rest = 2 if logits.precision == "8-bit" else number
    return logits.kept * (narrow(torch.zeros(1, dtype=torch.int64), logits.classes).element_size() + number) + rest


def _tap_bytes(tap: KeptTap, dtype: torch.dtype) -> int:
    return math.prod(tap.shape) * (1 if tap.precision == "8-bit" else _width(tap.precision, dtype))


def _width(precision: str, dtype: torch.dtype) -> int:
    return DTYPES.get(precision, dtype).itemsize
