from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llm_server.settings.layers import from_json
from llm_server.settings.tree import DEFAULT, Node, Origin, at, dotted, nearest, origin, overlay, plain

FILE, FLAG = Origin("file", "x.yaml", 3), Origin("flag", "--port")
NAMES = st.sampled_from("abc")
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)
MAPPINGS = st.dictionaries(NAMES, VALUES, max_size=3)


def merged(below: Any, above: Any) -> Any:
    """What a merge of plain values should be: an independent definition."""
    if isinstance(below, dict) and isinstance(above, dict):
        return {
            name: merged(below[name], above[name])
            if name in below and name in above
            else {**below, **above}[name]
            for name in {**below, **above}
        }
    return above


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The paths of everything but mappings."""
    if isinstance(value, dict):
        return [leaf for name, each in value.items() for leaf in leaves(each, (*path, name))]
    return [path]


@given(VALUES)
def test_values_survive_becoming_nodes(value: Any) -> None:
    assert plain(from_json(value, FILE)) == value


@given(MAPPINGS, MAPPINGS)
def test_an_overlay_is_a_deep_merge(below: Any, above: Any) -> None:
    assert plain(overlay(from_json(below, FILE), from_json(above, FLAG))) == merged(below, above)


@given(MAPPINGS, MAPPINGS)
def test_every_value_comes_from_the_highest_layer_that_has_it(below: Any, above: Any) -> None:
    top = from_json(above, FLAG)
    both = overlay(from_json(below, FILE), top)
    for path in leaves(plain(both)):
        assert origin(both, path) == (FLAG if at(top, path) else FILE)


def test_what_no_layer_has_is_a_default() -> None:
    root = from_json({"server": {"port": 1}, "models": {"fast": ["a", "b"]}}, FILE)
    assert origin(root, ("server", "host")) == DEFAULT
    assert origin(root, ("pool", "x")) == DEFAULT
    assert origin(root, ("models", "fast", 5)) == FILE


def test_nearest_is_the_deepest_node_on_the_way() -> None:
    root = Node({"server": Node({"port": Node(1, FLAG)}, FILE)}, DEFAULT)
    assert nearest(root, ("server", "host")).origin == FILE
    assert nearest(root, ("server", "port", "x")).origin == FLAG
    assert nearest(root, ("pool",)).origin == DEFAULT


def test_a_section_of_the_file_keeps_its_line_under_an_override() -> None:
    both = overlay(from_json({"server": {"host": "x"}}, FILE), from_json({"server": {"port": 1}}, FLAG))
    assert origin(both, ("server",)) == FILE


def test_paths_and_origins_are_written_as_people_read_them() -> None:
    assert dotted(("engine", "models", 0, "name")) == "engine.models[0].name"
    assert str(FILE) == "file x.yaml:3"
    assert FILE.location == "x.yaml:3"
    assert str(FLAG) == FLAG.location == "flag --port"
    assert str(FILE._replace(variables=("A", "B"))) == "file x.yaml:3 (${A}, ${B})"


def test_a_node_never_prints_its_value() -> None:
    assert "sk-secret" not in repr(from_json({"providers": {"x": {"api_key": "sk-secret"}}}, FILE))
