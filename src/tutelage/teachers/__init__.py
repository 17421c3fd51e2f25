"""Who teaches: anything that gives Signals for a batch."""

from tutelage.teachers.ensemble import Ensemble
from tutelage.teachers.frozen import Frozen
from tutelage.teachers.past_self import PastSelf
from tutelage.teachers.teacher import Gives, Teacher

__all__ = ["Ensemble", "Frozen", "Gives", "PastSelf", "Teacher"]
