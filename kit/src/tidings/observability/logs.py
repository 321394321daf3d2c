"""Structured logs: one JSON object per line, with the correlation id of the event being handled."""

import logging
from collections.abc import MutableMapping
from contextvars import ContextVar
from functools import partial
from typing import Any, Literal

import structlog

from tidings.messages.delivery import DeliveryContext
from tidings.messages.personal import personal_values, redact

handling: ContextVar[DeliveryContext | None] = ContextVar("handling", default=None)
"""The delivery being handled, whose ids are added to each log line."""


def add_cause(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the ids of the event being handled to a log line."""
    delivery = handling.get()
    if delivery is not None:
        envelope = delivery.envelope
        line.setdefault("correlation_id", envelope.correlationid)
        if envelope.id:
            line.update(event_id=envelope.id, event_type=envelope.label, subscription=delivery.subscription)
        if delivery.batch_members:
            line.setdefault("batch_members", len(delivery.batch_members))
    return line


def redact_personal_data(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask personal data of the event being handled and its documents, such as a value in an exception's message."""
    delivery = handling.get()
    if delivery is not None:
        values = personal_values(delivery.envelope, *delivery.batch_members)
        if values:
            line.update({name: redact(value, values) for name, value in line.items() if isinstance(value, str)})
    return line


def _add_service(service: str, _logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    line["service"] = service
    return line


def configure(service: str, form: Literal["json", "console"], level: str) -> None:
    """Send the records of structlog and the standard library to standard error through one renderer.

    Raises:
        ValueError: `level` is not a log level of the `logging` module.

    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        partial(_add_service, service),
        add_cause,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact_personal_data,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer()
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("httpx2").setLevel(max(root.level, logging.WARNING))  # at INFO it logs a line per request
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = name != "uvicorn.access"
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def log_failure(log: Any, level: int, event: str, **details: Any) -> None:
    """Log a failure, without its traceback if that cannot be rendered, as with deeply nested exceptions."""
    try:
        log.log(level, event, **details)
    except Exception as error:  # noqa: BLE001 - a failure must be logged even if its traceback cannot be
        details["exc_info"] = None
        log.log(level, event, **details, not_shown=type(error).__qualname__)
