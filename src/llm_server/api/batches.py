"""Batches: make, list, show and cancel."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Path, Query, Request

from llm_server.api.files import After, refusals
from llm_server.api.identity import tenant_of
from llm_server.api.schemas.batches import BatchList, BatchObject, NewBatch
from llm_server.contract import UNFINISHED, Batch, BatchOrder, BatchStatus, LineProblem, Usage

BatchId = Annotated[str, Path(max_length=128, description="The batch's id.")]
_REFUSALS = {
    400: "A field or parameter is not right, or the provider has no batch API.",
    404: "There is no such batch, file or model.",
    409: "The batch is over.",
    413: "The body is too large.",
    503: "The database cannot be used now.",
}


class Batches(Protocol):
    """What the routes need of batches. Implemented in batching/; all raise ``ServerError``."""

    async def create(self, tenant: str, order: BatchOrder) -> Batch:
        """Make a batch."""
        ...

    async def show(self, tenant: str, batch_id: str) -> Batch:
        """Return a batch."""
        ...

    async def page(self, tenant: str, after: str | None, limit: int) -> Sequence[Batch]:
        """Return batches, newest first, after the batch ``after``; ``NOT_FOUND`` if there is none."""
        ...

    async def cancel(self, tenant: str, batch_id: str) -> Batch:
        """Have a batch given up."""
        ...


def router(batches: Batches) -> APIRouter:
    """Return the routes below ``/v1/batches``."""
    routes = APIRouter(tags=["batches"], responses=refusals(_REFUSALS))

    @routes.post("/v1/batches")
    async def create(request: Request, body: NewBatch) -> BatchObject:
        """Have the requests of a file answered in the server's spare time (OpenAI dialect)."""
        return shown(await batches.create(tenant_of(request), _order(body)))

    @routes.get("/v1/batches")
    async def batch_list(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        after: After = None,
    ) -> BatchList:
        """List batches, newest first."""
        found = await batches.page(tenant_of(request), after or None, limit + 1)
        data = [shown(batch) for batch in found[:limit]]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return BatchList(data=data, first_id=first, last_id=last, has_more=len(found) > limit)

    @routes.get("/v1/batches/{batch_id}")
    async def batch(request: Request, batch_id: BatchId) -> BatchObject:
        """Show a batch: how far it is, and where its answers are."""
        return shown(await batches.show(tenant_of(request), batch_id))

    @routes.post("/v1/batches/{batch_id}/cancel")
    async def cancel(request: Request, batch_id: BatchId) -> BatchObject:
        """Give a batch up. The answers that it has are kept."""
        return shown(await batches.cancel(tenant_of(request), batch_id))

    return routes


def _order(body: NewBatch) -> BatchOrder:
    expiry = body.output_expires_after
    return BatchOrder(
        endpoint=body.endpoint,
        input_file=body.input_file_id,
        window=body.completion_window,
        metadata=body.metadata,
        output_expires_after_s=None if expiry is None else expiry.seconds,
        provider_batch=body.provider_batch,
    )


def shown(batch: Batch) -> BatchObject:
    """Return a batch in OpenAI's form."""
    upstream = batch.upstream
    # While a provider works on it, only the provider knows how far it is.
    progress = upstream.batch if upstream is not None and batch.status in UNFINISHED else None
    return BatchObject.model_validate(
        {
            "id": batch.id,
            "endpoint": batch.endpoint,
            "model": batch.model,
            "errors": {"data": [_problem(each) for each in batch.problems]} if batch.problems else None,
            "input_file_id": batch.input_file,
            "completion_window": batch.window,
            "status": batch.status.value,
            "output_file_id": batch.output_file,
            "error_file_id": batch.error_file,
            "created_at": batch.created,
            "expires_at": batch.expires,
            **_reached(batch.times),
            "request_counts": {
                "total": batch.total,
                "completed": max(batch.completed, progress.completed if progress else 0),
                "failed": max(batch.failed, progress.failed if progress else 0),
            },
            "usage": _usage(batch.usage),
            "metadata": batch.metadata,
            "provider_batch": upstream.provider if upstream is not None else None,
        }
    )


def _reached(times: Mapping[BatchStatus, int]) -> dict[str, int | None]:
    later = (status for status in BatchStatus if status is not BatchStatus.VALIDATING)
    return {f"{status}_at": times.get(status) for status in later}


def _problem(problem: LineProblem) -> dict[str, Any]:
    return {
        "code": problem.code,
        "line": problem.line,
        "message": problem.message,
        "param": problem.param,
    }


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
