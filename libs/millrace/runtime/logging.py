"""One line per log record on stderr: time, level, room, logger, message, then `key=value` from `extra`."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message"}


class LineFormatter(logging.Formatter):
    """Renders a record as one line; a traceback follows after ` | `, with its newlines escaped."""

    def __init__(self, room: str) -> None:
        super().__init__()
        self._room = room

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        time = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        line = f"{time}Z {record.levelname} {self._room} {record.name}: {record.getMessage()}"
        for key, value in record.__dict__.items():
            if key not in _STANDARD:
                line += f" {key}={json.dumps(value, default=str)}"
        if record.exc_info:
            line += " | " + self.formatException(record.exc_info)
        return line.replace("\n", "\\n")


def configure(room: str, level: str) -> None:
    """Sends all logs of this process to stderr in one form; noisy libraries from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(room))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("aiokafka", "uvicorn", "uvicorn.error", "httpx", "httpcore", "asyncio", "grpc"):
        logging.getLogger(name).setLevel(logging.WARNING)
