"""``pytest tests/conformance --update-golden`` rewrites the golden requests: review the difference."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option; it exists when this folder is named on the command line."""
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden requests")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be written instead of compared."""
    return bool(request.config.getoption("--update-golden", default=False))
