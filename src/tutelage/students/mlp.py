"""A multilayer perceptron over flattened inputs."""

from __future__ import annotations

from torch import nn

from tutelage.errors import BadInput
from tutelage.students.takes import takes


@takes("images", "numbers")
def mlp(*, classes: int = 10, inputs: int = 64, width: int = 32, depth: int = 1, dropout: float = 0.0) -> nn.Module:
    """A multilayer perceptron: `depth` hidden layers of `width` with ReLU, over the flattened input.

    Args:
        classes: number of classes.
        inputs: numbers in one sample.
        width: units of each hidden layer.
        depth: number of hidden layers.
        dropout: share of hidden units left out while training, in [0, 1).

    Raises:
        BadInput: a size below 1, or a dropout outside [0, 1).
    """
    if min(classes, inputs, width, depth) < 1 or not 0 <= dropout < 1:
        raise BadInput(f"mlp(width={width}, depth={depth}, dropout={dropout}): sizes must be at least 1, dropout in [0, 1)")
    layers: list[nn.Module] = [nn.Flatten()]
    taken = inputs
    for _ in range(depth):
        layers += [nn.Linear(taken, width), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        taken = width
    return nn.Sequential(*layers, nn.Linear(taken, classes))
