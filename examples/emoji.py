"""Emoji in colour as a folder of images, one sub-folder a category, from the npm package emoji-datasource-google (or -twitter).

    npm pack emoji-datasource-google@16.0.0 && tar xzf emoji-datasource-google-16.0.0.tgz
    python examples/emoji.py package data/emoji
    tutelage distill --teacher examples/nets.py:efficientnet --train-teacher --teacher-fit.lr 1e-3 --teacher-fit.epochs 5 \\
        --student resnet:depth=8 --data folder:data/emoji --data.augment flip,shift=4 --out runs/emoji
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path


def main(package: str = "package", out: str = "data/emoji", style: str = "google") -> None:
    """Copy the 64x64 images of all emoji into OUT/CATEGORY/."""
    source = Path(package)
    for emoji in json.loads((source / "emoji.json").read_text(encoding="utf8")):
        if emoji["category"] == "Component" or not emoji[f"has_img_{style}"]:
            continue
        target = Path(out) / emoji["category"].replace(" & ", " and ")
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / "img" / style / "64" / emoji["image"], target)
    print(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
