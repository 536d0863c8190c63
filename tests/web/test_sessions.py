"""Tokens, limits and htpasswd files, without a network: every way in which one stops being good."""

import bcrypt
import pytest

from letterlock_api import htpasswd
from letterlock_gateway.receive.access import client_address
from letterlock_gateway.web import sessions, signing_in
from letterlock_gateway.web.sessions import Sessions
from letterlock_gateway.web.throttle import Throttle, neighbourhood

NOW = 1_764_000_000.0
HASH = "$2b$04$" + "a" * 53
USERS = {"ada": HASH, "bob": "$2y$05$" + "b" * 53}


def test_a_session_ends_when_it_is_idle_or_old_and_a_renewal_does_not_make_it_younger():
    made = Sessions(b"secret")
    token = made.open("ada", HASH, NOW)
    assert made.read(token, USERS, NOW + sessions.IDLE - 1) is not None
    assert made.read(token, USERS, NOW + sessions.IDLE) is None
    at = NOW
    while at < NOW + sessions.LONGEST - sessions.IDLE:
        at += sessions.IDLE / 2
        session = made.read(token, USERS, at)
        assert session is not None
        token = made.renewed(session, HASH, at) or token
    session = made.read(token, USERS, at)
    assert session is not None
    assert made.renewed(session, HASH, at + 1) is None  # new enough
    assert made.read(token, USERS, NOW + sessions.LONGEST) is None


def test_every_member_reads_a_session_and_no_other_gateway_does():
    token = Sessions(b"secret").open("ada", HASH, NOW)
    assert Sessions(b"secret").read(token, USERS, NOW) is not None
    assert Sessions(b"another").read(token, USERS, NOW) is None


def test_no_changed_token_is_good():
    made = Sessions(b"secret")
    token = made.open("ada", HASH, NOW)
    for index, letter in enumerate(token):
        changed = token[:index] + ("A" if letter != "A" else "B") + token[index + 1 :]
        assert made.read(changed, USERS, NOW) is None, index
    for bad in (
        "",
        ".",
        "....",
        token + "A",
        token * 50,
        "ä.1.1.a.b",
        f"{token}\udcff",
        token.replace(".", ","),
    ):
        assert made.read(bad, USERS, NOW) is None, bad


def test_a_changed_password_and_a_user_who_is_gone_end_sessions():
    made = Sessions(b"secret")
    token = made.open("ada", HASH, NOW)
    assert made.read(token, {"ada": "$2b$04$" + "c" * 53}, NOW) is None
    assert made.read(token, {"bob": HASH}, NOW) is None


def test_a_form_is_bound_to_its_session():
    made = Sessions(b"secret")
    assert made.proves(made.proof("one"), "one")
    assert not made.proves(made.proof("one"), "two")
    assert not made.proves("", "one")
    assert not made.proves("é", "one")


def test_attempts_are_limited_within_a_period_and_room_comes_back():
    throttle = Throttle(3, 60)
    for at in (0.0, 10.0, 20.0):
        assert throttle.wait("a", at) == 0
        throttle.count("a", at)
    assert throttle.wait("a", 21) == 39
    assert throttle.wait("b", 21) == 0
    assert throttle.wait("a", 60) == 0
    throttle.count("a", 60)
    assert throttle.wait("a", 61) == 9
    throttle.take_back("a")
    assert throttle.wait("a", 61) == 0
    throttle.count("a", 61)
    throttle.forget("a")
    assert throttle.wait("a", 61) == 0


def test_an_ipv6_network_counts_as_one():
    near = {neighbourhood(client_address(one)) for one in ("2001:db8::1", "2001:db8::ffff:1")}
    assert near == {"2001:db8::/64"}
    assert neighbourhood(client_address("::ffff:192.0.2.1")) == "192.0.2.1"


def test_an_unknown_user_costs_what_a_known_one_does():
    """The same call of bcrypt at the same cost, always the same for one name."""
    hashes = {"ada": HASH}
    stand_in = signing_in._like_somebodys("nobody", hashes)  # pyright: ignore[reportPrivateUsage]
    assert htpasswd.cost(stand_in) == 4
    assert bcrypt.checkpw(b"x", stand_in.encode()) is False
    both = {signing_in._like_somebodys(f"user-{n}", USERS)[:7] for n in range(64)}  # pyright: ignore[reportPrivateUsage]
    assert both == {"$2b$04$", "$2b$05$"}


async def test_passwords_that_bcrypt_cannot_take_are_wrong_and_nothing_else():
    hashed = bcrypt.hashpw(b"p" * 72, bcrypt.gensalt(4)).decode()
    judge = signing_in.Passwords(lambda: NOW)
    address = client_address("192.0.2.1")
    for password, right in (
        ("p" * 72, True),
        ("p" * 80, True),
        ("p" * 71, False),
        ("p\0", False),
        ("\udc80", False),
        ("", False),
    ):
        refused = await judge.judge("ada", password, address, {"ada": hashed})
        assert (refused is None) is right, password


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        pytest.param(
            "ada:$apr1$abc$def", "line 1: the password is not hashed with bcrypt", id="MD5 of Apache"
        ),
        pytest.param("ada:{SHA}abc", "not hashed with bcrypt", id="SHA-1"),
        pytest.param("ada:secret", "not hashed with bcrypt", id="plain text"),
        pytest.param(
            f"ada:{HASH.replace('04', '31')}", "its cost must be from 4 to 14", id="a cost of weeks"
        ),
        pytest.param(f":{HASH}", "a user name has 1 to 128 printable characters", id="no name"),
        pytest.param(f"a\x07:{HASH}", "printable", id="a name that rings"),
        pytest.param("ada", "not hashed with bcrypt", id="no hash"),
    ],
)
def test_lines_that_cannot_be_used_are_named_without_their_hashes(line: str, problem: str):
    users = htpasswd.parse(f"{line}\n# a comment\n\nbob:{HASH}\n".encode())
    assert set(users.hashes) == {"bob"}
    assert problem in users.problems[0]
    assert "secret" not in users.problems[0]
    assert HASH not in repr(users)


def test_a_name_counts_once_and_text_must_be_text():
    assert htpasswd.parse(f"ada:{HASH}\nada:{HASH}".encode()).problems == ("line 2: stands there twice",)
    assert htpasswd.parse(b"\xff\xfe").problems == ("it is not UTF-8",)
