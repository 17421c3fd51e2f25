"""Attacks: small changes of images that a model gets wrong, found by its gradient. To train on, as a view, and to measure with."""

from tutelage.attacks.attack import Attack, fgsm, pgd
from tutelage.attacks.search import images_in, search
from tutelage.attacks.view import Attacked

__all__ = ["Attack", "Attacked", "fgsm", "images_in", "pgd", "search"]
