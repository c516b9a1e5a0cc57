"""One line a record: time, level, logger, message; newlines of untrusted text are escaped."""

import logging
from datetime import UTC, datetime


class LineFormatter(logging.Formatter):
    """Format records as `2026-01-01T00:00:00.000Z INFO fleet.consumers: text`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback follows on its own lines."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        text = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        line = f"{at.replace('+00:00', 'Z')} {record.levelname} {record.name}: {text}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line
