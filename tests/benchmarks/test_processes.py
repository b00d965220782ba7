"""What the benchmarks read of processes is what the kernel knows of them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench import processes
from hypothesis import given
from hypothesis import strategies as st

BURN = "import time\nwhile time.process_time() < 0.2: pass\n"
LINE = (
    "42 ({name}) S 1 42 42 0 -1 4194560 9 9 0 0 {utime} {stime} {cutime} {cstime} 20 0 1 0 30 54824960 5303\n"
)


@given(st.text(alphabet="ab() ", max_size=15), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_childs_time_is_found_whatever_the_process_is_called(name: str, cutime: int, cstime: int) -> None:
    line = LINE.format(name=name, utime=7, stime=11, cutime=cutime, cstime=cstime)
    assert processes.parse_children_s(line) == (cutime + cstime) / processes.TICKS


def test_the_clock_of_a_process_is_its_user_and_system_time() -> None:
    before = time.process_time()
    seen = processes.own_cpu_s(os.getpid())
    assert before <= seen <= time.process_time()


def test_a_child_counts_while_it_lives_and_after_it_was_waited_for() -> None:
    began = processes.cpu_s(os.getpid())
    burning = BURN + "print('done', flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", burning], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"done\n"
        assert child.pid in processes.tree(os.getpid())
        assert processes.own_cpu_s(child.pid) >= 0.2
        assert processes.cpu_s(os.getpid()) - began >= 0.2
    assert child.pid not in processes.tree(os.getpid())
    assert processes.cpu_s(os.getpid()) - began >= 0.2 - 2 / processes.TICKS  # kept in steps of a tick each


def test_a_grandchild_belongs_to_the_tree() -> None:
    script = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"1\n"
        assert len(processes.tree(child.pid)) == 2
        assert processes.rss_mb(child.pid) > processes.rss_mb(processes.tree(child.pid)[1])


def test_a_file_that_is_opened_is_counted(tmp_path: Path) -> None:
    before = processes.open_files(os.getpid())
    with (tmp_path / "file").open("w"):
        assert processes.open_files(os.getpid()) == before + 1


def test_a_process_that_does_not_listen_is_told_with_what_it_said(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such option')"]
    url = f"http://127.0.0.1:{processes.free_port()}"
    log = tmp_path / "log"
    with (
        pytest.raises(SystemExit, match="no such option"),
        processes.started(command, url, core=processes.cores().load, log=log),
    ):
        pass


def test_a_process_runs_on_its_core_and_ends_with_the_block(tmp_path: Path) -> None:
    port, core = processes.free_port(), processes.cores().load
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    url = f"http://127.0.0.1:{port}"
    with processes.started(command, url, core=core, log=tmp_path / "log") as running:
        assert os.sched_getaffinity(running.pid) == {core}
        assert processes.fetch(f"{url}/missing")[0] == 404
    assert running.process.returncode is not None


def test_a_program_that_is_missing_is_told_with_the_command_that_installs_it() -> None:
    with pytest.raises(SystemExit, match="apt-get install --yes no-such-program"):
        processes.program("no-such-program")
