"""For every test: nothing of the developer's environment leaks in, and Hypothesis watches no clock."""

import os
import re

import pytest
from hypothesis import settings

LEAKS = re.compile(r".*_API_KEY$|LLM_SERVER_.*|OLLAMA_HOST$|(?:https?|all|no)_proxy$", re.IGNORECASE)
"""Variables that would enable a provider, change the configuration or redirect a loopback request."""


def pytest_configure(config: pytest.Config) -> None:
    """Clean the environment before any test or subprocess sees it."""
    for name in [name for name in os.environ if LEAKS.match(name)]:
        del os.environ[name]


# A slow machine is no failure (no deadline); in continuous integration the same examples run every time.
settings.register_profile("project", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("project")
