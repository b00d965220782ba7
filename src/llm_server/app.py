"""The composition root: the only file that names concrete adapters. Read it as a table of contents."""

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llm_server import providers as hosted
from llm_server.api.application import application
from llm_server.api.backstage import Backstage, Offline
from llm_server.api.endpoint import Door
from llm_server.api.identity import request_id
from llm_server.api.server import Server
from llm_server.api.structured import Abilities, Structure
from llm_server.api.surface import BATCHED
from llm_server.batching import Grouped, Shared
from llm_server.batching.offline import Asking, Batches, Files, Local, Remote, Routes, Runner
from llm_server.catalog import Catalog, Listing
from llm_server.contract import (
    BatchStore,
    FileStore,
    FormKind,
    Handler,
    Observer,
    PoolReport,
    Provider,
    Secret,
    State,
    Target,
    Way,
)
from llm_server.pipeline import Counted, Observed, Registered, Routed
from llm_server.routing import FixedOrder
from llm_server.settings import LOCAL, Settings
from llm_server.storage import Storage
from llm_server.structured import inference
from llm_server.structured.abilities import abilities
from llm_server.structured.registry import Registry
from llm_server.structured.rules import Rules
from llm_server.structured.stage import Structured
from llm_server.structured.transforms import Conversions
from llm_server.telemetry.batches import BatchMetrics
from llm_server.telemetry.groups import GroupMetrics
from llm_server.telemetry.log import Redactor, set_up_logging
from llm_server.telemetry.metrics import Metrics, Sources
from llm_server.telemetry.observers import Observers
from llm_server.telemetry.requests import RequestLog, lines_of_json, readable, to_stream

VERSION = version("llm-server")

_log = logging.getLogger("llm_server")


def process(settings: Settings, *, metrics_dir: Path | None = None) -> Server:
    """Return the application for a process that does nothing else: its logging is set up as well."""
    set_up_logging(settings.telemetry, Redactor(_secrets(settings)))
    return create(settings, metrics_dir=metrics_dir)


