"""TLS with a private authority made here: whom we trust, who we are, and sessions that are taken up again."""

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from llm_server.contract import ErrorKind, HttpRequest, ServerError
from llm_server.pool import tls
from llm_server.pool.config import PoolConfig
from tests.pool.peers import (
    OK,
    POST,
    Talk,
    answering,
    every_transport,
    fetch,
    on_every_loop,
    peer,
    pieces,
    to,
)

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@dataclass
class Authority:
    """Makes certificates; ``ca_file`` is what trusts them."""

    folder: Path
    ca_file: Path
    key: ec.EllipticCurvePrivateKey
    name: x509.Name

    def issue(self, name: str, address: str | None = None) -> Path:
        """Return a file with a key and its certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName(name)]
        if address is not None:
            names.append(x509.IPAddress(ipaddress.ip_address(address)))
        signed = (
            _certificate(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), self.name, key)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        path = self.folder / f"{name}.pem"
        path.write_bytes(_pem(key) + signed.public_bytes(serialization.Encoding.PEM))
        return path

    def server(
        self, path: Path, version: ssl.TLSVersion, *, ask_for_a_client: bool = False
    ) -> ssl.SSLContext:
        """Return a server's context."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = context.maximum_version = version
        context.load_cert_chain(path)
        if ask_for_a_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.ca_file)
        return context


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
    )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a private authority")])
    usage = x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        **dict.fromkeys(
            (
                "digital_signature",
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        ),
    )
    made = (
        _certificate(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    ca_file = folder / "ca.pem"
    ca_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return Authority(folder, ca_file, key, name)


@pytest.fixture(scope="module")
def server_pem(authority: Authority) -> Path:
    return authority.issue("localhost", "127.0.0.1")


@pytest.fixture(autouse=True)
def _no_sessions() -> Iterator[None]:
    """Begin without the sessions of other tests: contexts are shared in a process."""
    tls._context.cache_clear()
    yield
    tls._context.cache_clear()


async def failure(url: str, kind: str, **config: object) -> ServerError:
    async with to(url, kind, **config) as wire:
        with pytest.raises(ServerError) as caught:
            await fetch(wire)
    return caught.value


@pytest.mark.parametrize("version", VERSIONS)
@every_transport
@on_every_loop
async def test_the_configured_authority_is_trusted_and_connections_are_kept(
    authority: Authority, server_pem: Path, version: str, kind: str
) -> None:
    context = authority.server(server_pem, VERSIONS[version])
    async with (
        peer(answering(OK, OK), tls=context) as up,
        to(up.url, kind, ca_file=authority.ca_file) as wire,
    ):
        assert await fetch(wire) == await fetch(wire) == (200, b"ok")
        assert up.connections == 1
        body = b"x" * 3_000_000
    async with peer(answering(OK), tls=context) as up, to(up.url, kind, ca_file=authority.ca_file) as wire:
        assert await fetch(wire, HttpRequest(path="x", body=body)) == (200, b"ok")
        assert up.asked[0].body == body


@every_transport
@on_every_loop
async def test_nobody_else_is_trusted(authority: Authority, server_pem: Path, kind: str) -> None:
    context = authority.server(server_pem, ssl.TLSVersion.TLSv1_3)
    async with peer(answering(OK), tls=context) as up:
        error = await failure(up.url, kind)
        assert error.kind is ErrorKind.UPSTREAM_UNREACHABLE
        assert "ertificate" in error.detail
        assert error.__context__ is None
        assert up.asked == []


@every_transport
async def test_a_certificate_for_another_name_is_refused(authority: Authority, kind: str) -> None:
    context = authority.server(authority.issue("elsewhere.test"), ssl.TLSVersion.TLSv1_3)
    async with peer(answering(OK), tls=context) as up:
        error = await failure(up.url, kind, ca_file=authority.ca_file)
        assert error.kind is ErrorKind.UPSTREAM_UNREACHABLE
        assert up.asked == []


@every_transport
@on_every_loop
async def test_a_client_shows_its_certificate(authority: Authority, server_pem: Path, kind: str) -> None:
    context = authority.server(server_pem, ssl.TLSVersion.TLSv1_3, ask_for_a_client=True)
    mine = authority.issue("client.test")
    shown: list[object] = []

    async def talk(it: Talk) -> None:
        await it.request()
        shown.append(it.writer.get_extra_info("peercert")["subject"])
        it.send(OK)
        await it.gone()

    async with peer(talk, tls=context) as up:
        async with to(up.url, kind, ca_file=authority.ca_file, client_cert_file=mine) as wire:
            assert await fetch(wire) == (200, b"ok")
        assert shown == [((("commonName", "client.test"),),)]
        error = await failure(up.url, kind, ca_file=authority.ca_file)
        assert error.kind in {ErrorKind.UPSTREAM_UNREACHABLE, ErrorKind.UPSTREAM_TRUNCATED}
        assert len(up.asked) == 1


@every_transport
@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_files_that_hold_no_certificate_are_told(
    tmp_path: Path, content: str | None, kind: str
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    assert (await failure("https://127.0.0.1:1", kind, ca_file=path)).kind is ErrorKind.UPSTREAM_UNREACHABLE


def test_a_key_needs_its_certificate() -> None:
    with pytest.raises(ValueError, match="client_cert_file"):
        PoolConfig(client_key_file=Path("key.pem"))


@pytest.mark.parametrize("version", VERSIONS)
@on_every_loop
async def test_sessions_are_taken_up_again_by_the_next_connections(
    authority: Authority, server_pem: Path, version: str
) -> None:
    context = authority.server(server_pem, VERSIONS[version])
    resumed: list[bool] = []

    async def talk(it: Talk) -> None:
        resumed.append(it.writer.get_extra_info("ssl_object").session_reused)
        await answering(OK, OK)(it)

    async with peer(talk, tls=context) as up:
        async with to(up.url, ca_file=authority.ca_file) as wire:
            await fetch(wire)
            await asyncio.gather(*(fetch(wire) for _ in range(4)))
        async with to(up.url, ca_file=authority.ca_file) as wire:  # the first one's connections are closed
            await fetch(wire)
        assert resumed[0] is False
        assert len(resumed) > 3
        assert all(resumed[1:])


@pytest.mark.parametrize("version", VERSIONS)
@on_every_loop
async def test_without_the_goodbye_of_tls_a_body_that_ends_with_the_connection_is_cut(
    authority: Authority, server_pem: Path, version: str
) -> None:
    """Whoever sits between can end TCP; only the peer can end TLS (RFC 9112 9.8)."""
    context = authority.server(server_pem, VERSIONS[version])

    async def talk(it: Talk) -> None:
        await it.request()
        it.send(b"HTTP/1.1 200 OK\r\n\r\nbody")
        if it.number == 1:
            return  # says goodbye
        await it.writer.drain()
        it.writer.transport.abort()

    async with peer(talk, tls=context) as up, to(up.url, ca_file=authority.ca_file) as wire:
        assert await fetch(wire) == (200, b"body")
        with pytest.raises(ServerError) as caught:
            await fetch(wire)
        assert caught.value.kind is ErrorKind.UPSTREAM_TRUNCATED


@on_every_loop
async def test_streams_come_piece_by_piece_through_tls(authority: Authority, server_pem: Path) -> None:
    context = authority.server(server_pem, ssl.TLSVersion.TLSv1_3)
    body = bytes(range(256)) * 20_000

    async def talk(it: Talk) -> None:
        await it.request()
        it.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await it.gone()

    async with peer(talk, tls=context) as up, to(up.url, ca_file=authority.ca_file) as wire:
        async with wire.exchange(POST) as response:
            got = await pieces(response)
        assert b"".join(got) == body
        assert len(got) > 1
        assert wire.stats()["idle"] == 1
