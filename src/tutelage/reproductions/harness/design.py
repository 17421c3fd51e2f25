"""What a reproduction is made of: arms on equal terms, what is measured of each, and the predictions, all stated before any result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tutelage.data import Data
from tutelage.errors import BadInput, nearest
from tutelage.evaluation import Predictions, measure, predict
from tutelage.recipes import Paper, load
from tutelage.reproductions.harness.predictions import Prediction
from tutelage.signals import Model
from tutelage.teachers import Teacher
from tutelage.training import Plan

NUMBERS = ("accuracy", "nll", "ece", "agreement")


@dataclass(frozen=True)
class Arm:
    """One way of training, or of not training.

    Args:
        about: what it is, in a few words.
        student: spec of the net that learns; of a fixture that is only measured, empty.
        recipe: a recipe's name, or a function marked with `@recipe`; None measures the fixture as it is.
        fixture: name of what it learns from.
        knobs: the recipe's; a mapping for a Fit changes what it names.
        tries: knobs to choose from on the validation split of tuning seeds; every arm with any has equally many.
        data: what it studies, as a function of the seed; None takes the reproduction's.
        start: name of a fixture of the same architecture whose weights the student begins with; None draws them.
        seed: of a fixture: the one seed that it is made under, for all; None makes one for each.
        unequal: why its product has another number of updates than the others', where that is fair; empty where it has not.
        teachers: fixtures by the recipe's roles, where it learns from several.
    """

    about: str
    student: str = ""
    recipe: str | Callable[..., Plan] | None = None
    fixture: str | None = None
    knobs: Mapping[str, Any] = field(default_factory=dict)
    tries: Sequence[Mapping[str, Any]] = ()
    data: Callable[[int], Data] | None = None
    start: str | None = None
    seed: int | None = None
    unequal: str = ""
    teachers: Mapping[str, str] = field(default_factory=dict)

    def fixtures(self) -> list[str]:
        """The fixtures that it needs."""
        return [name for name in (self.fixture, *self.teachers.values(), self.start) if name is not None]


@dataclass(frozen=True)
class Made:
    """What an arm made, to be measured.

    Args:
        product: the model.
        data: what it studied.
        shown: what it says of the test split.
        plan: what was carried out; None for a fixture that is measured as it is.
        teacher: the fixture that it learned from.
    """

    product: Model
    data: Data
    shown: Predictions
    plan: Plan | None
    teacher: Model | None


def outcome(made: Made) -> dict[str, float]:
    """Accuracy, nats and calibration error on test, and agreement with the teacher where there is one: what most claims speak of."""
    assert made.data.test is not None
    teacher = None if made.teacher is None else predict(made.teacher, made.data.test)
    found = measure(made.shown, teacher)
    for name, thing in ({} if made.plan is None else made.plan.also).items():
        if isinstance(thing, (Model, Teacher)) and thing is not made.product:
            found |= {f"{name} {k}": v for k, v in measure(predict(thing, made.data.test)).items()}
    return {name: value for name, value in found.items() if name.rpartition(" ")[2] in NUMBERS}


@dataclass(frozen=True)
class Reproduction:
    """A claim, and how it is measured.

    Args:
        claim: what is predicted here, in a sentence.
        bench: data, models and updates, in a sentence.
        data: what is studied, as a function of the seed.
        arms: by name.
        predictions: at least one; the claim holds where all do.
        seeds: how many are compared; they count from 0.
        minutes: time on two cores, about.
        recipe: the recipe whose claim it is; default: that of the file's name.
        source: where the claim comes from, if it is no recipe's but a command's; there is no recipe then.
        fixtures: what arms share, by name: trained once for each seed and kept.
        measured: what is measured of each arm.
        tuning_seeds: how many other seeds the tries are compared on.
        reported: metrics that are shown without a prediction.
        prefix: updates of each stage that `--check` replays.

    Raises:
        BadInput: an arm without a fair comparison: another number of tries, a fixture that is not there, no predictions.
    """

    claim: str
    bench: str
    data: Callable[[int], Data]
    arms: Mapping[str, Arm]
    predictions: Sequence[Prediction]
    seeds: int
    minutes: float
    recipe: str = ""
    source: Paper | None = None
    fixtures: Mapping[str, Arm] = field(default_factory=dict)
    measured: Callable[[Made], Mapping[str, float]] = outcome
    tuning_seeds: int = 1
    reported: Sequence[str] = ("accuracy",)
    prefix: int = 5

    def __post_init__(self) -> None:
        if not self.predictions or self.seeds < 2:
            raise BadInput("a reproduction needs at least one prediction and two seeds")
        tried = {len(arm.tries) for arm in self.arms.values() if arm.recipe is not None}
        if len(tried) > 1:
            raise BadInput(f"the arms are not tuned alike: they have {' or '.join(map(str, sorted(tried)))} tries; give all equally many")
        for name, arm in {**self.arms, **self.fixtures}.items():
            for needed in arm.fixtures():
                if needed not in self.fixtures:
                    raise BadInput(f"{name!r} needs {needed!r}, which is no fixture{nearest(needed, self.fixtures)}")
            if arm.start is not None and self.fixtures[arm.start].student != arm.student:
                raise BadInput(f"{name!r} is {arm.student} and cannot begin with the weights of {arm.start!r}, another net")
            if (arm.recipe is None) == bool(arm.student) or (arm.recipe is None and arm.fixture is None):
                raise BadInput(f"{name!r}: give a recipe and a student, or a fixture alone, which is then measured as it is")

    @property
    def tuned(self) -> bool:
        """Whether arms have knobs to choose from."""
        return any(arm.tries for arm in self.arms.values())

    def seed_of(self, fixture: str, seed: int) -> int:
        """The seed that a fixture is made under, for an arm of a seed."""
        own = self.fixtures[fixture].seed
        return seed if own is None else own

    def paper(self) -> Paper | None:
        """Where the claim comes from."""
        return load(self.recipe).about.paper if self.recipe else self.source  # type: ignore[attr-defined]


def each_try(**values: Sequence[Any]) -> list[dict[str, Any]]:
    """Tries of one knob, or of several that move together: `each_try(**{"fit.lr": (0.003, 0.01)})`, a dot reaching into a Fit.

    Raises:
        BadInput: several knobs of different lengths.
    """
    if len({len(v) for v in values.values()}) != 1:
        raise BadInput(f"tries of {', '.join(values)}: expected equally many values of each")
    found: list[dict[str, Any]] = []
    for row in zip(*values.values(), strict=True):
        knobs: dict[str, Any] = {}
        for name, value in zip(values, row, strict=True):
            head, dot, rest = name.partition(".")
            if dot:
                knobs.setdefault(head, {})[rest] = value
            else:
                knobs[head] = value
        found.append(knobs)
    return found
