"""Many observers as one, none of which can hurt a request."""

import logging
from collections.abc import Callable

from llm_server.contract import Context, Observer, ServerError, Usage

_log = logging.getLogger(__name__)


class Observers:
    """Tells each of ``observers``. Implements the port ``Observer``.

    An exception in one of them loses that one's event and nothing else: it is logged the first time, and
    told to ``on_failure`` (the observer's name) each time.
    """

    def __init__(self, observers: tuple[Observer, ...], on_failure: Callable[[str], None]) -> None:
        self._observers = observers
        self._on_failure = on_failure
        self._logged: set[str] = set()

    def started(self, ctx: Context) -> None:
        """Pass it on."""
        for observer in self._observers:
            try:
                observer.started(ctx)
            except Exception:  # noqa: BLE001 - telemetry must not fail a request, whatever its fault
                self._failed(observer)

    def first_content(self, ctx: Context) -> None:
        """Pass it on."""
        for observer in self._observers:
            try:
                observer.first_content(ctx)
            except Exception:  # noqa: BLE001 - telemetry must not fail a request, whatever its fault
                self._failed(observer)

    def finished(self, ctx: Context, usage: Usage, error: ServerError | None) -> None:
        """Pass it on."""
        for observer in self._observers:
            try:
                observer.finished(ctx, usage, error)
            except Exception:  # noqa: BLE001 - telemetry must not fail a request, whatever its fault
                self._failed(observer)

    def _failed(self, observer: Observer) -> None:
        name = type(observer).__name__
        if name not in self._logged:
            self._logged.add(name)
            _log.exception("%s failed to note an event; further failures are only counted", name)
        self._on_failure(name)
