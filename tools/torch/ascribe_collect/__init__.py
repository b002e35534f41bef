"""Per-example gradients of PyTorch models as sketch files, and the course of training as a log.

>>> from ascribe_collect import Collector, Projection, TrajectoryLog
"""

from .classifier import own_label_probability
from .collector import Collector
from .keys_file import write_keys
from .language import next_token_labels
from .plan import Plan, plan_encodings
from .report import LayerReport, Report
from .scaling import adam_divisors
from .settings import settings_of
from .shards import merge_shards, shard_rows
from .sides import Projection
from .trajectory import TrajectoryLog

__all__ = [
    "Collector",
    "LayerReport",
    "Plan",
    "Projection",
    "Report",
    "TrajectoryLog",
    "adam_divisors",
    "merge_shards",
    "next_token_labels",
    "own_label_probability",
    "plan_encodings",
    "settings_of",
    "shard_rows",
    "write_keys",
]
