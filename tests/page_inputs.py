"""The small files that the pages speak of: mails.csv, my-bert, photos and so on."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch

import hub_folders
from tiny_causal import causal_folder
from tiny_tokenizers import letters


def make(folder: Path) -> None:
    """Write them all into a folder."""
    draw = random.Random(0)
    words = ["good", "bad", "fine", "dull", "film", "book", "very", "not"]

    def mails(count: int) -> list[str]:
        return [f"{' '.join(draw.choices(words, k=4))},{('ham', 'spam')[i % 3 == 0]}" for i in range(count)]

    def measured() -> list[float]:
        return [round(draw.random(), 3) for _ in range(3)]

    rows = [measured() for _ in range(60)]
    tables = {
        "mails": ["body,kind", *mails(60)],
        "more-mails": ["body,kind", *mails(20)],
        "unlabelled-mails": ["body", *(line.rpartition(",")[0] for line in mails(60))],
        "rare": ["body,kind", *mails(60), "win good money,lottery"],
        "holes": ["a,b,c,kind", "0.1,,0.2,x", *(f"{a},{b},{c},{'xyz'[i % 3]}" for i, (a, b, c) in enumerate(rows))],
        "measurements": ["a,b,c,kind", *(f"{a},{b},{c},{'xyz'[[a, b, c].index(max(a, b, c))]}" for a, b, c in rows)],
        "notes": ["a,b,note,label", *(f"{i},{i % 7},this is note number {i},{'xy'[i % 2]}" for i in range(60))],
        "unlabelled": ["a,b,c", *(f"{a},{b},{c}" for a, b, c in (measured() for _ in range(60)))],
    }
    for name, lines in tables.items():
        (folder / f"{name}.csv").write_text("".join(f"{line}\n" for line in lines))
    hub_folders.bert(folder / "my-bert")
    hub_folders.bert(folder / "my-classifier", head=2, labels=["ham", "spam"])
    hub_folders.bert(folder / "turned", head=2, labels=["spam", "ham"])
    causal_folder(folder / "my-llm", context=512)
    causal_folder(folder / "other-llm", tokenizer=letters(merges=[("a", "b")]), vocabulary=272)
    chats = [{"messages": [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": f"{i + 1}."}]} for i in range(40)]
    (folder / "chats.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in chats))
    questions = [{"question": line.partition(",")[0], "answer": " ".join(draw.choices(words, k=3))} for line in mails(30)]
    (folder / "questions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in questions))
    articles = [{"text": " ".join(draw.choices(words, k=3 + i % 9))} for i in range(60)]
    (folder / "articles.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in articles))
    (folder / "mine.yml").write_text("teacher: net.py:big\n")
    torch.save(torch.nn.Linear(2, 2), folder / "whole.pt")
