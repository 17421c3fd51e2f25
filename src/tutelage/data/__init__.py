"""What is studied: sources of samples with stable ids, their splits, and the order in which a run meets them."""

from tutelage.data.digits import digits
from tutelage.data.order import Order
from tutelage.data.source import Data, Indexed, Source, Table

__all__ = ["Data", "Indexed", "Order", "Source", "Table", "digits"]
