"""erpo-hub: train with ERPO, see where a model decides, publish the proof.

The public names are imported on first use, so `import erpo_hub` is fast and loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__

_HOME = {
    "ERPOConfig": "train.config",
    "ERPOTrainer": "train.trainer",
    "RunDoctor": "train.doctor",
    "Credit": "methods.credit",
    "CreditBatch": "methods.credit",
    "Grader": "tasks.grading",
    "load_task": "tasks.tasks",
    "train_and_push": "run.conductor",
    "TrainResult": "run.conductor",
    "Trace": "traces.trace",
    "Engine": "traces.engine",
    "find_pivots": "traces.pivots",
    "sensitivity": "traces.sensitivity",
    "average": "run.averaging",
    "evaluate": "evaluation.sampling",
    "compare": "study.compare",
    "push_bundle": "publish.hub",
    "Publishing": "publish.hub",
    "render_card": "card.card",
    "transplant": "study.transplant",
    "verify": "verification.verify",
    "compare_decoding": "study.decode",
    "Search": "traces.tree",
    "search_generate": "traces.search",
}

__all__ = [
    "Credit",
    "CreditBatch",
    "ERPOConfig",
    "ERPOTrainer",
    "Engine",
    "Grader",
    "Publishing",
    "RunDoctor",
    "Search",
    "Trace",
    "TrainResult",
    "__version__",
    "average",
    "compare",
    "compare_decoding",
    "evaluate",
    "find_pivots",
    "load_task",
    "push_bundle",
    "render_card",
    "search_generate",
    "sensitivity",
    "train_and_push",
    "transplant",
    "verify",
]

if TYPE_CHECKING:
    from .card.card import render_card
    from .evaluation.sampling import evaluate
    from .methods.credit import Credit, CreditBatch
    from .publish.hub import Publishing, push_bundle
    from .run.averaging import average
    from .run.conductor import TrainResult, train_and_push
    from .study.compare import compare
    from .study.decode import compare_decoding
    from .study.transplant import transplant
    from .tasks.grading import Grader
    from .tasks.tasks import load_task
    from .traces.engine import Engine
    from .traces.pivots import find_pivots
    from .traces.search import search_generate
    from .traces.sensitivity import sensitivity
    from .traces.trace import Trace
    from .traces.tree import Search
    from .train.config import ERPOConfig
    from .train.doctor import RunDoctor
    from .train.trainer import ERPOTrainer
    from .verification.verify import verify


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
