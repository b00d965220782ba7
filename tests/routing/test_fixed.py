"""Names become targets; what a model cannot do is said before anything is sent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import ChatCall, ErrorKind, Facts, Message, Role, ServerError, Target, Text, Tool
from llm_server.routing import FixedOrder, RouteConfig, RoutingConfig

CALL = ChatCall(model="x", messages=(Message(Role.USER, (Text("hi"),)),))


def order(default_model: str | None = None, **aliases: tuple[str, ...]) -> FixedOrder:
    bare = {"small": Target("local", "small")}
    config = RoutingConfig(
        aliases={name.replace("_any", "*"): RouteConfig(targets=to) for name, to in aliases.items()},
        default_model=default_model,
    )
    return FixedOrder(config, {"a", "b", "local"}, bare)


@given(st.text(min_size=1))
def test_a_provider_and_a_model_always_work(model: str) -> None:
    assert order().route(f"a/{model}").targets == (Target("a", model),)


def test_an_alias_keeps_its_order() -> None:
    assert order(fast=("b/y", "a/x/z")).route("fast").targets == (Target("b", "y"), Target("a", "x/z"))


def test_an_alias_may_look_like_a_provider_and_a_model() -> None:
    config = RoutingConfig(aliases={"a/x": RouteConfig(targets=("b/y",))})
    assert FixedOrder(config, {"a", "b"}, {}).route("a/x").targets == (Target("b", "y"),)


def test_a_bare_name_needs_no_provider() -> None:
    assert order().route("small").targets == (Target("local", "small"),)


def test_the_longest_pattern_wins_and_carries_the_rest() -> None:
    routes = order(g_any=("a/*",), gpt_any=("b/v-*", "a/fixed"))
    assert routes.route("gpt-4").targets == (Target("b", "v--4"), Target("a", "fixed"))
    assert routes.route("gx").targets == (Target("a", "x"),)


def test_an_unknown_name_goes_to_the_default_model() -> None:
    assert order("a/x").route("whatever").targets == (Target("a", "x"),)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("smal", "Did you mean 'small'?"),
        ("c/x", "No provider named 'c' is configured (configured: a, b, local)"),
        ("zzz", "GET /v1/models"),
        ("a/", "Unknown model 'a/'"),
    ],
)
def test_an_unknown_name_is_explained(model: str, words: str) -> None:
    with pytest.raises(ServerError) as caught:
        order().route(model)
    assert caught.value.kind is ErrorKind.MODEL_NOT_FOUND
    assert words in caught.value.message


def test_an_alias_must_name_a_configured_provider() -> None:
    with pytest.raises(ValueError, match="'c/x' is not provider/model of a configured provider"):
        order(bad=("c/x",))


def test_a_plan_leaves_out_what_cannot_and_says_why() -> None:
    call = ChatCall(model="x", messages=CALL.messages, tools=(Tool(name="f"),))
    can, cannot = Target("a", "x"), Target("b", "y")
    plan = order().plan(call, (cannot, can), {can: Facts(), cannot: Facts(tools=False)}.__getitem__)
    assert plan.attempts == (can,)
    assert plan.dropped == {cannot: "tools"}


def test_a_plan_without_attempts_is_refused() -> None:
    target = Target("a", "x")
    with pytest.raises(ServerError) as caught:
        order().plan(CALL, (target,), {target: Facts(chat=False)}.__getitem__)
    assert caught.value.kind is ErrorKind.UNSUPPORTED
    assert caught.value.message == "a/x does not support chat. Choose another model."
    assert caught.value.param == "model"
