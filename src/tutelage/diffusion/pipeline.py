"""Denoisers of the package diffusers: `diffusers:FOLDER_OR_ID`, a saved pipeline of an image U-Net and its noise scheduler.

What the scheduler says of noise and of what the net predicts is translated; sampling stays ours. Shapes: B images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.diffusion.sampler import Sampler
from tutelage.diffusion.schedule import NoiseSchedule
from tutelage.errors import BadInput, MissingFile, in_short
from tutelage.extras import needed
from tutelage.signals import RESERVED, Batch, Model

NET = "UNet2DModel"
PREDICTS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
"""What a net predicts, as diffusers calls it and as we do."""
STEPS = 50


class PipelineNet(nn.Module):
    """A U-Net of diffusers as a denoiser of `(x, t, label)`.

    Args:
        unet: a `UNet2DModel`.
        predicts: eps, x0 or v.
        noise: its schedule, or the name of one of ours.
        times: of the schedule.
        null: whether its last class means none, as guidance needs.

    Attributes:
        classes: how many there are, none left out.
        shape: of an image, None where the net does not say.
        inner: module path and channels of the innermost features.
    """

    def __init__(self, unet: nn.Module, predicts: str, noise: NoiseSchedule | str, times: int, null: bool) -> None:
        super().__init__()
        config: Any = unet.config
        self.unet, self.predicts, self.noise, self.times, self.null = unet, predicts, noise, times, null
        known, side = config.num_class_embeds or 0, config.sample_size
        self.embeds = bool(known)
        self.classes = max(known - null, 0)
        size = (side, side) if isinstance(side, int) else side
        self.shape = None if size is None else (config.in_channels, *size)
        self.channels = config.in_channels
        self.inner = ("unet.mid_block", config.block_out_channels[-1])

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """A prediction of the shape of x; of a net that also says a variance, its mean.

        Args:
            x: noised images (B, C, H, W).
            t: times, int64 (B,).
            label: classes, int64 (B,); the number of classes itself means none.

        Raises:
            BadInput: none is asked for, but the net has no class that means none.
        """
        if self.embeds and not self.null and not label.is_meta and bool((label >= self.classes).any()):
            raise BadInput(
                f"a denoiser of {self.classes} classes was asked for images of none, which it does not know; give labels, drop no class "
                "(drop=0), and no guidance; or say null=true if its last class means none"
            )
        said: Tensor = self.unet(x, t, class_labels=label if self.embeds else None, return_dict=False)[0]
        return said[:, : self.channels]


def diffusers(where: str, *, null: bool = False, pretrained: bool = True, seed: int = 0, weights: Path | None = None) -> Model:
    """Make a handle on the denoiser of a saved pipeline.

    Args:
        where: folder of the pipeline, with `unet/` and `scheduler/`, or its id on the hub.
        null: its last class means none, as for nets that were trained for guidance.
        pretrained: read its weights; otherwise only its architecture and noise are taken, for a student that learns from scratch.
        seed: of weights that are drawn.
        weights: a file to read instead, which an earlier run wrote.

    Raises:
        BadInput: diffusers is missing, or a pipeline of another kind: another net, text as condition, a scheduler without variances.
        MissingFile: no such folder.
    """
    library = needed("diffusers", "diffusers", f"diffusers:{where}")
    net, noise = _config(library, where, "unet"), _config(library, where, "scheduler")
    kind = net.get("_class_name")
    if kind != NET:
        raise BadInput(f"diffusers:{where} has a {kind}; expected a {NET}, an image net without text as condition")
    if net.get("class_embed_type") not in (None, "learned"):
        raise BadInput(f"diffusers:{where} embeds classes as {net['class_embed_type']!r}; expected numbers of classes")
    if null and (net.get("num_class_embeds") or 0) < 2:
        raise BadInput(f"diffusers:{where} knows no classes, so none of them means none; leave out null=true")
    predicts, (schedule, times) = predicts_of(noise, where), schedule_of(library, noise, where)

    def blueprint() -> nn.Module:
        return PipelineNet(getattr(library, NET).from_config(net), predicts, schedule, times, null)

    def make() -> nn.Module:
        try:
            unet = getattr(library, NET).from_pretrained(where, subfolder="unet", use_safetensors=True, low_cpu_mem_usage=False)
        except (OSError, RuntimeError, ValueError) as error:
            raise BadInput(f"the weights of diffusers:{where} cannot be read: {in_short(error)}") from None
        return PipelineNet(unet, predicts, schedule, times, null)

    classes = max((net.get("num_class_embeds") or 0) - null, 0)
    made = Model(
        make if pretrained and weights is None else blueprint,
        name=where.rstrip("/").rpartition("/")[2],
        seed=seed,
        weights=weights,
        inputs=_inputs(times, classes if null else 0),
        trained=pretrained,
        blueprint=blueprint,
    )
    made.sampling = Sampler("ddim", min(STEPS, times)).said() if pretrained else {}
    return made


def predicts_of(config: Mapping[str, Any], where: str) -> str:
    """What the net predicts, of a scheduler's config.

    Raises:
        BadInput: something that we have no name for.
    """
    said = config.get("prediction_type", "epsilon")
    if said not in PREDICTS:
        raise BadInput(f"the scheduler of diffusers:{where} says prediction_type={said!r}; expected one of {', '.join(PREDICTS)}")
    return PREDICTS[said]


def schedule_of(library: Any, config: Mapping[str, Any], where: str) -> tuple[NoiseSchedule | str, int]:
    """The noise of a scheduler's config, by name where it is one of ours, and how many times it has.

    Raises:
        BadInput: a scheduler without variances, such as of EDM or of flows, or one whose last time keeps nothing of the image.
    """
    if "beta_schedule" not in config and not config.get("trained_betas"):
        raise BadInput(
            f"the scheduler of diffusers:{where}, {config.get('_class_name')}, has no variances of steps; expected one of DDPM's kind"
        )
    known = {k: v for k, v in config.items() if not k.startswith("_")}
    made = library.DDPMScheduler.from_config(known)
    times, own = int(made.config.num_train_timesteps), made.config
    plain = not own.trained_betas and not own.rescale_betas_zero_snr
    if plain and own.beta_schedule == "linear" and (own.beta_start, own.beta_end, times) == (1e-4, 0.02, 1000):
        return "linear", times
    if plain and own.beta_schedule == "squaredcos_cap_v2":
        return "cosine", times
    kept_T = torch.cumprod(1 - made.betas.double(), 0)
    if float(kept_T[-1]) <= 0:
        raise BadInput(
            f"the noise of diffusers:{where} keeps nothing of the image at its last time (rescale_betas_zero_snr), which a net that "
            f"predicts {PREDICTS.get(own.prediction_type, own.prediction_type)} cannot be asked at here; expected a little to be left"
        )
    return NoiseSchedule(kept_T, f"of {where}"), times


def _config(library: Any, where: str, part: str) -> dict[str, Any]:
    loader = getattr(library, NET if part == "unet" else "DDPMScheduler")
    folder = Path(where)
    if folder.is_dir() and not (folder / part).is_dir():
        raise BadInput(f"{where} holds no {part}/; expected a pipeline that diffusers saved, with unet/ and scheduler/")
    if not folder.exists() and (where.startswith((".", "/")) or where.count("/") != 1):
        raise MissingFile(f"diffusers:{where} does not exist; expected a pipeline's folder, or an id on the hub such as USER/NAME")
    try:
        found: dict[str, Any] = dict(loader.load_config(where, subfolder=part))
    except (OSError, ValueError) as error:
        raise BadInput(f"the {part} of diffusers:{where} cannot be read: {in_short(error)}") from None
    return found


def _inputs(times: int, none: int) -> Callable[[Batch], dict[str, Any]]:
    """What a net is called with; for samples that are images, these as if they were noise, so that it can be counted and timed."""

    def inputs(batch: Batch) -> dict[str, Any]:
        if "t" in batch:
            return {name: batch[name] for name in ("x", "t", "label")}
        images: Sequence[Tensor] = [v for k, v in batch.items() if k not in RESERVED and isinstance(v, Tensor) and v.ndim == 4]
        if len(images) != 1:
            raise BadInput(f"a denoiser takes images, one column (B, C, H, W), but the samples have {sorted(batch)}")
        every = torch.ones(len(images[0]), dtype=torch.int64, device=images[0].device)
        return {"x": 2 * images[0] - 1, "t": every * (times - 1), "label": every * none}

    return inputs
