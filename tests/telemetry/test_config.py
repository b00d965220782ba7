import pytest
from pydantic import ValidationError

from llm_server.telemetry.config import TelemetryConfig


@pytest.mark.parametrize("buckets", [(), (1, 1), (2, 1), (0, 1), (-1,)])
def test_buckets_must_ascend_from_above_zero(buckets: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError, match="latency_buckets_s"):
        TelemetryConfig(latency_buckets_s=buckets)


def test_the_defaults_are_valid_and_frozen() -> None:
    config = TelemetryConfig.model_validate(TelemetryConfig().model_dump())
    with pytest.raises(ValidationError, match="frozen"):
        config.metrics = False


def test_an_unknown_key_is_an_error() -> None:
    with pytest.raises(ValidationError, match="log_levels"):
        TelemetryConfig.model_validate({"log_levels": "info"})
