"""Divide what came for a group among its members."""

from collections.abc import Sequence

from llm_server.contract import EmbedCall, Usage

BYTES_PER_TOKEN = 4
"""English text and code have about four bytes a token in every current vocabulary."""


def weight(call: EmbedCall) -> int:
    """Return about how many tokens the inputs of ``call`` are: exactly, for those that are token ids."""
    return sum(
        len(each.encode()) // BYTES_PER_TOKEN + 1 if isinstance(each, str) else len(each)
        for each in call.inputs
    )


def size(call: EmbedCall) -> int:
    """Return the bytes of the inputs of ``call``; token ids count as the text that they stand for."""
    return sum(
        len(each.encode()) if isinstance(each, str) else len(each) * BYTES_PER_TOKEN for each in call.inputs
    )


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """Return whole parts of ``total`` in the proportion of ``weights``, whose sum is ``total`` exactly.

    By largest remainder (Hamilton's method: Balinski and Young, Fair Representation, 1982): each gets its
    share rounded down, and what is left goes one by one to the largest remainders, to earlier ones first. So
    nobody is more than one off its exact share. Equal parts where all weights are zero.
    """
    whole = sum(weights)
    if whole == 0:
        weights, whole = [1] * len(weights), len(weights)
    parts = [total * each // whole for each in weights]
    by_remainder = sorted(range(len(parts)), key=lambda at: -(total * weights[at] % whole))
    for at in by_remainder[: total - sum(parts)]:
        parts[at] += 1
    return parts


def divided(usage: Usage, weights: Sequence[int]) -> list[Usage]:
    """Return the parts of ``usage``: every kind of token divided by :func:`apportion`."""
    names = Usage.__struct_fields__
    columns = [apportion(getattr(usage, name), weights) for name in names]
    return [Usage(**dict(zip(names, each, strict=True))) for each in zip(*columns, strict=True)]
