"""Who teaches: anything that gives Signals for a batch."""

from tutelage.teachers.cached import Cached
from tutelage.teachers.ensemble import Ensemble
from tutelage.teachers.frozen import Frozen
from tutelage.teachers.past_self import PastSelf
from tutelage.teachers.pool import Pool
from tutelage.teachers.teacher import Gives, Teacher, Views

__all__ = ["Cached", "Ensemble", "Frozen", "Gives", "PastSelf", "Pool", "Teacher", "Views"]
