"""`tutelage sample RUN`: let a trained generator draw images."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tutelage.cli.console import console
from tutelage.cli.parser import Parser, dashes_to_underscores, data_options
from tutelage.cli.words import flag
from tutelage.errors import BadInput, printable

EXAMPLES = """\
examples:
  tutelage sample runs/dmd --out images
  tutelage sample runs/teacher --count 100 --labels 3,7 --steps 20 --guidance 2 --out images
  tutelage sample runs/dmd --data digits --out images

A model draws as it was saved: a teacher by its sampler, a few-step generator at its own times. --steps takes another
number of evaluations where that makes sense. Image number i has the seed SEED + i, and is the same whatever is drawn
beside it. --data also says how near as many images come to real ones: Frechet and kernel distance, precision, recall.
"""

HELP = {
    "out": "a new folder for the images, their grid, and samples.json",
    "count": "images",
    "labels": "classes to draw in turn, by name or number: 3,7; or none; default: all",
    "steps": "evaluations of the net for an image; default: as it was saved",
    "guidance": "towards the class; default: as it was saved",
    "seed": "of the first image; the next ones have the following",
    "data": "also compare with these images",
    "batch_size": "images a pass",
    "device": "where to compute: auto takes an accelerator where there is one, or cpu",
    "trust_code": "let a run folder name a .py file whose code then runs",
    "json": "print JSON on stdout",
    "quiet": "print no progress",
}


def run(words: Sequence[str]) -> int:
    """Parse, draw, print."""
    words, changes = data_options(dashes_to_underscores(words))
    parser = Parser(prog="tutelage sample", description="Let a trained generator draw images.")
    parser.epilog = EXAMPLES
    parser.add_argument("model", type=str, metavar="RUN", help="a run folder of a recipe for generators")
    parser.add_argument("--out", type=str, metavar="FOLDER", help=HELP["out"])
    parser.add_argument("--count", type=int, default=64, help=HELP["count"])
    parser.add_argument("--labels", type=str, metavar="CLASSES", help=HELP["labels"])
    parser.add_argument("--steps", type=int, help=HELP["steps"])
    parser.add_argument("--guidance", type=float, help=HELP["guidance"])
    parser.add_argument("--seed", type=int, default=0, help=HELP["seed"])
    parser.add_argument("--data", type=str, metavar="DATA", help=HELP["data"])
    parser.add_argument("--batch_size", type=int, default=256, metavar="IMAGES", help=HELP["batch_size"])
    parser.add_argument("--device", type=str, default="auto", help=HELP["device"])
    for name in ("trust_code", "json", "quiet"):
        flag(parser, name, False, HELP)
    given = parser.read(words)
    as_json = given.pop("json", False)
    if given.get("out") is None:
        raise BadInput(f"tutelage sample needs --out: {HELP['out']}")
    if changes and given.get("data") is None:
        raise BadInput(f"--data.{changes[0][0]} is an option of --data, which is not given")

    from tutelage.jobs.sample import sample
    from tutelage.jobs.sources import LOCATED
    from tutelage.jobs.specs import changed

    if changes:
        given["data"] = changed(given["data"], changes, LOCATED)
    found = sample(given.pop("model"), **given)
    if as_json:
        print(json.dumps({**vars(found), "folder": str(found.folder), "quality": dict(found.quality)}, indent=1))
        return 0
    passes = "evaluation" if found.evaluations == 1 else "evaluations"
    lines = [
        f"{found.by} drew {found.images:,} images in {found.seconds:.3g} s, {found.evaluations:,} {passes} each, into {found.folder}",
        f"All in one: {found.folder}/grid.png",
    ]
    lines += [f"  {name.replace('_', ' ')}: {value:.4g}" for name, value in found.quality.items()]
    for line in lines:
        console().print(printable(line), highlight=False, markup=False, soft_wrap=True)
    return 0
