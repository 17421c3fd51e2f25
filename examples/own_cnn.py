"""Two nets of your own: a big one is trained and teaches a small one, on scikit-learn's digits.

    python examples/own_cnn.py

writes runs/own-cnn (the student is in runs/own-cnn/model, the report in runs/own-cnn/report.html) and prints how good the teacher, the
student alone and the student taught are. The same without a line of Python around the nets:

    tutelage distill --teacher examples/own_cnn.py:big --train-teacher --student examples/own_cnn.py:small --data digits --out runs/own-nets
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

import tutelage


class Net(nn.Module):
    """Any module that turns images (B, 1, 8, 8) into logits (B, classes)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.early = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.late = nn.Sequential(nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU())
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits; taps such as "early" and "late" are read by hooks, so nothing else need be returned."""
        return self.head(self.late(self.early(x_BCHW)).mean((2, 3)))


def big(width: int = 32, classes: int = 10) -> nn.Module:
    """The teacher."""
    return Net(width, classes)


def small(width: int = 4, classes: int = 10) -> nn.Module:
    """The student."""
    return Net(width, classes)


def main(epochs: float = 30, out: str = "runs/own-cnn") -> None:
    """Train both, compare, print."""
    fit = tutelage.Fit(epochs=float(epochs), lr=1e-2)
    result = tutelage.distill(big(), small(), "digits", train_teacher=True, teacher_fit=fit, fit=fit, temperature=3.0, out=out)
    for name in result.report["models"]:
        print(f"{name}: {result.report[name]['accuracy']:.1%} right, {result.report[name]['parameters']:,} parameters")
    student = result.model.module.eval()  # your own class, trained; nothing was wrapped or edited
    with torch.no_grad():
        print("classes of blank images:", student(torch.zeros(2, 1, 8, 8)).argmax(1).tolist())


if __name__ == "__main__":
    main(*sys.argv[1:])
