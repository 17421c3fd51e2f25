"""README.md of an exported model: how to use it, what it is worth, how it was made, where it is weak. Takes report.json as a mapping."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage import __version__
from tutelage.evaluation.wording import figures_of, gain, headline

WEAKEST = 3
"""Classes that are named because they are recognised least."""
SHOWN = 30
"""Classes and columns that are listed; of more, the number is said."""

ONNX = """```python
import json
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{file}")
labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
logits = session.run(["logits"], {{{given}}})[0]  # a row a sample
print([labels[i] for i in np.argmax(logits, -1)])
```"""

CODE = """```python
import model  # model.py of this folder

net = model.load()
labels, probabilities = model.predict({sample}, net)
```"""

TOKENS = """```python
import json
import numpy as np
import onnxruntime
from transformers import AutoTokenizer

session = onnxruntime.InferenceSession("{file}")
labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
tokens = AutoTokenizer.from_pretrained(".")(["a text"], truncation=True, max_length={length}, padding=True, return_tensors="np")
logits = session.run(["logits"], {{i.name: tokens[i.name] for i in session.get_inputs()}})[0]  # a row a text
print([labels[i] for i in np.argmax(logits, -1)])
```"""

HF = """```python
from transformers import {auto}

model = {auto}.from_pretrained(".")
print(model.config.id2label)
```"""

CAUSAL = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = AutoModelForCausalLM.from_pretrained("."), AutoTokenizer.from_pretrained(".")
tokens = tokenizer("Once upon a time", return_tensors="pt")
print(tokenizer.decode(model.generate(**tokens, max_new_tokens=40)[0]))
```"""

HF_TEXT = """```python
from transformers import pipeline

print(pipeline("text-classification", model=".")(["a text"]))
```"""

PACKED = """Weights of few bits are packed: `NAME.codes` holds them as whole numbers, several in a byte, `NAME.scale` what they are
multiplied by. tutelage reads the folder wherever it takes a model:

```console
$ tutelage evaluate FOLDER --data DATA
```"""

ENCODER = """```python
import torch
from transformers import AutoModel, AutoTokenizer

tokenizer, model = AutoTokenizer.from_pretrained("."), AutoModel.from_pretrained(".").eval()
texts = tokenizer(["a text"], padding=True, truncation=True, return_tensors="pt")
with torch.no_grad():
    states = model(**texts).last_hidden_state
mask = texts["attention_mask"].unsqueeze(-1)
embeddings = (states * mask).sum(1) / mask.sum(1)
```"""

PACKED = """Weights of few bits are packed: `NAME.codes` holds them as whole numbers, several in a byte, `NAME.scale` what they are
multiplied by. tutelage reads the folder wherever it takes a model:

```console
$ tutelage evaluate FOLDER --data DATA
```"""
WEIGHTS = """The net was given as an object of Python, so this folder cannot say how it is built. Build it, then:

```python
import safetensors.torch

safetensors.torch.load_model(net, "model.safetensors")
net.eval()
```"""


def plain(text: Any) -> str:
    """A name from anywhere as plain text in Markdown: one line, nothing in it that formats, links, mentions or is HTML."""
    said = "".join(letter if letter.isprintable() else " " for letter in " ".join(str(text).split()))
    said = said.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    said = re.sub(r"([\\`*\[\]|~])|(?<!\w)(_)|(_)(?!\w)", lambda m: f"\\{m.group()}", said)
    said = re.sub(r"(?<!\w)([@#])|^([+\-=])|^(\d+)(?=[.)])", lambda m: f"\\{m.group()}" if not m.group(3) else f"{m.group()}\\", said)
    return said.replace("://", ":\\//").replace("www.", "www\\.")


def short(spec: str) -> str:
    """A spec without the folders of this machine: of an absolute path, the last two names."""
    return re.sub(r"(?<![\w.])/(?:[^/:,\s]+/)+([^/:,\s]+/[^/:,\s]+)", r"\1", spec)


