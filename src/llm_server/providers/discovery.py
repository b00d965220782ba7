"""Providers without configuration: whatever the usual environment variables name."""

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from pydantic import ValidationError

from llm_server.contract import Secret
from llm_server.providers.config import ProviderConfig
from llm_server.providers.row import Row
from llm_server.providers.rows import ROWS


def discover(env: Mapping[str, str]) -> dict[str, ProviderConfig]:
    """Return a configuration for every row whose usual variables are set in ``env``, in order.

    A URL that no request could use leaves its row out: nobody asked for that provider by name.
    """
    found = {}
    for row in ROWS.values():
        key, url = _first(env, row.key_env), _first(env, row.url_env)
        if not all({"key": key, "url": url}[need] for need in row.needs):
            continue
        try:
            found[row.name] = ProviderConfig(
                api_key=Secret(key) if key else None,
                base_url=address(row, url) if url else None,
                api_version=_first(env, row.version_env) or None,
                headers={
                    header: Secret(env[name]) for name, header in row.header_env.items() if env.get(name)
                },
            )
        except ValidationError:
            continue
    return found


def address(row: Row, url: str) -> str:
    """Return ``url`` as the base URL of ``row``, whichever of the usual short forms it has.

    The forms are those of Ollama's ``OLLAMA_HOST``: a host, a port or both without a scheme, and
    ``0.0.0.0``, which servers listen on and clients cannot call everywhere
    (https://github.com/ollama/ollama-python/blob/main/ollama/_client.py, ``_parse_host``).
    """
    bare = "://" not in url
    parts = urlsplit(f"http://{url}" if bare else url)
    host = parts.netloc
    if host.startswith(":"):
        host = f"127.0.0.1{host}"
    if bare and row.default_port and not _has_port(host):
        host = f"{host}:{row.default_port}"
    if host.startswith("0.0.0.0:"):
        host = host.replace("0.0.0.0", "127.0.0.1", 1)  # noqa: S104 - as above
    return f"{parts.scheme}://{host}{parts.path.rstrip('/').removesuffix(row.suffix)}"


def _has_port(host: str) -> bool:
    return host.rpartition("]")[2].count(":") == 1


def _first(env: Mapping[str, str], names: Iterable[str]) -> str:
    return next((value for name in names if (value := env.get(name, "").strip())), "")
