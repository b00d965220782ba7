"""What an answer's headers say of its attempts."""

from hypothesis import given
from hypothesis import strategies as st

from llm_server.api.headers import MAX_VALUE, course
from llm_server.contract import Attempt, Context, ErrorKind

ATTEMPTS = st.lists(
    st.builds(
        Attempt,
        provider=st.text(min_size=1, max_size=20),
        model=st.text(max_size=300),
        started_s=st.just(10.0),
        ended_s=st.floats(10, 20),
        error=st.none() | st.sampled_from(ErrorKind),
        outrun=st.booleans(),
        refused=st.booleans(),
    ),
    min_size=1,
    max_size=40,
)


def told(*attempts: Attempt) -> dict[bytes, bytes]:
    return dict(course(Context(request_id="r", attempts=list(attempts))))


def test_each_attempt_is_told_with_its_end_and_its_time() -> None:
    first = Attempt(
        provider="a", model="x", started_s=1.0, ended_s=1.0123, error=ErrorKind.UPSTREAM_OVERLOADED
    )
    lost = Attempt(
        provider="b", model="y", started_s=1.0, ended_s=2.0, error=ErrorKind.CLIENT_CLOSED, outrun=True
    )
    last = Attempt(provider="c", model="z", started_s=2.0, first_byte_s=2.25)
    headers = told(first, lost, last)
    assert headers[b"x-llm-server-attempted"] == (
        b"a/x;error=upstream_overloaded;ms=12.3, b/y;outrun;ms=1000.0, c/z;ok;ms=250.0"
    )
    assert headers[b"x-llm-server-attempts"] == b"3"
    assert headers[b"x-llm-server-provider"] == b"c"


def test_one_attempt_is_told_by_the_other_headers() -> None:
    assert b"x-llm-server-attempted" not in told(Attempt(provider="a", model="x"))


def test_what_was_refused_here_is_listed_and_is_no_attempt() -> None:
    full = Attempt(
        provider="a", model="x", started_s=1.0, ended_s=1.0, refused=True, error=ErrorKind.OVERLOADED
    )
    good = Attempt(provider="b", model="y", started_s=1.0, ended_s=1.5)
    headers = told(full, good)
    assert headers[b"x-llm-server-attempts"] == b"1"
    assert headers[b"x-llm-server-attempted"] == b"a/x;refused=overloaded;ms=0.0, b/y;ok;ms=500.0"
    headers = told(full)
    assert headers[b"x-llm-server-attempts"] == b"0"
    assert headers[b"x-llm-server-attempted"] == b"a/x;refused=overloaded;ms=0.0"


@given(ATTEMPTS)
def test_whatever_the_names_the_list_can_be_read_and_is_bounded(attempts: list[Attempt]) -> None:
    headers = told(*attempts)
    value = headers.get(b"x-llm-server-attempted", b"")
    refused = sum(attempt.refused for attempt in attempts)
    assert int(headers[b"x-llm-server-attempts"]) == len(attempts) - refused
    assert len(value) <= MAX_VALUE
    assert all(32 <= byte < 127 for byte in value)
    listed = value.split(b", ") if value else []
    if len(attempts) > 16:
        assert listed.pop() == b"..."
    assert len(listed) == (min(16, len(attempts)) if len(attempts) > 1 or refused else 0)
    for each in listed:
        name, end, time = each.split(b";")
        assert name
        assert end in {b"ok", b"outrun"} or end.startswith((b"error=", b"refused="))
        assert time.startswith(b"ms=")
