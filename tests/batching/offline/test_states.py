"""The life of a batch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.batching.offline.states import FOLLOWING, entered, over
from llm_server.contract import UNFINISHED, Batch, BatchStatus

NEW = Batch(id="b", endpoint="/v1/embeddings", input_file="f", expires=9, times={BatchStatus.VALIDATING: 1})
S = BatchStatus


@pytest.mark.parametrize(
    "way",
    [
        (S.IN_PROGRESS, S.FINALIZING, S.COMPLETED),
        (S.FAILED,),
        (S.IN_PROGRESS, S.EXPIRED),
        (S.CANCELLING, S.CANCELLED),
        (S.IN_PROGRESS, S.CANCELLING, S.CANCELLED),
    ],
)
def test_every_documented_way_can_be_gone(way: tuple[BatchStatus, ...]) -> None:
    batch = NEW
    for at, status in enumerate(way, 2):
        assert not over(batch)
        batch = entered(batch, status, at + 0.9)
        assert (batch.status, batch.times[status]) == (status, at)
    assert over(batch)
    assert batch.created == 1


@given(st.lists(st.sampled_from(BatchStatus), max_size=12))
def test_no_way_leads_back_or_on_from_an_end(way: list[BatchStatus]) -> None:
    batch, seen = NEW, [S.VALIDATING]
    for status in way:
        if status in FOLLOWING.get(batch.status, ()):
            batch = entered(batch, status, len(seen))
            seen.append(status)
        else:
            with pytest.raises(ValueError, match=f"is {batch.status} cannot become {status}"):
                entered(batch, status, 0)
    assert len(set(seen)) == len(seen) <= 4
    assert list(batch.times) == seen
    assert over(batch) == (batch.status not in FOLLOWING)


def test_unfinished_is_what_something_follows() -> None:
    assert FOLLOWING.keys() == UNFINISHED
    assert {status for following in FOLLOWING.values() for status in following} == set(S) - {S.VALIDATING}
