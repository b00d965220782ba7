"""The lowest layer: what the environment says in variables of others, above all providers' keys."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from llm_server.contract import Secret
from llm_server.providers import ROWS, ProviderConfig, Row, discover
from llm_server.settings.problems import Problem
from llm_server.settings.tree import Node, Origin, at, plain

_ANOTHER = ("base_url", "row", "dialect")
"""Settings that make a provider another than the one that the environment means: it must not get the key."""
_NO = frozenset({"false", "f", "0", "no", "n", "off"})
"""As Pydantic reads a boolean: https://docs.pydantic.dev/latest/api/standard_library_types/#booleans"""


def discovered(env: Mapping[str, str], given: Node) -> Node:
    """Return the layer of what ``env`` says by the usual variables, below ``given``, the layers above.

    Providers are left out if ``given`` says ``discover: false``, and each one whose name ``given`` uses for
    another address: a key goes to no URL that it was not meant for. Write ``api_key: ${...}`` there.
    """
    origin = Origin("discovered")
    found: dict[str, Node] = {}
    if env.get("XDG_DATA_HOME"):  # https://specifications.freedesktop.org/basedir-spec/latest/
        where = Origin("discovered", "XDG_DATA_HOME")
        found["engine"] = Node({"data_dir": Node(f"{env['XDG_DATA_HOME']}/llm-server", where)}, where)
    providers = {
        name: _provider(config, ROWS[name], env)
        for name, config in (discover(env) if _wanted(given) else {}).items()
        if not any(at(given, ("providers", name, setting)) for setting in _ANOTHER)
    }
    if providers:
        found["providers"] = Node(providers, origin)
    return Node(found, origin)


def doubtful(env: Mapping[str, str], found: Node) -> Iterator[Problem]:
    """Yield each URL of the ``found`` layer that nobody can mean: a bare word, as in ``X_BASE_URL=foo``.

    Rows with a port of their own take a bare host; for the others it needs a scheme, a port or a dot. The
    value is not told: it may be a key that went to the wrong variable.
    """
    providers = at(found, ("providers",))
    for name in plain(providers) if providers else ():
        path = ("providers", name, "base_url")
        node = at(found, path)
        given = env.get(node.origin.place, "").strip() if node else ""
        host = given.partition("/")[0]
        if node and not (ROWS[name].default_port or "://" in given or "." in host or ":" in host):
            yield Problem(node.origin, path, "is no URL: write it with http:// or https://")


def _wanted(given: Node) -> bool:
    switch = at(given, ("discover",))
    return switch is None or str(switch.value).lower() not in _NO


def _provider(config: ProviderConfig, row: Row, env: Mapping[str, str]) -> Node:
    sources = {"api_key": row.key_env, "base_url": row.url_env, "api_version": row.version_env}
    settings = {
        name: Node(_plain(getattr(config, name)), _first(env, variables))
        for name, variables in sources.items()
        if getattr(config, name) is not None
    }
    headers = {
        header: Node(_plain(config.headers[header]), Origin("discovered", variable))
        for variable, header in row.header_env.items()
        if header in config.headers
    }
    if headers:
        settings["headers"] = Node(headers, Origin("discovered"))
    found = next(iter(settings.values()))
    return Node(settings, found.origin)


def _plain(value: Any) -> Any:
    return value.reveal() if isinstance(value, Secret) else value


def _first(env: Mapping[str, str], variables: Iterable[str]) -> Origin:
    """Return the variable that counts: the first that is set."""
    return Origin("discovered", next((name for name in variables if env.get(name, "").strip()), ""))
