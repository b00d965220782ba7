"""How the settings reach uvicorn."""

import pytest

from llm_server.api.connection import Connection
from llm_server.api.lane import Lane
from llm_server.cli import running
from llm_server.settings import Settings


@pytest.mark.parametrize(("hot_lane", "protocol"), [(True, Lane), (False, Connection)])
def test_the_lane_can_be_turned_off(hot_lane: bool, protocol: type[Connection]) -> None:
    values = {"api": {"hot_lane": hot_lane}, "engine": {"enabled": False}, "discover": False}
    settings = Settings.model_validate(values)
    config = running._config(settings, lambda: running.build(values))
    config.load()
    assert config.http_protocol_class is protocol
    assert config.timeout_keep_alive == 75
