"""Search spaces: which nets a search may choose from. A candidate is one value of each choice, and stands for a spec like `resnet:width=8`.

Built in are residual networks and small vision transformers; a user's own is a function that gives a `Space`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from tutelage.errors import BadInput
from tutelage.students.takes import takes

Value: TypeAlias = "int | float | str | bool"
Candidate: TypeAlias = "dict[str, Value]"


@dataclass(frozen=True)
class Space:
    """Choices, and what a candidate is called.

    Args:
        choices: by name, the values that there are; cheap ones first where there is an order.
        spec: what a candidate is built from: a text with the names of choices in braces ("cnn:width={width},depth={depth}"), or a function
            of a candidate that gives such a text, which may be anything that `--student` takes.
        name: how messages call the space.

    Raises:
        BadInput: no choice, a choice without values, or with a value twice; a text that names no choice.
    """

    choices: Mapping[str, Sequence[Value]]
    spec: str | Callable[[Candidate], str]
    name: str = "space"

    def __post_init__(self) -> None:
        if not isinstance(self.choices, Mapping) or not self.choices:
            raise BadInput(f"{self.name} has no choices; expected names with values, such as {{'width': (4, 8, 16)}}")
        for key, values in self.choices.items():
            if isinstance(values, str) or not isinstance(values, Sequence) or not values:
                raise BadInput(f"{self.name}: {key}={values!r}; expected a few values, such as (4, 8, 16)")
            if not all(isinstance(v, (int, float, str, bool)) for v in values) or len({repr(v) for v in values}) < len(values):
                raise BadInput(f"{self.name}: {key}={list(values)!r}; expected numbers or words, each once")
        self.written({key: values[0] for key, values in self.choices.items()})

    @property
    def size(self) -> int:
        """How many candidates there are; several may stand for the same net."""
        return math.prod(len(values) for values in self.choices.values())

    def written(self, candidate: Mapping[str, Value]) -> str:
        """The spec that a candidate stands for.

        Raises:
            BadInput: the space cannot say it.
        """
        try:
            found = self.spec.format(**candidate) if isinstance(self.spec, str) else self.spec(dict(candidate))
        except Exception as error:
            raise BadInput(f"{self.name} cannot write {dict(candidate)}: {type(error).__name__}: {error}") from error
        if not isinstance(found, str) or not found:
            raise BadInput(f"{self.name} writes {dict(candidate)} as {found!r}; expected a text such as 'cnn:width=4'")
        return found

    def sample(self, draw: torch.Generator) -> Candidate:
        """Draw a candidate, every value of a choice as likely as the others."""
        return {key: values[_drawn(len(values), draw)] for key, values in self.choices.items()}

    def mutate(self, candidate: Mapping[str, Value], draw: torch.Generator) -> Candidate:
        """Change one choice to another value; a space of one candidate gives it back."""
        open_ = [key for key, values in self.choices.items() if len(values) > 1]
        if not open_:
            return dict(candidate)
        key = open_[_drawn(len(open_), draw)]
        others = [v for v in self.choices[key] if v != candidate[key] or type(v) is not type(candidate[key])]
        return {**candidate, key: others[_drawn(len(others), draw)]}

    def cross(self, first: Mapping[str, Value], second: Mapping[str, Value], draw: torch.Generator) -> Candidate:
        """Take each choice from one of two candidates."""
        return {key: (first, second)[_drawn(2, draw)][key] for key in self.choices}

    def encode(self, candidate: Mapping[str, Value]) -> tuple[int, ...]:
        """The places of a candidate's values among the choices.

        Raises:
            BadInput: a value that the space has not.
        """
        try:
            return tuple([repr(v) for v in values].index(repr(candidate[key])) for key, values in self.choices.items())
        except (KeyError, ValueError):
            raise BadInput(f"{dict(candidate)} is no candidate of {self.name}") from None

    def decode(self, places: Sequence[int]) -> Candidate:
        """The candidate of these places."""
        return {key: values[place] for (key, values), place in zip(self.choices.items(), places, strict=True)}

    def every(self) -> Iterator[Candidate]:
        """All candidates, the first values first."""
        for values in itertools.product(*self.choices.values()):
            yield dict(zip(self.choices, values, strict=True))


@takes("images")
def resnet(
    *,
    blocks: Sequence[int] = (1, 2, 3, 5, 7),
    widths: Sequence[int] = (4, 6, 8, 12, 16, 24, 32, 48, 64),
    grows: Sequence[float] = (1.0, 1.5, 2.0),
    stages: int = 3,
) -> Space:
    """Residual networks whose stages have depths and widths of their own.

    Args:
        blocks: residual blocks that a stage may have.
        widths: channels that the first stage may have.
        grows: how many times as wide as the one before each other stage may be; at least 1.
        stages: how many stages.

    Source: the space S0 of Dong et al., "DisWOT", 2023, is blocks=[1,3,5,7], one width, grows=[2].
    """
    if not isinstance(stages, int) or not 1 <= stages <= 8 or min(_listed("grows", grows)) < 1:
        raise BadInput(f"space resnet: stages={stages!r}, grows={grows!r}; expected 1 to 8 stages, and factors of at least 1")
    numbers = range(1, stages + 1)
    choices: dict[str, Sequence[Value]] = {f"blocks{i}": _listed("blocks", blocks) for i in numbers}
    choices |= {"width": _listed("widths", widths)} | {f"grow{i}": _listed("grows", grows) for i in numbers if i > 1}

    def spec(candidate: Candidate) -> str:
        wide = [int(candidate["width"])]
        for i in list(numbers)[1:]:
            wide.append(int(wide[-1] * float(candidate[f"grow{i}"])))
        deep = [candidate[f"blocks{i}"] for i in numbers]
        return f"resnet:blocks={deep},widths={wide}".replace(" ", "")

    return Space(choices, spec, "space resnet")


@takes("images")
def vit(
    *,
    size: int = 8,
    widths: Sequence[int] = (16, 24, 32, 48, 64, 96),
    depths: Sequence[int] = (1, 2, 3, 4, 6),
    heads: Sequence[int] = (1, 2, 4),
    ratios: Sequence[float] = (1.0, 2.0, 4.0),
    patches: Sequence[int] | None = None,
) -> Space:
    """Small vision transformers.

    Args:
        size: side of the images, in pixels; it comes from the data.
        widths: numbers that a token may have; all heads must divide all of them.
        depths: encoder blocks.
        heads: attention heads.
        ratios: hidden units of a block's MLP, as factors on the width.
        patches: sides of a token's square; default: all that cut the image into 4 to 256 tokens.
    """
    fits = [p for p in range(size, 0, -1) if size % p == 0 and 4 <= (size // p) ** 2 <= 256]
    chosen = fits if patches is None else _listed("patches", patches)
    if not chosen or any(not isinstance(p, int) or p < 1 or size % p for p in chosen):
        raise BadInput(f"space vit: patches={patches!r} do not cut images of side {size} into squares; expected some of {fits}")
    if any(w % h for w in _listed("widths", widths) for h in _listed("heads", heads)):
        raise BadInput(f"space vit: widths={list(widths)}, heads={list(heads)}; expected heads that divide every width")
    choices: dict[str, Sequence[Value]] = {"patch": chosen, "width": widths, "depth": depths, "heads": heads, "mlp_ratio": ratios}
    return Space(choices, "vit:patch={patch},width={width},depth={depth},heads={heads},mlp_ratio={mlp_ratio}", "space vit")


SPACES: dict[str, Callable[..., Space]] = {"resnet": resnet, "vit": vit}
"""Built-in spaces by name."""


def _listed(name: str, values: Any) -> Sequence[Any]:
    """Values as a user writes them: several, or one."""
    if isinstance(values, (int, float)):
        return [values]
    listed = isinstance(values, (list, tuple)) and values
    if listed and all(isinstance(v, (int, float)) and not isinstance(v, bool) and v > 0 for v in values):
        return values
    raise BadInput(f"{name}={values!r}; expected numbers above 0, such as [1,2,4]")


def _drawn(count: int, draw: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=draw))
