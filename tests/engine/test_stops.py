"""Stop sequences are found however the text is cut."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from llm_server.engine.stops import StopScanner

few = st.text(alphabet="ab\n", max_size=30)


def reference(text: str, stops: tuple[str, ...]) -> tuple[str, str]:
    """The text before the first stop sequence, read whole; of two at one place the longer."""
    places = [(text.index(stop), -len(stop), stop) for stop in stops if stop in text]
    return (text[: min(places)[0]], min(places)[2]) if places else (text, "")


def read(pieces: list[str], stops: tuple[str, ...]) -> tuple[str, str]:
    scanner = StopScanner(stops)
    seen = "".join(scanner.feed(piece) for piece in pieces)
    return (seen if scanner.matched else seen + scanner.end()), scanner.matched


@given(few, few, st.lists(st.integers(0, 30)))
def test_one_stop_in_any_cut(text: str, stop: str, cuts: list[int]) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end] for start, end in pairwise(places)]
    stops = (stop,) if stop else ()
    assert read(pieces, stops) == reference(text, stops)


@given(few, st.lists(st.text(alphabet="ab\n", min_size=2, max_size=2), max_size=4))
def test_many_stops_in_single_characters(text: str, stops: list[str]) -> None:
    assert read(list(text), tuple(stops)) == reference(text, tuple(stops))


def test_the_first_of_several_wins() -> None:
    assert read(["one two three"], ("three", "two")) == ("one ", "two")


def test_what_can_be_no_stop_is_not_held_back() -> None:
    scanner = StopScanner(("###",))
    assert scanner.feed("text #") == "text "
    assert scanner.feed(" more") == "# more"


def test_an_empty_stop_stops_nothing() -> None:
    assert read(["text"], ("",)) == ("text", "")
