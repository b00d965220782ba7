"""The vendors' SDKs as clients of this server. Certificates: see ``tests/upstreams/clients.py``."""

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

import anthropic
import openai

KEY = "callers-own-key"


def openai_sdk(url: str, **more: Any) -> AbstractAsyncContextManager[openai.AsyncOpenAI]:
    """OpenAI's asynchronous client."""
    http = openai.DefaultAsyncHttpxClient(verify=False)
    return openai.AsyncOpenAI(
        **{"base_url": f"{url}/v1", "api_key": KEY, "max_retries": 0, "http_client": http, **more}
    )


def openai_sync(url: str, **more: Any) -> AbstractContextManager[openai.OpenAI]:
    """OpenAI's synchronous client: for a thread."""
    http = openai.DefaultHttpxClient(verify=False)
    return openai.OpenAI(
        **{"base_url": f"{url}/v1", "api_key": KEY, "max_retries": 0, "http_client": http, **more}
    )


def anthropic_sdk(url: str, **more: Any) -> AbstractAsyncContextManager[anthropic.AsyncAnthropic]:
    """Anthropic's asynchronous client."""
    http = anthropic.DefaultAsyncHttpxClient(verify=False)
    return anthropic.AsyncAnthropic(
        **{"base_url": url, "api_key": KEY, "max_retries": 0, "http_client": http, **more}
    )


def anthropic_sync(url: str, **more: Any) -> AbstractContextManager[anthropic.Anthropic]:
    """Anthropic's synchronous client: for a thread."""
    http = anthropic.DefaultHttpxClient(verify=False)
    return anthropic.Anthropic(
        **{"base_url": url, "api_key": KEY, "max_retries": 0, "http_client": http, **more}
    )
