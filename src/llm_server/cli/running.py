"""Run the server: one process, or several that share a port."""

import math
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Any, NoReturn

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from llm_server.cli.announcing import announce
from llm_server.cli.draining import Draining, Workers
from llm_server.cli.failure import CommandError
from llm_server.cli.limits import give_memory_back, raise_open_files
from llm_server.settings import Loaded, ServerConfig, Settings

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - addresses to replace, not to listen on
_HUNG_AFTER_S = 60
"""A worker that does not answer its supervisor for so long is replaced. Loading a model must fit in."""


def run(loaded: Loaded) -> None:
    """Serve until a signal says to stop; then finish what is in flight and return, or exit with status 0.

    A second SIGINT ends what is in flight at once, each stream with its error; the status is 0 as well.

    Raises:
        CommandError: the address cannot be listened on, or the server did not start.
    """
    settings = loaded.settings
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, _stop)
    with _listener(settings.server) as listener:
        announce(_url(listener), settings)
        if settings.server.workers == 1:
            _alone(_config(settings, partial(build, loaded.values)), listener)
        else:
            _several(loaded, listener)


def build(values: Mapping[str, Any], metrics_dir: Path | None = None) -> Any:
    """Return the application for settings given as plain values: what each worker process calls."""
    # The composition root imports everything: only a process that serves pays for it.
    from llm_server.app import process

    give_memory_back()
    application = process(Settings.model_validate(values), metrics_dir=metrics_dir)
    raise_open_files()  # by now there is a log that tells of it
    return application


@contextmanager
def temporarily(loaded: Loaded) -> Iterator[str]:
    """Run the server on a free port of this machine for a while, and yield its URL."""
    settings = loaded.settings
    local = settings.server.model_copy(update={"host": "127.0.0.1", "port": 0, "workers": 1})
    with _listener(local) as listener:
        server = Draining(
            _config(settings.model_copy(update={"server": local}), partial(build, loaded.values))
        )
        thread = Thread(target=_until_stopped, args=(server, listener), name="server", daemon=True)
        thread.start()
        try:
            yield _url(listener)
        finally:
            server.should_exit = True
            thread.join()


def _until_stopped(server: uvicorn.Server, listener: socket.socket) -> None:
    try:
        server.run([listener])
    finally:
        listener.close()  # a client that waits for a server that never started must hear of it


def _url(listener: socket.socket) -> str:
    """Return where a client on this machine reaches ``listener``."""
    host, port = listener.getsockname()[:2]
    reachable = _ANYWHERE.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def _alone(config: uvicorn.Config, listener: socket.socket) -> None:
    try:
        Draining(config).run([listener])
    except SystemExit as end:
        if end.code == STARTUP_FAILURE:
            raise CommandError("The server did not start; the messages above say why.") from end
        raise


def _several(loaded: Loaded, listener: socket.socket) -> None:
    if loaded.settings.engine.enabled:
        workers = loaded.settings.server.workers
        print(f"Each of the {workers} workers loads the local models for itself.", file=sys.stderr)
    with _metrics_dir() as shared:
        config = _config(loaded.settings, partial(build, loaded.values, shared))
        supervisor = Workers(config, [listener])
        supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise CommandError("The workers did not start; the messages above say why.")


def _config(settings: Settings, factory: Any) -> uvicorn.Config:
    server = settings.server
    return uvicorn.Config(
        factory,
        factory=True,
        workers=server.workers,
        # By name: only a process that serves imports it.
        http=f"llm_server.api.{'lane:Lane' if settings.api.hot_lane else 'connection:Connection'}",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # The peer is the peer: no header of a request says otherwise.
        proxy_headers=False,
        forwarded_allow_ips=[],
        backlog=server.backlog,
        timeout_keep_alive=server.keepalive_timeout_s,
        timeout_graceful_shutdown=math.ceil(server.drain_timeout_s),
        timeout_worker_healthcheck=_HUNG_AFTER_S,
    )


@contextmanager
def _listener(server: ServerConfig) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    try:
        listener = socket.create_server((server.host, server.port), family=family, backlog=server.backlog)
    except OSError as error:
        hint = " Choose another with --port." if server.port else ""
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise CommandError(f"Cannot listen on {server.host}:{server.port}: {reason}.{hint}") from error
    with listener:
        yield listener


@contextmanager
def _metrics_dir() -> Iterator[Path]:
    """Make the directory in which workers share their numbers; prometheus_client reads its name at import."""
    folder = tempfile.mkdtemp(prefix="llm-server-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    """End with status 0: uvicorn, which drains on a signal, raises it again when it is done."""
    raise SystemExit(0)
