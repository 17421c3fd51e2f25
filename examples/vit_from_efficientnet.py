"""A small vision transformer learns from the features of a convolutional net, place by place: a recipe of your own.

    tutelage distill --recipe examples/vit_from_efficientnet.py:into_vit --teacher examples/nets.py:efficientnet --train-teacher \\
        --teacher-fit.lr 1e-3 --teacher-fit.epochs 5 --student vit:patch=2,depth=4 --data digits --hint _blocks.10 --out runs/vit

prints the table of the report and writes runs/vit. The packages of the teacher stand in examples/nets.py; any other convolutional net
does, such as `--teacher cnn:width=32` without --hint. `tutelage taps examples/nets.py:efficientnet` lists the places for --hint.
A recipe is a function that builds a plan: what stands before `*` are roles, what stands after it are options of the command line.
"""

from __future__ import annotations

from tutelage.data import Data
from tutelage.objectives import CrossEntropy, Match, cosine, grid_conv, soft_targets
from tutelage.recipes import recipe
from tutelage.signals import Depth, Model
from tutelage.teachers import Teacher
from tutelage.training import Fit, Learner, Plan, Stage


@recipe(matches="features and logits", needs_labels=True)
def into_vit(
    teacher: Teacher,
    student: Model,
    data: Data,
    *,
    hint: str | None = None,
    guided: str = "blocks.1",
    temperature: float = 4.0,
    weight: float = 1.0,
    fit: Fit = Fit(epochs=30, lr=1e-3, optimizer="adamw", warmup=0.1),
) -> Plan:
    """Match the tokens of a transformer's block with a convolutional map, and the logits with soft targets.

    Args:
        teacher: a convolutional classifier.
        student: a transformer whose tokens are the squares of the image, such as vit.
        data: images with labels.
        hint: module path in the teacher, a map (B, C, H, W); default: at half of its depth.
        guided: module path in the student, tokens (B, T, D).
        temperature: softens both sides' probabilities, > 0.
        weight: of the features.
        fit: duration and optimizer.
    """
    # the tokens are laid out as the map of their squares, then a convolution brings them to the teacher's channels
    features = Match(guided, hint or Depth(0.5), through=grid_conv(), by=cosine(), name="features")
    loss = CrossEntropy() + Match("logits", by=soft_targets(temperature), name="soft-targets") + weight * features
    return Plan([Stage("distil", Learner(student, loss, teacher), fit, data.train)], student)
