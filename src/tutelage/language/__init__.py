"""Teaching through text: dialogues, how they become tokens and lessons, what models write, and whether two share a vocabulary."""

from tutelage.language.answered import answered
from tutelage.language.chat import LINES, Control, Learn, Rendered, Script
from tutelage.language.dialogues import Dialogues, as_dialogues, dialogues, from_rows, holds_dialogues
from tutelage.language.free_running import Answers, answers, measure_own_text
from tutelage.language.generation import generate
from tutelage.language.lessons import Cut, Lessons, Padding, Text
from tutelage.language.on_policy import own_text
from tutelage.language.packing import Packing, packed
from tutelage.language.preparation import lessons, remarks_on
from tutelage.language.rows import Dialogue, Missing
from tutelage.language.sampling import Sampling
from tutelage.language.server import Answer, Server, ask
from tutelage.language.vocabulary import Vocabulary, reconciled
from tutelage.language.writer import Writer

__all__ = [
    "LINES",
    "Answer",
    "Answers",
    "Control",
    "Cut",
    "Dialogue",
    "Dialogues",
    "Learn",
    "Lessons",
    "Missing",
    "Packing",
    "Padding",
    "Rendered",
    "Sampling",
    "Script",
    "Server",
    "Text",
    "Vocabulary",
    "Writer",
    "answered",
    "answers",
    "as_dialogues",
    "ask",
    "dialogues",
    "from_rows",
    "generate",
    "holds_dialogues",
    "lessons",
    "measure_own_text",
    "own_text",
    "packed",
    "reconciled",
    "remarks_on",
]
