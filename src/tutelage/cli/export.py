"""`tutelage export MODEL_OR_RUN --to FORMAT`: the bare model in a folder that needs no tutelage."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tutelage.cli.console import console
from tutelage.cli.parser import Parser, dashes_to_underscores, data_options
from tutelage.errors import BadInput, printable

EXAMPLES = """\
examples:
  tutelage export runs/first
  tutelage export runs/first --to onnx --int8 --out student
  tutelage export runs/first --which teacher --to onnx
  tutelage export runs/ternary --to packed
  tutelage export net.py:small:weights=small.pt --to onnx --data folder:photos
"""


def run(words: Sequence[str]) -> int:
    """Parse, export, print."""
    words, changes = data_options(dashes_to_underscores(words))
    parser = Parser(
        prog="tutelage export",
        description="Write a model so that it can be used without tutelage, try it there on real samples, and write a card beside it.",
    )
    parser.epilog = EXAMPLES
    parser.add_argument("model", type=str, metavar="MODEL_OR_RUN", help="a run folder, or any model that `tutelage distill` takes")
    parser.add_argument(
        "--to",
        type=str,
        default="safetensors",
        metavar="FORMAT",
        help="safetensors (weights, and model.py that builds the net), hf (a Hugging Face folder), onnx, or packed (weights of few "
        "bits, for tutelage)",
    )
    parser.add_argument(
        "--which", type=str, default="student", metavar="NAME", help="of a run: student, teacher, baseline, or another model that it kept"
    )
    parser.add_argument(
        "--out", type=str, metavar="FOLDER", help="where to; default: RUN/exported/FORMAT. An earlier export there is replaced"
    )
    parser.add_argument("--int8", action="store_true", help="with --to onnx: also weights in 8 bits, and what that loses")
    parser.add_argument(
        "--data", type=str, metavar="DATA", help="real samples to try it on, as in `tutelage distill`; default: those of the run"
    )
    parser.add_argument("--trust_code", action="store_true", help="let a run folder name a .py file whose code then runs")
    parser.add_argument("--json", action="store_true", help="print what model.json says on stdout")
    given = parser.read(words)

    from tutelage.jobs.export import export
    from tutelage.jobs.sources import LOCATED
    from tutelage.jobs.specs import changed

    as_json = given.pop("json", False)
    if changes:
        if given.get("data") is None:
            raise BadInput(f"--data.{changes[0][0]} is an option of --data, which is not given")
        given["data"] = changed(given["data"], changes, LOCATED)
    made = export(given.pop("model"), **given)
    if as_json:
        print(json.dumps({"folder": str(made.folder), **made.about}, indent=1))
        return 0
    out, about = console(), made.about
    files = ", ".join(f"{name} ({size:,} bytes)" for name, size in about["files"].items())
    lines = [f"Exported {about['name']} to {made.folder}: {files}"]
    if about.get("difference") is not None:
        places = {
            "onnx": "logit under onnxruntime",
            "hf": "probability of the folder, read again,",
            "packed": "logit of the folder, read again,",
        }
        kind = places.get(about["exported"], "probability in a process without tutelage")
        lines.append(f"Tried on real samples: no {kind} is further than {about['difference']:.1e} from the model's.")
    if about.get("int8"):
        lost = about["int8"]
        same = f"{lost['agreement']:.2%} of {lost['samples']:,} {lost['split']} samples alike"
        points = f", accuracy {lost['difference'] * 100:+.2f} points" if "difference" in lost else ""
        lines.append(f"In 8 bits: {lost['bytes']:,} bytes instead of {lost['bytes_before']:,}, {same}{points}.")
    if about["exported"] == "packed":
        lines.append(f"In few bits: {about['files']['model.safetensors']:,} bytes of weights instead of {about['bytes_before']:,}.")
    for line in lines:
        out.print(printable(line), highlight=False, markup=False, soft_wrap=True)
    return 0
