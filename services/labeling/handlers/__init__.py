"""The room's table of contents: which event is handled where."""

from services.labeling.handlers.data import DataHandler
from services.labeling.handlers.history import HistoryHandler
from services.labeling.handlers.spine import SpineHandler
from services.labeling.handlers.tasks import TaskHandler

HANDLERS = {
    "data.{project}.{source}": DataHandler,  # examples, truths, watermark → labels
    "labels": HistoryHandler,  # every revision → ClickHouse
    "rpc Spine, Stats": SpineHandler,
    "rpc CreateTasks, NextTask, SubmitAnnotation, SkipTask": TaskHandler,
}
