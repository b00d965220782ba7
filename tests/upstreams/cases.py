"""The corpus: what real providers send, as bytes on disk, each with its source noted.

``corpus/<vendor>/<case>.<whole|stream>/`` holds ``response.json``, ``response.sse`` or ``response.ndjson``
(the exact bytes of the body) and ``meta.yaml``. A case in both forms tells one answer twice. A vendor's
``answers.yaml`` states it once, in words that are nobody's dialect, and ``errors.yaml`` lists its refusals.

How far a body may be trusted is its ``trust``: ``recorded`` (the shape was seen in a recorded body: a fixture
of a vendor or an SDK, or an issue that quotes it), ``documented`` (shape or status read in the vendor's pages
or SDK, wording ours) or ``recalled`` (the named page was not at hand: to be replaced by a recording).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

CORPUS = Path(__file__).parent / "corpus"
Form = Literal["whole", "stream"]
Trust = Literal["recorded", "documented", "recalled"]
BODIES = ("response.json", "response.sse", "response.ndjson")

VENDORS = tuple(sorted(folder.name for folder in CORPUS.iterdir() if folder.is_dir()))


@dataclass(frozen=True, kw_only=True)
class Case:
    """One scripted response.

    ``operation`` is one of ``chat``, ``messages``, ``generate``, ``completions``, ``embeddings``, ``models``,
    ``count_tokens``, ``tags``; ``path`` is the vendor's own path of it, without host and query.
    """

    vendor: str
    name: str
    form: Form
    operation: str
    method: str
    path: str
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    trust: Trust
    source: str = field(repr=False)
    answer: Mapping[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        """``vendor/name.form``: a test's parameter id and the folder's path."""
        return f"{self.vendor}/{self.name}.{self.form}"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """One error response of a vendor."""

    vendor: str
    name: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    trust: Trust
    source: str = field(repr=False)

    @property
    def id(self) -> str:
        """``vendor/error/name``: a test's parameter id."""
        return f"{self.vendor}/error/{self.name}"


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@cache
def _answers(vendor: str) -> Mapping[str, Mapping[str, Any]]:
    return dict(_yaml(CORPUS / vendor / "answers.yaml"))


@cache
def load(vendor: str, name: str, form: Form = "whole") -> Case:
    """Return one case.

    Raises:
        FileNotFoundError: the vendor has no such case in this form.
    """
    folder = CORPUS / vendor / f"{name}.{form}"
    meta = _yaml(folder / "meta.yaml")
    body = next((folder / kind).read_bytes() for kind in BODIES if (folder / kind).exists())
    return Case(
        vendor=vendor,
        name=name,
        form=form,
        operation=meta["operation"],
        method=meta["method"],
        path=meta["path"],
        status=meta["status"],
        headers=meta["headers"],
        body=body,
        trust=meta["trust"],
        source=meta["source"],
        answer=_answers(vendor)[name],
    )


def exists(vendor: str, name: str, form: Form) -> bool:
    """Whether the vendor has this case in this form."""
    return (CORPUS / vendor / f"{name}.{form}").is_dir()


def cases(*vendors: str, operation: str | None = None, form: Form | None = None) -> Iterator[Case]:
    """Yield the cases of these vendors (all, if none is named), in a fixed order."""
    for vendor in vendors or VENDORS:
        for folder in sorted((CORPUS / vendor).iterdir()):
            if not folder.is_dir():
                continue
            name, _, found = folder.name.rpartition(".")
            case = load(vendor, name, "whole" if found == "whole" else "stream")
            if operation in {None, case.operation} and form in {None, case.form}:
                yield case


def pairs(*vendors: str, operation: str | None = None) -> Iterator[tuple[Case, Case]]:
    """Yield ``(whole, stream)`` of every case that exists in both forms: one answer told twice."""
    for whole in cases(*vendors, operation=operation, form="whole"):
        if exists(whole.vendor, whole.name, "stream"):
            yield whole, load(whole.vendor, whole.name, "stream")


@cache
def refusals(vendor: str) -> tuple[Refusal, ...]:
    """Return the error responses of a vendor."""
    rows = _yaml(CORPUS / vendor / "errors.yaml")
    return tuple(
        Refusal(
            vendor=vendor,
            name=row["name"],
            status=row["status"],
            headers=row["headers"],
            body=row["body"].encode(),
            trust=row["trust"],
            source=row["source"],
        )
        for row in rows
    )


def refusal(vendor: str, name: str) -> Refusal:
    """Return one error response of a vendor.

    Raises:
        KeyError: the vendor has no such row.
    """
    return {row.name: row for row in refusals(vendor)}[name]


def frames(body: bytes) -> tuple[bytes, ...]:
    """Split a stream's body after each blank line (or, for JSON lines, after each line), losing no byte."""
    parts: list[bytes] = []
    start = 0
    ends = (b"\r\n\r\n", b"\n\n") if b"\n\n" in body or b"\r\n\r\n" in body else (b"\n",)
    while start < len(body):
        found = [body.find(end, start) + len(end) for end in ends if body.find(end, start) >= 0]
        stop = min(found, default=len(body))
        parts.append(body[start:stop])
        start = stop
    return tuple(parts)
