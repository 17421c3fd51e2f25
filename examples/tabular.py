"""A table: scikit-learn's breast cancer data as a CSV file, a wide net that learns it, and a tiny one that learns from both.

    python examples/tabular.py data/cancer.csv
    tutelage data csv:data/cancer.csv --data.label diagnosis
    tutelage distill --teacher mlp:width=64,depth=3 --train-teacher --student mlp:width=4 --lr 1e-2 \\
        --data csv:data/cancer.csv --data.label diagnosis --out runs/cancer
    python examples/tabular.py data/cancer.csv runs/cancer

The first command writes the file, the second shows what is in it, the third trains and writes runs/cancer, and the last one, with a run
folder, builds the student again and prints what it says of the first rows. Tables need: pip install 'tutelage[tables]'.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import torch
from sklearn.datasets import load_breast_cancer

from tutelage.jobs.models import model_from
from tutelage.jobs.sources import data_from


def write(file: Path) -> None:
    """Write the table: thirty numbers a row, and the diagnosis."""
    bunch = load_breast_cancer()
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow([*(name.replace(" ", "_") for name in bunch.feature_names), "diagnosis"])
        writer.writerows([*row, bunch.target_names[label]] for row, label in zip(bunch.data, bunch.target, strict=True))


def predict(file: Path, run: Path) -> list[str]:
    """What a run's student says of the first five rows of its test split; the numbers are standardised as in training."""
    data = data_from(f"csv:{file}:label=diagnosis")
    student = model_from(run, "student", data=data, seed=0)
    batch = (data.test or data.train).batch(torch.arange(5))
    with student.mode(training=False), torch.no_grad():
        chosen = student.observe(batch, {"logits"})["logits"].argmax(1)
    return [data.classes[i] for i in chosen.tolist()]


def main(file: str = "data/cancer.csv", run: str = "") -> None:
    """Write FILE where it is not there yet; with RUN, print its predictions."""
    if not Path(file).is_file():
        write(Path(file))
        print(file)
    if run:
        print(predict(Path(file), Path(run)))


if __name__ == "__main__":
    main(*sys.argv[1:])
