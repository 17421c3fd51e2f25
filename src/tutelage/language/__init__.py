"""Teaching through text: dialogues, how they become tokens and lessons, and whether two models share a vocabulary."""

from tutelage.language.chat import LINES, Control, Learn, Rendered, Script
from tutelage.language.dialogues import Dialogues, as_dialogues, dialogues, from_rows, holds_dialogues
from tutelage.language.lessons import Cut, Lessons, Padding, Text
from tutelage.language.packing import Packing, packed
from tutelage.language.preparation import lessons, remarks_on
from tutelage.language.rows import Dialogue, Missing
from tutelage.language.vocabulary import Vocabulary, reconciled

__all__ = [
    "LINES",
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
    "Script",
    "Text",
    "Vocabulary",
    "as_dialogues",
    "dialogues",
    "from_rows",
    "holds_dialogues",
    "lessons",
    "packed",
    "reconciled",
    "remarks_on",
]
