"""What an answer tells, as events: one reading for whole bodies and for each step of a stream.

What the fields mean: https://ai.google.dev/api/generate-content (``GenerateContentResponse``).
"""

from hashlib import sha256
from typing import Any

from msgspec import Raw, json
from msgspec.structs import replace

from llm_server.contract import (
    ErrorKind,
    Event,
    Finish,
    FinishReason,
    ReasoningDelta,
    ServerError,
    Started,
    TextDelta,
    ToolDelta,
    Usage,
)
from llm_server.providers.dialects.gemini.shapes import (
    Answer,
    Candidate,
    Counts,
    FunctionCall,
    Logprobs,
    Part,
    Token,
)
from llm_server.providers.dialects.signatures import seal, signed_id

FINISH: dict[str, FinishReason] = {
    "STOP": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    # The per-request limit was reached; what there is of the answer is whole as far as it goes.
    "CONTINUATION": FinishReason.LENGTH,
    "SAFETY": FinishReason.CONTENT_FILTER,
    "RECITATION": FinishReason.CONTENT_FILTER,
    "LANGUAGE": FinishReason.CONTENT_FILTER,
    "BLOCKLIST": FinishReason.CONTENT_FILTER,
    "PROHIBITED_CONTENT": FinishReason.CONTENT_FILTER,
    "SPII": FinishReason.CONTENT_FILTER,
    "ESCALATION": FinishReason.CONTENT_FILTER,
    "MODEL_ARMOR": FinishReason.CONTENT_FILTER,
    "IMAGE_SAFETY": FinishReason.CONTENT_FILTER,
    "IMAGE_PROHIBITED_CONTENT": FinishReason.CONTENT_FILTER,
    "IMAGE_RECITATION": FinishReason.CONTENT_FILTER,
}
"""``Candidate.finishReason`` as callers see it; one named neither here nor in FAILED counts as a stop."""

FAILED = frozenset(
    {
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
        "PUP_LIMITED_DISABLED",
    }
)
"""Reasons that say the model failed: there is no answer to give, and another attempt may have one."""


class _Track:
    """One candidate while it grows: numbers its parts. Neighbouring texts, or thoughts, are one part."""

    def __init__(self) -> None:
        self.part = -1
        self.kind = ""
        self.calls = 0
        self.finished = False

    def place(self, kind: str) -> int:
        """Return the part that a piece of ``kind`` belongs to; a tool call is always a part of its own."""
        if kind != self.kind or kind == "call":
            self.part += 1
        self.kind = kind
        return self.part