def create(settings: Settings, *, metrics_dir: Path | None = None) -> Server:
    """Return the application that ``settings`` describes. Nothing is opened before its lifespan starts.

    ``metrics_dir`` is where several workers share their numbers.
    """
    sources = _providers(settings)
    metrics = _metrics(settings, sources, metrics_dir)
    groups, batching = GroupMetrics(metrics.families), settings.batching
    rules = Rules(settings.structured.rules)
    grouped = {name: Grouped(each, batching.embeddings, groups) for name, each in sources.items()}
    formed = {name: Structured(each, settings.structured, rules) for name, each in grouped.items()}
    providers = {name: Shared(each, batching.single_flight, groups) for name, each in formed.items()}
    routing = FixedOrder(settings.routing, set(providers), _bare(settings))
    requests = _request_log(settings, metrics)
    observer = _observer(settings, metrics, requests)

    storage = Storage(settings.storage, settings.engine.data_dir)
    registry = Registry(storage.schemas)

    handler = Observed(Counted(Registered(Routed(routing, providers), registry)), observer)

    listing = Listing(providers, routing.aliases)
    door = Door(handler, observer, settings.api)
    render = metrics.render if settings.telemetry.metrics else None
    conversions = Conversions(settings.structured.transformers)
    structure = Structure(conversions, inference, _abilities(routing, formed), listing)
    upstreams = hosted.upstreams(sources.values())

    def pools() -> list[tuple[tuple[str, ...], PoolReport]]:
        return [(names, pool.report()) for names, pool in upstreams]

    offline, runner = _offline(settings, handler, (routing, sources), (storage, metrics))
    backstage = Backstage(providers, listing, render, VERSION, registry, structure, pools, offline)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncGenerator[None, None]:
        tasks = [asyncio.create_task(_start(provider)) for provider in providers.values()]
        tasks += [asyncio.create_task(requests.run()), asyncio.create_task(metrics.run())]
        if runner is not None:
            tasks.append(asyncio.create_task(runner.run()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await listing.close()
            await asyncio.gather(*(provider.close() for provider in providers.values()))
            await storage.close()
            await requests.flush()
            metrics.close()

    return application(door, backstage, lifespan)


def _providers(settings: Settings) -> dict[str, Provider]:
    """Return every provider by name: the hosted ones, and the embedded engine if it is enabled."""
    providers = hosted.build(settings.providers, Catalog().lookup, settings.pool)
    if settings.engine.enabled:
        from llm_server.engine.provider import EngineProvider

        providers[LOCAL] = EngineProvider(settings.engine, logging.getLogger("llm_server.engine").info)
    return providers


def _offline(
    settings: Settings,
    handler: Handler,
    models: tuple[FixedOrder, Mapping[str, Provider]],
    kept: tuple[Storage, Metrics],
) -> tuple[Offline | None, Runner | None]:
    """Return files and batches, and who runs these; nothing if they are not enabled."""
    config, (routing, providers), (storage, metrics) = settings.batches, models, kept
    if not config.enabled:
        return None, None

    async def stores() -> tuple[FileStore, BatchStore]:
        return await storage.files(), await storage.batches()

    asking = Asking(handler, BATCHED, settings.api.request_timeout_s, request_id)
    clients = hosted.batch_clients(providers)
    runs = Local(asking, config), Remote(clients, asking, config.provider_poll_s)
    runner = Runner((stores, storage.exists), runs, BatchMetrics(metrics.families), config)
    files = Files(storage.files, config)
    routes = Routes(tuple(BATCHED), lambda model: routing.route(model).targets, clients.keys())
    return Offline(files, Batches(stores, files, routes, runner.wake)), runner


def _abilities(routing: FixedOrder, providers: Mapping[str, Structured]) -> Abilities:
    """Return what tells how a listed model can be held to a form: an alias, by its first target."""

    async def told(model: str) -> Mapping[FormKind, Sequence[Way]]:
        first = routing.route(model).targets[0]
        return await abilities(providers[first.provider], first.model)

    return told


def _bare(settings: Settings) -> dict[str, Target]:
    """Return the models that the configuration lists: they may be asked for without their provider's name."""
    listed = [
        (model, Target(name, model))
        for name, config in settings.providers.items()
        if config.enabled
        for model in config.models
    ]
    if settings.engine.enabled:
        listed += [(model.name, Target(LOCAL, model.name)) for model in settings.engine.models]
    return dict(reversed(listed))


def _metrics(settings: Settings, providers: Mapping[str, Provider], shared: Path | None) -> Metrics:
    upstreams = hosted.upstreams(providers.values())
    sources = Sources(
        pools=lambda: {names[0]: pool.stats() for names, pool in upstreams},
        states=lambda: {name: provider.state()[0] for name, provider in providers.items()},
    )
    models = _bare(settings).values()
    return Metrics(settings.telemetry, VERSION, models=models, sources=sources, shared=shared)


def _observer(settings: Settings, metrics: Metrics, requests: RequestLog) -> Observers:
    told: list[Observer] = [metrics] if settings.telemetry.metrics else []
    told += [requests] if settings.telemetry.request_log else []
    return Observers(tuple(told), lambda name: metrics.families.failures.labels(name).inc())


def _request_log(settings: Settings, metrics: Metrics) -> RequestLog:
    config, out = settings.telemetry, sys.stdout
    encode = lines_of_json if config.as_json(out) else readable
    dropped = metrics.families.lines_dropped.inc
    write, redact = to_stream(out.buffer), Redactor(_secrets(settings))
    return RequestLog(config, write, redact=redact, on_drop=dropped, encode=encode)


def _secrets(settings: Settings) -> Iterator[Secret]:
    for config in settings.providers.values():
        yield from config.headers.values()
        if config.api_key is not None:
            yield config.api_key


async def _start(provider: Provider) -> None:
    """Make one provider ready; a failure is its state and a line in the log, not the server's end."""
    with suppress(asyncio.CancelledError):
        try:
            await provider.start()
        except Exception:  # noqa: BLE001 - whatever one provider raises, the others go on
            _log.exception("provider %s did not start", provider.name)
        else:
            state, message = provider.state()
            if state is State.FAILED:
                _log.warning("provider %s failed: %s", provider.name, message)
