"""Kim & Rush, "Sequence-Level Knowledge Distillation", EMNLP 2016."""

from __future__ import annotations

from typing import Literal

from tutelage.data import Data
from tutelage.errors import BadInput
from tutelage.language import Lessons
from tutelage.language.sampling import Sampling
from tutelage.language.written import Tidy, Written
from tutelage.objectives import CrossEntropy
from tutelage.recipes import Paper, recipe
from tutelage.signals import Model
from tutelage.teachers import Teacher
from tutelage.training import Fit, Learner, Plan, Stage

PAPER = Paper(
    "Sequence-Level Knowledge Distillation",
    authors="Kim & Rush",
    year=2016,
    url="https://arxiv.org/abs/1606.07947",
    claim="WMT 2014 English to German, 4 layers of 1,000 to 2 of 500: by what the teacher writes the student gains 4.2 BLEU with greedy "
    "decoding and 1.7 with beam search, and greedy decoding loses little against beam search.",
)


@recipe(paper=PAPER, matches="text", language=True, tune={"temperature": (0.5, 1.2)})
def seqkd(
    teacher: Teacher,
    student: Model,
    data: Data,
    *,
    outputs: int = 1,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    tokens: int = 64,
    prompt: int = 32,
    at_once: int = 32,
    reduction: Literal["token", "sequence"] = "token",
    fit: Fit = Fit(epochs=3),
) -> Plan:
    """Train a language model on text that its teacher wrote: first the teacher writes on from each prompt, then the student studies that.

    Loss: -log q(y), q the student's distribution, over the tokens y of what the teacher wrote. What it wrote is kept with the run; a run
    that is stopped while it writes goes on where it was.

    Args:
        teacher: a model over the same vocabulary, which writes; nothing else is asked of it.
        student: the model to train.
        data: dialogues, whose prompts the teacher answers, or running text, whose beginnings it goes on from; not packed into windows.
            The answers that are given are not studied.
        outputs: texts that it writes after each prompt, >= 1; each is a sample of an epoch.
        temperature: of the writing, >= 0; at 0 it takes the likeliest token, and writes the same text each time.
        top_k: write with so many likeliest tokens only; 0 for all.
        top_p: write with the fewest likeliest tokens whose probability adds up to so much, in (0, 1].
        tokens: most that it writes after a prompt; a text that is cut there has no end to be learnt.
        prompt: tokens of running text that it is given.
        at_once: prompts that it writes after at a time; more are faster while they fit into memory.
        reduction: mean over tokens, or over sequences, each by the mean of its tokens.
        fit: duration and optimizer; an epoch is all that was written.

    Raises:
        BadInput: a number outside its range, a teacher that cannot write, such as a cached one or several together, or data that are no
            text with prompts.

    Cost: before the training as many passes of the teacher as it writes tokens, short ones where the model keeps what it computed
        before; none while training.
    Data: labels not needed, nor answers.
    Default: drawn at temperature 1, of which the loss is, but for a constant, the KL divergence of whole texts, KL(p || q), without bias.
        The paper takes the likeliest text found by beam search of width 5, which is another, biased target; temperature 0 is the
        nearest to it here, a beam of width 1.
    Relations: its gradient is, averaged over what the teacher may write, that of `lm-kd` with forward on the same texts, which has less
        noise but needs the teacher's logits. `gkd` studies what the student writes.
    """
    writers = teacher.models()
    if len(writers) != 1:
        raise BadInput(f"seqkd: the teacher ({teacher.name}) cannot write; expected one model, neither a cache nor several together")
    sampling = Sampling(tokens, temperature, top_k, top_p)
    stop = data.train.stop if isinstance(data.train, Lessons) else ()
    words = data.prepared.get("vocabulary")
    written = Written(writers[0], data.train, sampling, prompt=prompt, outputs=outputs, at_once=at_once, stop=stop, vocabulary=words)
    loss = 1.0 * CrossEntropy(over=reduction)
    return Plan([written.action, Stage("distil", Learner(student, loss), fit, written, parts=[Tidy(written)])], student)
