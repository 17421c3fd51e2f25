"""What a model shows on a batch: Signals, the taps they are read at, the Model handle that gives them."""

from tutelage.signals.deferred import DeferredLogits
from tutelage.signals.model import Model
from tutelage.signals.signals import RESERVED, Batch, Signals
from tutelage.signals.sparse import Form, SparseLogits, Tail
from tutelage.signals.taps import Depth, Tap, Trace, Visit
from tutelage.signals.writes import Write, detached

__all__ = [
    "RESERVED",
    "Batch",
    "DeferredLogits",
    "Depth",
    "Form",
    "Model",
    "Signals",
    "SparseLogits",
    "Tail",
    "Tap",
    "Trace",
    "Visit",
    "Write",
    "detached",
]