def card(about: Mapping[str, Any], report: Mapping[str, Any] | None, which: str, use: str) -> str:
    """Write the card.

    Args:
        about: the content of the exported model.json.
        report: the content of the run's report.json, None where there is none.
        which: the model's name in that report.
        use: Markdown that shows how to use it.
    """
    known = report is not None and which in report.get("models", [])
    title = f"{plain(about['name'])}, {_what(report, which) if report and known else 'exported'}"
    parts = [_front(about), f"# {title}"]
    if report and known and which == "student":
        parts.append(plain_sentence(headline(report)))
    parts += ["## Use", use, _takes(about)]
    if report and known:
        parts += ["## What it is worth", _table(report, which), _judged(report)]
        if which == "student":
            parts.append(plain_sentence(gain(report)))
    if about["exported"] == "packed":
        size = about["files"].get("model.safetensors", 0)
        parts += ["## In few bits", f"{about['levels']} weights, packed: {size:,} bytes instead of {about['bytes_before']:,}."]
    if about.get("int8"):
        parts += ["## In 8 bits", _int8(about["int8"])]
    if report and known:
        parts += ["## How it was made", _made(report, which)]
        weak = _weak(report, which)
        if weak:
            parts += ["## Limits", weak]
    parts += ["## Files", _files(about)]
    return "\n\n".join(filter(None, parts)) + "\n"


def plain_sentence(text: str) -> str:
    """A sentence of ours, in which a name may stand: only what could be HTML is made harmless."""
    return text.replace("<", "&lt;").replace(">", "&gt;")


def _front(about: Mapping[str, Any]) -> str:
    library = {"hf": "transformers", "onnx": "onnx"}.get(about["exported"], "pytorch")
    kind = {"text": "text-classification", "images": "image-classification", "table": "tabular-classification"}
    task = kind.get((about.get("prepared") or {}).get("kind", ""))
    lines = [f"library_name: {library}", *([f"pipeline_tag: {task}"] if task else []), "tags:", "- knowledge-distillation", "- tutelage"]
    return "\n".join(["---", *lines, "---"])


def _what(report: Mapping[str, Any], which: str) -> str:
    data = plain(report["data"])
    if which == "student":
        taught = f"taught by {plain(short(report[report['teachers'][0]]['model']))}" if report["teachers"] else "trained"
        return f"{taught} on {data}"
    return f"the {plain(which)} of a run on {data}"


def _takes(about: Mapping[str, Any]) -> str:
    """What a sample must look like."""
    lines = []
    prepared, seen = about.get("prepared") or {}, about.get("preprocessing") or {}
    kind = prepared.get("kind")
    if kind == "images":
        lines.append(
            f"Images of {prepared['channels']} channel{'s' if prepared['channels'] > 1 else ''}, {prepared['height']}x{prepared['width']} "
            f"pixels, bytes (or grey levels) divided by {prepared['divided_by']}"
            + (f"; larger ones scaled so that the shorter side is {prepared['side']}, and the middle cut." if prepared.get("side") else ".")
        )
    elif kind == "text":
        named = " and ".join(plain(c) for c in prepared["columns"])
        lines.append(f"Text: {named}{' as a pair' if len(prepared['columns']) == 2 else ''}.")
    elif kind == "table":
        named = ", ".join(plain(c["column"]) for c in prepared["columns"][:SHOWN])
        more = len(prepared["columns"]) - SHOWN
        lines.append(
            f"Rows with the columns {named}{f' and {more} more' if more > 0 else ''}. Numbers are centred and scaled by what training "
            "showed (`prepared` in model.json), words become a number each."
        )
    if seen.get("kind") == "images":
        if seen.get("size"):
            lines.append(f"The net sees them at {seen['size'][0]}x{seen['size'][1]} pixels (bilinear, antialiased).")
        if seen.get("mean") or seen.get("std"):
            lines.append(f"Then channels are normalised: mean {seen.get('mean') or 0}, deviation {seen.get('std') or 1}.")
    elif seen.get("kind") == "tokens":
        lines.append(f"The tokenizer's files lie beside the model; texts are cut after {seen['max_length']} tokens.")
    elif seen.get("kind") == "hashed-words":
        lines.append(f"Words and runs of up to {seen['ngrams']} words are hashed into {seen['buckets']:,} buckets.")
    if about.get("inputs"):
        listed = (f"`{i['name'].replace('`', '')}` ({i['type']}, {' x '.join(map(str, i['shape']))})" for i in about["inputs"])
        lines.append(f"The ONNX file takes {', '.join(listed)} and gives `logits`.")
    labels = about["classes"]
    if labels:
        rest = f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else ""
        lines.append(f"Classes, in the order of the logits: {', '.join(map(plain, labels[:SHOWN]))}{rest}.")
    return "\n".join(f"- {line}" for line in lines)


