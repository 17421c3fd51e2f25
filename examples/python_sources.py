"""Python's own standard library as text for a language model: JSON lines, a file of the library in each.

    python examples/python_sources.py data/python.jsonl
    tutelage distill --recipe lm-kd --teacher hf:SMOLLM2 --student hf:SMOLLM2:layers=10 --data lessons:data/python.jsonl \\
        --data.length 256 --data.packing first-fit --epochs 1 --batch-size 4 --lr 6e-4 --fit.warmup 0.1 --out runs/smollm2

prints how much there is: `44 files, 0.70 MB`. SMOLLM2 is a folder with a causal language model, or a GGUF file
of one. What came of it on two processor cores, after about an hour, is in reports/smollm2.html.
"""

from __future__ import annotations

import json
import random
import sys
import sysconfig
from pathlib import Path

LEFT_OUT = {"test", "tests", "__pycache__", "site-packages", "dist-packages", "idlelib", "lib2to3", "turtledemo", "encodings", "pydoc_data"}
CHARACTERS = 660_000


def main(target: str, characters: str = str(CHARACTERS)) -> None:
    """Write files of middling length, in an order that is the same everywhere, until there are enough characters."""
    library = Path(sysconfig.get_path("stdlib"))
    files = sorted(p for p in library.rglob("*.py") if not LEFT_OUT & set(p.relative_to(library).parts))
    random.Random(0).shuffle(files)
    texts: list[str] = []
    for file in files:
        if sum(map(len, texts)) > int(characters):
            break
        text = file.read_text(errors="ignore")
        if 2_000 <= len(text) <= 60_000:
            texts.append(text)
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    print(f"{len(texts)} files, {sum(map(len, texts)) / 1e6:.2f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
