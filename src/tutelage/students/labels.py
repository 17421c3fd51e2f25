"""The labels of a trained model against those of data: a logit must mean the class that its number means in the data."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.errors import BadInput


def check_order(names: Sequence[str] | None, classes: Sequence[str], where: str) -> None:
    """Refuse labels of the same names in another order: the model would be right and counted wrong.

    Args:
        names: the model's labels in the order of its logits; None or empty where it does not say.
        classes: those of the data, all of the model's or some of them; where others are among them, nothing is known and all is let pass.
        where: how messages call the model.

    Raises:
        BadInput: says which order the data need.
    """
    known, wanted = ([str(n).lower() for n in some or ()] for some in (names, classes))
    if not known or not wanted or known[: len(wanted)] == wanted or not set(wanted) <= set(known):
        return
    shown = ", ".join(map(str, names or ()))
    raise BadInput(
        f"{where} numbers its labels {shown}, the data {', '.join(map(str, classes))}; give the data its order: "
        f"--data.classes {shown.replace(', ', ',')}"
    )
