"""What applications use: publish events, ask for predictions, follow releases, replay recorded time.

The classes can be had from here; each module is imported when the first of its names is asked for, so that a producer
does not load what predictions need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from millrace.client.addresses import Addresses
    from millrace.client.features import Features
    from millrace.client.predictor import Predictor
    from millrace.client.producer import Producer, SyncProducer
    from millrace.client.releases import Releases

__all__ = ["Addresses", "Features", "Predictor", "Producer", "Releases", "SyncProducer"]

_MODULES = {
    "Addresses": "addresses",
    "Features": "features",
    "Predictor": "predictor",
    "Producer": "producer",
    "Releases": "releases",
    "SyncProducer": "producer",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
