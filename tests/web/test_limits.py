"""What a stranger can make the pages do: little, and not for long."""

import contextlib
import socket
import ssl
import time
from collections.abc import Generator

import pytest

from tests.web.managed import HTTPS_NAME, Managed, managed


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Generator[Managed]:
    with managed(tmp_path_factory.mktemp("site")) as found:
        found.publish(found.snapshot())
        yield found


def connected(site: Managed, source: str = "127.0.0.1") -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", site.port), timeout=60, source_address=(source, 0))
    return site.client().context().wrap_socket(plain, server_hostname=HTTPS_NAME)


def test_what_is_too_large_is_refused(site: Managed) -> None:
    assert site.client().post("/sign-in", {"user": "a", "password": "b" * 20_000}).status == 413
    assert site.client().get("/sign-in", Cookie="a=" + "b" * 10_000).status == 400
    assert site.client().get("/" + "a" * 10_000).status in (400, 414)
    for nonsense in (
        b"GET / HTTP/1.1\r\nHost\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
    ):
        with connected(site) as stranger:
            stranger.sendall(nonsense)
            assert stranger.recv(4096).startswith(b"HTTP/1."), nonsense
    assert site.client().get("/sign-in").status == 200


def rested(site: Managed, source: str) -> ssl.SSLSocket:
    """A connection that has been answered once: it may rest for longer than a head may take to come."""
    one = connected(site, source)
    one.sendall(b"HEAD /static/icon.svg HTTP/1.1\r\nHost: a\r\n\r\n")
    text = b""
    while not text.endswith(b"\r\n\r\n"):
        text += (piece := one.recv(65536))
        assert piece
    return one


def test_one_address_gets_so_many_connections_and_who_sends_slowly_is_let_go(site: Managed) -> None:
    began = time.monotonic()
    body = b"user=nobody&password=guess"
    host = f"{HTTPS_NAME}:{site.port}"
    head = (
        f"POST /sign-in HTTP/1.1\r\nHost: {host}\r\nOrigin: https://{host}\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    ).encode()
    held = [rested(site, "127.0.5.1") for _ in range(32)]
    with pytest.raises((ssl.SSLError, ConnectionError)):
        site.client(source="127.0.5.1").get("/sign-in")
    assert site.client().get("/sign-in").status == 200
    honest = connected(site)
    honest.sendall(head)
    honest.sendall(body)  # in a record of its own, as browsers do
    assert honest.recv(65536).startswith(b"HTTP/1.1 401")
    for one in held:
        one.sendall(b"GET /sign-in HTTP/1.1\r\nHo")
    for one in held:
        with one, contextlib.suppress(ssl.SSLError, ConnectionError):
            assert not one.recv(1)
    assert time.monotonic() - began < 60
    with honest:  # its connection was not ended with those
        honest.sendall(b"GET /static/icon.svg HTTP/1.1\r\nHost: a\r\n\r\n")
        text = b""
        while b"<svg" not in text:
            text += (piece := honest.recv(65536))
            assert piece
    assert site.client(source="127.0.5.1").get("/sign-in").status == 200