def _table(report: Mapping[str, Any], which: str) -> str:
    shown = [c for c in figures_of(report) if any(report[m].get(c[0]) is not None for m in report["models"])]
    lines = ["| | " + " | ".join(t for _, t, _ in shown) + " |", "|---|" + "---:|" * len(shown)]
    for name in report["models"]:
        cells = ["" if report[name].get(k) is None else f.format(report[name][k]) for k, _, f in shown]
        said = f"{plain(name)} ({plain(short(report[name]['model']))})" if report[name].get("model") else plain(name)
        lines.append(f"| {f'**{said}**' if name == which else said} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _judged(report: Mapping[str, Any]) -> str:
    never = " that nothing was chosen on" if report["split"] == "test" else ""
    return f"On {report['samples']:,} {report['split']} samples{never}; one run, seed {report['seed']}."


def _int8(found: Mapping[str, Any]) -> str:
    sizes = f"{found['bytes']:,} bytes instead of {found['bytes_before']:,}"
    judged = f"{found['samples']:,} {found['split']} samples"
    said = f"`{found['file']}` holds weights in 8 bits: {sizes}. Of {judged}, it puts {found['agreement']:.2%} into the same class."
    if "accuracy" not in found:
        return said
    points, low, high = (found[k] * 100 for k in ("difference", "low", "high"))
    change = f"{found['accuracy']:.2%} instead of {found['accuracy_before']:.2%}"
    return f"{said} Its accuracy is {change}: {points:+.2f} points (95 % interval over these samples: {low:+.2f} to {high:+.2f})."


def _made(report: Mapping[str, Any], which: str) -> str:
    splits = ", ".join(f"{s['samples']:,} {name}" for name, s in report["splits"].items())
    paper = report.get("paper")
    source = f" ({plain(paper['authors'])}, {plain(paper['title'])}, {paper['year']})" if paper else ""
    method = f"Recipe {plain(report['recipe'])}{source}" if which == "student" else f"Part of a run of the recipe {plain(report['recipe'])}"
    updates = report[which].get("updates")
    trained = f", {updates:,} updates" if updates else ""
    return f"{method}{trained}, with tutelage {__version__}. Data: {plain(report['data'])}, {splits} samples."


def _weak(report: Mapping[str, Any], which: str) -> str:
    rows = [r for r in report.get("per_class") or [] if r.get(which) is not None]
    if len(rows) < 2:
        return ""
    rows.sort(key=lambda r: r[which])
    named = ", ".join(f"{plain(r['class'])} ({r[which]:.0%} of {r['samples']})" for r in rows[:WEAKEST])
    unlike = f"samples unlike those of {plain(report['data'])}"
    return f"Recognised least: {named}. Of {unlike} nothing is known: no shift, no attack, no difference between groups was measured."


def _files(about: Mapping[str, Any]) -> str:
    told: Sequence[tuple[str, str]] = (
        ("model.safetensors", "the weights"),
        ("model.py", "the code: `load`, `inputs`, `predict`; nothing else is needed but " + ", ".join(about.get("packages") or [])),
        ("model.onnx", "the model, labels and preprocessing in its metadata"),
        ("model.int8.onnx", "the same in 8 bits"),
        ("config.json", "the config of the Hugging Face model"),
        ("model.json", "labels, preprocessing and origin, for programs"),
    )
    return "\n".join(f"- `{name}`: {said}" for name, said in told if name in about["files"])