class Narrator:
    """Tells the events of one answer, step by step; a whole answer is one step."""

    def __init__(self) -> None:
        self._id = ""
        self._started = False
        self._tracks: dict[int, _Track] = {}

    @property
    def finished(self) -> bool:
        """Whether there are candidates and each has given its finish reason."""
        return bool(self._tracks) and all(track.finished for track in self._tracks.values())

    def tell(self, answer: Answer) -> tuple[Event, ...]:
        """Return what ``answer`` says.

        Raises:
            ServerError: ``CONTENT_REJECTED`` when the prompt was blocked: nothing was generated, and the
                caller can only change the request. ``UPSTREAM_ERROR`` when the model failed (:data:`FAILED`).
        """
        events: list[Event] = []
        if not self._started:
            self._started, self._id = True, answer.response_id
            events.append(Started(id=answer.response_id, model=answer.model_version))
        if answer.prompt_feedback and answer.prompt_feedback.block_reason:
            raise _blocked(answer.prompt_feedback.block_reason)
        for candidate in answer.candidates or ():
            events += self._candidate(candidate)
        if answer.usage_metadata:
            events.append(usage(answer.usage_metadata))
        return tuple(events)

    def _candidate(self, candidate: Candidate) -> list[Event]:
        track = self._tracks.setdefault(candidate.index, _Track())
        parts = (candidate.content and candidate.content.parts) or ()
        events = [event for part in parts for event in self._part(part, candidate.index, track)]
        if candidate.logprobs_result:
            events = _with_logprobs(events, candidate, track)
        if candidate.finish_reason:
            track.finished = True
            events.append(_finish(candidate, called=track.calls > 0))
        return events

    def _part(self, part: Part, index: int, track: _Track) -> list[Event]:
        signature = part.thought_signature or ""
        if part.function_call:
            return [self._call(part.function_call, signature, index, track)]
        events: list[Event] = []
        if part.thought:
            events.append(ReasoningDelta(part.text or "", track.place("thought"), index, seal(signature)))
        elif part.text:
            events.append(TextDelta(part.text, track.place("text"), index))
        if signature and not part.thought:
            # No other dialect signs text: the signature follows as an empty thought; messages.py rejoins.
            events.append(ReasoningDelta("", track.place("signature"), index, seal(signature)))
        if signature:
            track.kind = ""  # a signature seals its part
        return events

    def _call(self, call: FunctionCall, signature: str, index: int, track: _Track) -> ToolDelta:
        arguments = json.encode(call.args or {}).decode()
        number = track.calls
        track.calls += 1
        own = call.id or f"call_{self._id or _digest(call.name, arguments)}_{index}_{number}"
        return ToolDelta(track.place("call"), signed_id(own, signature), call.name, arguments, index)


def _digest(name: str, arguments: str) -> str:
    # An answer without an id: the call's own words name it, so that the same bytes always give the same id.
    return sha256(f"{name}\0{arguments}".encode()).hexdigest()[:16]


def _blocked(reason: str) -> ServerError:
    message = f"The provider refused the prompt ({reason})."
    return ServerError(ErrorKind.CONTENT_REJECTED, message, detail=f"promptFeedback.blockReason {reason}")


def _finish(candidate: Candidate, *, called: bool) -> Finish:
    reason = candidate.finish_reason or ""
    if reason in FAILED:
        message = f"The model gave no answer ({reason})."
        raise ServerError(ErrorKind.UPSTREAM_ERROR, message, detail=candidate.finish_message or reason)
    finish = FINISH.get(reason, FinishReason.STOP)
    if finish is FinishReason.STOP and called:
        finish = FinishReason.TOOL_CALLS
    return Finish(finish, candidate.index)


def usage(counts: Counts) -> Usage:
    """Return Google's counts as ours, as billed: server tools' results are input, thoughts are output."""
    return Usage(
        input_tokens=counts.prompt_token_count + counts.tool_use_prompt_token_count,
        output_tokens=counts.candidates_token_count + counts.thoughts_token_count,
        cached_tokens=counts.cached_content_token_count,
        reasoning_tokens=counts.thoughts_token_count,
    )


def _with_logprobs(events: list[Event], candidate: Candidate, track: _Track) -> list[Event]:
    """Hang the step's log probabilities, in OpenAI's form, on its first text, or on an empty one."""
    assert candidate.logprobs_result is not None
    tokens = _openai_logprobs(candidate.logprobs_result)
    for at, event in enumerate(events):
        if isinstance(event, TextDelta):
            return [*events[:at], replace(event, logprobs=tokens), *events[at + 1 :]]
    return [*events, TextDelta("", track.place("text"), candidate.index, tokens)]


def _openai_logprobs(result: Logprobs) -> Raw:
    tops = [top.candidates for top in result.top_candidates]
    tops += [[]] * (len(result.chosen_candidates) - len(tops))
    content = [
        {**_openai_token(chosen), "top_logprobs": [_openai_token(token) for token in top]}
        for chosen, top in zip(result.chosen_candidates, tops, strict=False)
    ]
    return Raw(json.encode({"content": content}))


def _openai_token(token: Token) -> dict[str, Any]:
    return {"token": token.token, "logprob": token.log_probability, "bytes": list(token.token.encode())}
