"""Who learns: small built-in networks."""

from tutelage.students.cnn import cnn
from tutelage.students.mlp import mlp

__all__ = ["cnn", "mlp"]
