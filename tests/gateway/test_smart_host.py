"""Routes that want a sign-in: over verified TLS only, and the password is nowhere but on the wire inside it."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from letterlock_api import credentials
from letterlock_api.credentials import Credentials
from letterlock_gateway.deliver.terms import Timeouts
from letterlock_gateway.mount import MountRefused
from tests.harness.certificates import Authority
from tests.harness.deliveries import LETTER, Delivering, delivering, route, until
from tests.harness.faulty_smtp import FaultySMTP
from tests.harness.mounts import destination
from tests.harness.postfix import Postfix

PASSWORD = "pass wörd/+="
LOGIN = Credentials("us@smart.example", PASSWORD)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def sign_in(made: Delivering, port: int, *, login: Credentials = LOGIN, **changes: Any) -> None:
    """Deliver for `mailbox.example` by signing in at this port."""
    content = credentials.encode(login, b"secret")
    file = credentials.file_name(content)
    made.files.content[file] = content
    fields: dict[str, Any] = {"resource": "mailbox", "tls_mode": "RequiredVerify", "names": ["smart.example"]}
    hop: dict[str, Any] = changes.pop("hop", {})
    made.apply(
        destination(
            "mailbox.example", **(fields | {"routes": [route(port, auth_file=file, **hop)]} | changes)
        )
    )


@asynccontextmanager
async def smart_host(
    directory: Path, authority: Authority, name: str = "smart.example", **fields: Any
) -> AsyncGenerator[tuple[FaultySMTP, Delivering]]:
    async with AsyncExitStack() as ends:
        server = await ends.enter_async_context(FaultySMTP(authority.issue(name), **fields))
        server.logins = {LOGIN.username: PASSWORD}
        made = await ends.enter_async_context(delivering(directory))
        made.trusted = [authority.pem]
        yield server, made
        words = {PASSWORD, credentials.encode(LOGIN, b"secret").decode()}
        assert not any(word in str(line) for line in made.lines for word in words)


async def emptied(made: Delivering) -> None:
    await until(lambda: made.spool.queue_length() == 0, "an empty queue")


@pytest.mark.parametrize("mechanisms", [("PLAIN", "LOGIN"), ("LOGIN",), ("CRAM-MD5", "PLAIN")], ids=str)
@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "TLS from the first byte"])
async def test_signs_in_with_what_the_server_offers(
    tmp_path: Path, authority: Authority, mechanisms: tuple[str, ...], *, implicit: bool
) -> None:
    async with smart_host(tmp_path, authority, implicit_tls=implicit) as (server, made):
        server.mechanisms = mechanisms
        sign_in(made, server.port, hop={"implicit_tls": implicit})
        await made.send()
        await emptied(made)
        assert [one.data for one in server.delivered] == [LETTER]
        chosen = "PLAIN" if "PLAIN" in mechanisms else "LOGIN"
        assert any(line.startswith(f"AUTH {chosen}") for line in server.sessions[0].commands)
        assert b"AUTH" not in server.clear


async def test_a_server_may_ask_for_the_response_by_itself(tmp_path: Path, authority: Authority) -> None:
    async with smart_host(tmp_path, authority) as (server, made):
        server.initial_response = False
        sign_in(made, server.port)
        await made.send()
        await emptied(made)
        assert len(server.delivered) == 1


@pytest.mark.parametrize("mode", ["Preferred", "Required", "PreferredVerify", "RequiredVerify"])
@pytest.mark.parametrize("problem", ["name", "CA", "no TLS"])
async def test_no_password_goes_over_a_connection_that_is_not_verified(
    tmp_path: Path, authority: Authority, mode: str, problem: str
) -> None:
    name = "other.example" if problem == "name" else "smart.example"
    async with smart_host(tmp_path, authority, name) as (server, made):
        if problem == "CA":
            made.trusted = [Authority().pem]
        if problem == "no TLS":
            server.fault = "STARTTLS not offered"
        sign_in(made, server.port, tls_mode=mode)
        await made.send()
        await until(made.deferred, "the deferral")
        assert server.delivered == []
        assert all(
            b"AUTH" not in bytes(one.clear + one.encrypted)
            and b"MAIL" not in bytes(one.clear + one.encrypted)
            for one in server.sessions
        )


async def test_a_wrong_password_delays_the_mail_and_is_not_told(tmp_path: Path, authority: Authority) -> None:
    async with smart_host(tmp_path, authority) as (server, made):
        sign_in(made, server.port, login=Credentials(LOGIN.username, "another-password"))
        await made.send()
        await until(made.deferred, "the deferral")
        state = await until(lambda: (found := made.state("mailbox")) and found.failing and found, "a report")
        assert state.last_tls.result == "SignInRefused"
        assert made.logged(
            "4.7.8 the remote host refuses the sign-in: as us@smart.example by PLAIN 535 5.7.8 no"
        )
        # The server of this test repeats what it was told.
        assert not any("another-password" in str(line) for line in made.lines)
        assert "another-password" not in state.model_dump_json()
        sign_in(made, server.port)
        await made.spool.hasten()
        await emptied(made)
        assert len(server.delivered) == 1


async def test_a_server_that_offers_nothing_we_know_is_given_up(tmp_path: Path, authority: Authority) -> None:
    async with smart_host(tmp_path, authority) as (server, made):
        server.mechanisms = ("XOAUTH2",)
        sign_in(made, server.port)
        await made.send()
        await until(made.deferred, "the deferral")
        assert made.logged("it offers XOAUTH2; PLAIN or LOGIN is needed")


def test_unusable_credentials_never_run(tmp_path: Path) -> None:
    for content in (b"{}", b"no json", b'{"username": "a", "password": "b\\r\\nc"}'):
        with pytest.raises(ValueError, match=r"credentials cannot be read|line break") as problem:
            credentials.decode(content)
        assert b"b\\r\\nc" not in str(problem.value).encode()


async def test_a_set_whose_credentials_are_missing_is_refused(tmp_path: Path) -> None:
    async with delivering(tmp_path) as made:
        with pytest.raises(MountRefused, match=r"file auth-0\.json is used, but not among"):
            made.apply(destination("a.example", routes=[route(25, auth_file="auth-0.json")]))


# A real Postfix with Cyrus SASL.


@pytest.mark.parametrize("mechanisms", ["PLAIN LOGIN", "LOGIN"])
async def test_postfix_takes_mail_from_who_signed_in_only(
    tmp_path: Path, authority: Authority, mechanisms: str
) -> None:
    postfix = Postfix.receiving(
        certificate=authority.issue("smart.example"), name="smart.example", tls="encrypt"
    )
    postfix.require_sign_in({LOGIN.username: PASSWORD}, mechanisms)
    with postfix:
        async with delivering(tmp_path, timeouts=Timeouts()) as made:
            made.trusted = [authority.pem]
            sign_in(made, postfix.port, login=Credentials(LOGIN.username, "wrong"))
            await made.send()
            await until(made.deferred, "the deferral", seconds=30)
            assert made.logged("the remote host refuses the sign-in")
            assert postfix.messages() == []
            sign_in(made, postfix.port)
            await made.spool.hasten()
            await until(postfix.messages, "the message in the mailbox", seconds=30)
            await until(lambda: "sasl_username=us@smart.example" in postfix.log, "Postfix's log")
            assert f"sasl_method={mechanisms.partition(' ')[0]}" in postfix.log
            assert not any(PASSWORD in str(line) for line in made.lines)
