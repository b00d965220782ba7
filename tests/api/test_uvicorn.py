"""What is used of uvicorn's insides: a version that lacks it must fail here, and say what is gone."""

import inspect
import re
import tomllib

import pytest
import uvicorn
from packaging.requirements import Requirement
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from llm_server.api.connection import Connection
from llm_server.api.lane import Exchange, Lane
from tests.repository.tree import ROOT

METHODS = {
    "__init__": ["self", "config", "server_state", "app_state", "_loop"],
    "connection_made": ["self", "transport"],
    "connection_lost": ["self", "exc"],
    "data_received": ["self", "data"],
    "pause_writing": ["self"],
    "resume_writing": ["self"],
    "shutdown": ["self"],
    "on_url": ["self", "url"],
    "on_body": ["self", "body"],
    "on_message_complete": ["self"],
    "on_response_complete": ["self"],
    "_start_asgi_task": ["self", "cycle", "app"],
}
ATTRIBUTES = [
    "access_logger",
    "app",
    "app_state",
    "asgi_version",
    "client",
    "connections",
    "cycle",
    "flow",
    "headers",
    "logger",
    "loop",
    "parser",
    "pipeline",
    "root_path",
    "scheme",
    "server",
    "server_state",
    "tasks",
    "timeout_keep_alive",
    "timeout_keep_alive_task",
    "transport",
]
"""Set by ``HttpToolsProtocol.__init__``."""
CYCLE = [
    "body",
    "chunked_encoding",
    "disconnected",
    "expected_content_length",
    "keep_alive",
    "message_event",
    "more_body",
    "response_complete",
    "response_started",
    "scope",
    "waiting_for_100_continue",
]
TAKEN = [
    "scope",
    "transport",
    "flow",
    "logger",
    "access_logger",
    "access_log",
    "default_headers",
    "message_event",
    "expect_100_continue",
    "keep_alive",
    "on_response",
]
"""By ``RequestResponseCycle.__init__``."""


def test_the_version_is_one_that_is_allowed() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    wanted = next(each for each in map(Requirement, declared) if each.name == "uvicorn")
    assert wanted.specifier.contains(uvicorn.__version__)
    assert any(each.operator == "<" for each in wanted.specifier), "a next version may lack what is used"


@pytest.mark.parametrize("name", METHODS)
def test_the_protocol_has_the_methods_that_are_used(name: str) -> None:
    assert list(inspect.signature(getattr(HttpToolsProtocol, name)).parameters) == METHODS[name]


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_the_protocol_sets_the_attributes_that_are_used(name: str) -> None:
    assert f"self.{name}" in inspect.getsource(HttpToolsProtocol.__init__)


@pytest.mark.parametrize("name", CYCLE)
def test_a_cycle_has_the_attributes_that_are_used(name: str) -> None:
    assert f"self.{name}" in inspect.getsource(RequestResponseCycle.__init__)


def test_a_cycle_is_made_of_what_it_is_given() -> None:
    assert list(inspect.signature(RequestResponseCycle).parameters) == TAKEN


def test_a_cycle_asks_its_transport_for_no_more_than_one_that_lingers_has() -> None:
    used = set(re.findall(r"self\.transport\.(\w+)", inspect.getsource(RequestResponseCycle)))
    assert used <= {"close", "write", "is_closing"}


def test_what_ends_a_connection_asks_for_no_more_of_a_cycle() -> None:
    """An exchange is one of uvicorn's cycles to ``shutdown``, and has what that looks at."""
    read = set(inspect.getsource(HttpToolsProtocol.shutdown).split("self.cycle.")[1:])
    assert {each.split()[0].rstrip(":") for each in read} <= {"response_complete", "keep_alive"}
    assert issubclass(Exchange, RequestResponseCycle)
    assert issubclass(Lane, Connection)


def test_the_rest_is_there() -> None:
    assert httptools_impl.STATUS_LINE[431].startswith(b"HTTP/1.1 431 ")
    assert {"pause_reading", "resume_reading", "drain"} <= set(vars(FlowControl))
    state = ServerState()
    assert (state.total_requests, state.connections, state.tasks, state.default_headers) == (
        0,
        set(),
        set(),
        [],
    )
