"""A text classifier from a Hugging Face encoder: it is trained, teaches its own first two layers, and these run without tutelage.

    pip install 'tutelage[hf,tables]'
    python examples/text_classifier.py MODEL TEXTS [OUT]

MODEL is an encoder's folder or its name on the hub, such as sentence-transformers/all-MiniLM-L6-v2; TEXTS a CSV file with the columns text
and label, such as data/reuters-r8-train.csv, which examples/reuters.py makes. It writes OUT (default: runs/texts) and prints the table of
the report, then what the student, loaded by transformers alone from OUT/model, says of the first texts. On the command line:

    tutelage distill --teacher hf:MODEL --train-teacher --student hf:MODEL:num_hidden_layers=2 --data csv:TEXTS --out runs/texts
"""

from __future__ import annotations

import csv
import sys

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import tutelage
from tutelage.cli.tables import print_report


def main(model: str, texts: str, out: str = "runs/texts", epochs: float = 3, length: int = 64) -> list[str]:
    """Distil, then classify without tutelage.

    Args:
        model: folder or name of the encoder.
        texts: CSV file with the columns text and label.
        out: the run folder.
        epochs: of the teacher's and of the student's training.
        length: tokens after which a text is cut.
    """
    fit = tutelage.Fit(epochs=float(epochs), lr=1e-4, optimizer="adamw", batch_size=16, warmup=0.1)
    teacher, student = f"hf:{model}:max_length={length}", f"hf:{model}:num_hidden_layers=2,max_length={length}"
    made = tutelage.distill(teacher, student, f"csv:{texts}", train_teacher=True, teacher_fit=fit, fit=fit, temperature=2.0, out=out)
    print_report(made.report)

    tokenizer = AutoTokenizer.from_pretrained(f"{out}/model")
    classifier = AutoModelForSequenceClassification.from_pretrained(f"{out}/model").eval()
    with open(texts, encoding="utf8", newline="") as file:
        some = [row["text"] for row, _ in zip(csv.DictReader(file), range(5), strict=False)]
    with torch.no_grad():
        logits = classifier(**tokenizer(some, padding=True, truncation=True, max_length=length, return_tensors="pt")).logits
    said = [classifier.config.id2label[i] for i in logits.argmax(-1).tolist()]
    for label, text in zip(said, some, strict=True):
        print(f"{label}: {text[:70]}")
    return said


if __name__ == "__main__":
    main(*sys.argv[1:])
