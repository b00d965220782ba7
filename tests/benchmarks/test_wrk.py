"""What wrk is told to send, and what is understood of its report."""

from pathlib import Path

import pytest
from bench import wrk

RESULT = (
    'RESULT {"requests": 1203, "wall_s": 2.008308, "failed": 4, "p50_ms": 6.98, "p95_ms": 15.3, "p99_ms": 23}'
)


def test_the_report_is_found_among_what_wrk_prints() -> None:
    found = wrk.parse(f"Running 2s test\n  1 threads and 64 connections\n{RESULT}\nTransfer/sec: 1MB\n")
    assert found == wrk.Load(1203, 4, 2.008308, 6.98, 15.3, 23)


def test_no_report_is_an_error_that_shows_what_was_printed() -> None:
    with pytest.raises(ValueError, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1")


def test_the_body_is_read_from_a_file_whatever_is_in_it(tmp_path: Path) -> None:
    body = b'{"text": "]] \\" \n"}'
    path = wrk.script(tmp_path, "odd", body, {"authorization": "Bearer x"})
    assert (tmp_path / "odd.body").read_bytes() == body
    assert 'wrk.headers["authorization"] = "Bearer x"' in path.read_text()
    assert str(tmp_path / "odd.body") in path.read_text()
