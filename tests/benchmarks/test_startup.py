"""The figures of the start-up stand alone: what the server prints is shown only when it fails."""

import os
import sys
from pathlib import Path

import pytest
import startup

LINES = "import signal, sys\nprint('a line of the log', flush=True)\n"
WAITS = LINES + "signal.sigwait([signal.SIGTERM])\nsys.exit({status})"


def ran(tmp_path: Path, status: int) -> None:
    blocked = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
    ready = tmp_path / "ready"
    script = blocked + f"open({str(ready)!r}, 'w').close()\n" + WAITS.format(status=status)
    os.mkfifo(ready)
    with startup.running([sys.executable, "-c", script], tmp_path):
        ready.read_text()  # returns when the script has blocked the signal and closed the other end


def test_the_log_of_a_server_that_ends_well_is_not_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ran(tmp_path, 0)
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "server.log").read_text() == "a line of the log\n"


def test_the_log_of_a_server_that_fails_is_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="status 3"):
        ran(tmp_path, 3)
    assert "a line of the log" in capfd.readouterr().err
