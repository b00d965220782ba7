"""The worker process that runs OpenVINO GenAI: orders come in by its standard input, reports go out.

One thread does everything: between two steps of the pipeline it looks for orders, and without work it waits
for them. It ends when its input does, so that it cannot outlive the server. An error inside a step leaves the
pipeline unusable (every later step fails), so the process then ends: the server starts another.
"""

import codecs
import os
import select
import sys
from pathlib import Path
from typing import Any, BinaryIO

from llm_server.contract import ErrorKind
from llm_server.engine import frames
from llm_server.engine.gguf import GgufError, vocabulary
from llm_server.engine.runtime import Ended, Generation, Resources
from llm_server.engine.stops import StopScanner

_KV_BLOCK_TOKENS = 32  # of the CPU plug-in
_STEP_TOKENS = 256


class _Running:
    """A generation in the pipeline: its tokens become whole characters, up to a stop sequence."""

    def __init__(self, generation: Generation, handle: Any, input_tokens: int) -> None:
        self.handle = handle
        self._input_tokens = input_tokens
        self._output_tokens = 0
        self._scanner = StopScanner(generation.stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def take(self, vocabulary: list[bytes]) -> tuple[str, Ended | None]:
        """Return the text that came since the last call, and how it ended if it did."""
        text, reason = "", None
        while reason is None and not self._scanner.matched and self.handle.can_read():
            for output in self.handle.read().values():
                self._output_tokens += len(output.generated_ids)
                data = b"".join(vocabulary[token] for token in output.generated_ids)
                text += self._scanner.feed(self._decoder.decode(data))
                reason = {"STOP": "stop", "LENGTH": "length"}.get(output.finish_reason.name)
        if reason and not self._scanner.matched:
            text += self._scanner.end()  # a character cut by the length limit is left out, as llama.cpp does
        if self._scanner.matched:
            reason = "stop"
        return text, self._ended(reason) if reason else None

    def _ended(self, reason: Any) -> Ended:
        return Ended(
            reason=reason,
            stop_sequence=self._scanner.matched,
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
        )


class Worker:
    """Obeys orders with one pipeline."""

    def __init__(self, resources: Resources, out: BinaryIO) -> None:
        import openvino_genai

        scheduler = openvino_genai.SchedulerConfig()
        scheduler.max_num_seqs = resources.slots
        scheduler.max_num_batched_tokens = max(_STEP_TOKENS, resources.slots)
        # Room for every slot's whole context: nothing is ever thrown out of the batch and computed again.
        scheduler.num_kv_blocks = resources.slots * (-(-resources.context // _KV_BLOCK_TOKENS) + 1)
        properties = {"INFERENCE_NUM_THREADS": resources.threads}
        self._genai = openvino_genai
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(
            str(resources.path), scheduler, "CPU", properties
        )
        self._tokenizer = self._pipeline.get_tokenizer()
        self._defaults = self._pipeline.get_config()
        self._vocabulary = vocabulary(Path(resources.path))
        self._context = resources.context
        self._out = out
        self._running: dict[int, _Running] = {}

    def obey(self, order: frames.Order) -> None:
        """Carry out one order; what is wrong with it is reported and touches no other."""
        match order:
            case frames.Cancel(id=id):
                self._cancel(id)
            case frames.Count(id=id, text=text):
                self.report(frames.Counted(id, len(self._encode(text))))
            case frames.Generate(id=id, generation=generation):
                try:
                    self._add(id, generation)
                except RuntimeError as error:
                    self.report(
                        frames.Failed(id, ErrorKind.INVALID_REQUEST, str(error).strip().splitlines()[-1])
                    )

    def _cancel(self, id: int) -> None:
        if running := self._running.pop(id, None):
            running.handle.cancel()

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text).input_ids.data.flatten().tolist() if text else []
        return ids

    def _add(self, id: int, generation: Generation) -> None:
        count = len(self._encode(generation.prompt))
        if count == 0:
            # As llama.cpp answers it; the pipeline itself would fail.
            self.report(frames.Done(id, Ended(reason="length", input_tokens=0, output_tokens=0)))
        elif count >= self._context:
            self.report(frames.Failed(id, ErrorKind.CONTEXT_OVERFLOW, "", prompt_tokens=count))
        else:
            config = self._config(generation, self._context - count)
            handle = self._pipeline.add_request(id, generation.prompt, config)
            self._running[id] = _Running(generation, handle, count)

    def _config(self, generation: Generation, room: int) -> Any:
        config = self._genai.GenerationConfig()
        config.apply_chat_template = False
        config.eos_token_id, config.stop_token_ids = (
            self._defaults.eos_token_id,
            self._defaults.stop_token_ids,
        )
        config.max_new_tokens = min(generation.max_tokens or room, room)
        config.presence_penalty, config.frequency_penalty = (
            generation.presence_penalty,
            generation.frequency_penalty,
        )
        if generation.temperature > 0:
            config.do_sample = True
            config.temperature, config.top_p = generation.temperature, generation.top_p
            if generation.top_k:
                config.top_k = generation.top_k
            seed = generation.seed if generation.seed is not None else int.from_bytes(os.urandom(4), "little")
            config.rng_seed = seed % (1 << 32)
        return config

    @property
    def busy(self) -> bool:
        """Whether there is anything to compute."""
        return bool(self._running)

    def step(self) -> None:
        """Compute the next token of every generation, and report."""
        self._pipeline.step()
        for id, running in list(self._running.items()):
            text, ended = running.take(self._vocabulary)
            if text:
                self.report(frames.Wrote(id, text))
            if ended:
                self._cancel(id)
                self.report(frames.Done(id, ended))

    def report(self, report: frames.Report) -> None:
        """Send ``report`` to the server."""
        self._out.write(frames.encode(report))
        self._out.flush()


def serve(inp: BinaryIO, out: BinaryIO) -> None:
    """Load what the first order says and obey until ``inp`` ends. ``inp`` is unbuffered: it is polled."""
    first = frames.read_order(inp)
    if not isinstance(first, frames.Load):
        return
    try:
        worker = Worker(first.resources, out)
    except (ImportError, RuntimeError, GgufError, OSError) as error:
        out.write(frames.encode(frames.Failed(0, ErrorKind.UNAVAILABLE, f"{type(error).__name__}: {error}")))
        out.flush()
        return
    worker.report(frames.Loaded())
    while True:
        while not worker.busy or select.select([inp], [], [], 0)[0]:
            if (order := frames.read_order(inp)) is None:
                return
            worker.obey(order)
        worker.step()


def main() -> None:
    """Serve on this process's own pipes. What libraries print goes to the error stream."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as out, os.fdopen(os.dup(0), "rb", buffering=0) as inp:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        serve(inp, out)


if __name__ == "__main__":
    main()
