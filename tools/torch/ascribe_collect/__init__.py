"""Per-example gradients of PyTorch models as sketch files, and the course of training as a log.

>>> from ascribe_collect import Collector, Projection, TrajectoryLog
"""

from .classifier import own_label_probability
from .collector import Collector
from .keys_file import write_keys
from .language import next_token_labels
from .report import LayerReport, Report
from .sides import Projection
from .trajectory import TrajectoryLog

__all__ = [
    "Collector",
    "LayerReport",
    "Projection",
    "Report",
    "TrajectoryLog",
    "next_token_labels",
    "own_label_probability",
    "write_keys",
]
