"""Who gets in: by password within limits, by client certificate, and nobody else; what the answers carry."""

import http.client
import socket
import ssl
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path

import psutil
import pytest

from tests.harness.certificates import Authority
from tests.harness.member import named
from tests.harness.mounts import listener
from tests.harness.ports import free_port
from tests.harness.waiting import until
from tests.web.managed import HASHED, HTTPS_NAME, PASSWORD, USER, Managed, managed, proof_in

type Start = Callable[..., Managed]
PORT = free_port()
PATHS = ("/", "/listeners", "/listeners/public", "/nowhere")


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Generator[Managed]:
    with managed(tmp_path_factory.mktemp("site")) as found:
        yield found


@pytest.fixture
def site(member: Managed) -> Managed:
    """The member of all tests, with what most of them start from."""
    member.users, member.changes = f"{USER}:{HASHED}\n", {}
    member.files.content = {}
    member.publish(member.snapshot(listeners=[listener(PORT)]))
    return member


def test_nothing_is_shown_to_who_has_not_signed_in(site: Managed) -> None:
    stranger = site.client()
    for path in PATHS[:-1]:
        reply = stranger.get(f"{path}?q=1")
        assert reply.status == 303, path
        assert (reply.headers["Location"] or "").startswith("/sign-in?next=/"), path
        assert "public" not in reply.text
    assert stranger.get("/nowhere").status == 404
    forged = site.client(cookie="__Host-letterlock=YWRh.1764000000.1764000000.abc.def")
    assert forged.get("/").status == 303
    # What a page needs before anybody has signed in, and nothing else of the file system.
    assert stranger.get("/static/style.css").status == 200
    assert stranger.get("/static/..%2fsite.py").status == 404


def test_a_password_opens_a_session_until_one_signs_out(site: Managed) -> None:
    client = site.client()
    reply = client.sign_in(target="/listeners/public?address=192.0.2.1")
    assert (reply.status, reply.headers["Location"]) == (303, "/listeners/public?address=192.0.2.1")
    cookie = reply.headers["Set-Cookie"] or ""
    assert cookie.startswith("__Host-letterlock=")
    assert {"HttpOnly", "Secure", "Path=/", "SameSite=Strict"} <= {one.strip() for one in cookie.split(";")}
    assert "Domain" not in cookie
    page = client.get("/")
    assert page.status == 200
    assert "Needs attention" in page.text

    token = client.cookie
    assert client.post("/sign-out", {"proof": "guessed"}).status == 303
    again = site.client(cookie=token)
    assert again.get("/").status == 200  # a form of another site signs nobody out
    assert again.post("/sign-out", {"proof": proof_in(page.text)}).headers["Location"] == "/sign-in"
    assert site.client(cookie=token).get("/").status == 303  # no copy of the cookie counts any more


@pytest.mark.parametrize(
    "target", ["//evil.example/", "https://evil.example/", "/\\evil.example", "/sign-out"]
)
def test_signing_in_leads_nowhere_else(site: Managed, target: str) -> None:
    assert site.client().sign_in(target=target).headers["Location"] == "/"


def test_headers_allow_no_script_no_frame_and_no_copy(site: Managed) -> None:
    client = site.signed_in()
    for reply in (
        client.get("/"),
        site.client().get("/"),
        client.get("/nowhere"),
        site.client().get("/sign-in"),
    ):
        policy = reply.headers["Content-Security-Policy"] or ""
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "script-src" not in policy
        assert reply.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Referrer-Policy"] == "same-origin"
        assert reply.headers["Cache-Control"] == "no-store"
        assert "aiohttp" not in str(reply.headers)
        assert "<script" not in reply.text
        assert " style=" not in reply.text
        assert "http://" not in reply.text.replace("http://www.w3.org/2000/svg", "")


def test_forms_of_other_sites_do_nothing(site: Managed) -> None:
    form = {"user": USER, "password": PASSWORD}
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert site.client().request("POST", "/sign-in", form, headers).status == 403, headers
    assert site.client().request("POST", "/sign-in", form, {"Content-Type": "text/plain"}).status == 415
    assert site.client().sign_in().status == 303


def test_guessing_is_slow_for_an_address_and_does_not_lock_others_out(site: Managed) -> None:
    guesser = site.client(source="127.0.1.1")
    seen = {
        guesser.sign_in(user=user, password="guess").status
        for user in [USER, "nobody", "\x00", "é" * 200] * 2
    }
    assert seen == {401}
    one, two = (guesser.sign_in(user=user, password="guess") for user in (USER, "nobody"))
    assert one.text.replace(f'value="{USER}"', 'value="nobody"') == two.text  # neither is told to exist
    for password in ("guess", PASSWORD):
        refused = guesser.sign_in(password=password)
        assert refused.status == 429
        assert 0 < int(refused.headers["Retry-After"] or 0) <= 600
    assert "Too many attempts" in refused.text
    assert site.client(source="127.0.1.2").sign_in().status == 303
    assert site.member.logged('sign-in of "nobody" from 127.0.1.1 refused')
    assert not site.member.logged(PASSWORD)


def test_guessing_one_user_from_many_addresses_is_slow_and_who_was_here_before_gets_in(site: Managed) -> None:
    user = "grace"
    site.users = f"{user}:{HASHED}\n"
    site.publish(site.snapshot())
    assert site.client(source="127.0.6.1").sign_in(user).status == 303
    sources = [f"127.0.2.{number}" for number in range(1, 4)]
    seen = [site.client(source=one).sign_in(user, "guess").status for one in sources for _ in range(9)]
    assert seen == [401] * 20 + [429] * 7
    assert site.client(source="127.0.3.1").sign_in(user).status == 429
    assert site.client(source="127.0.6.1").sign_in(user).status == 303


def test_who_is_taken_out_of_the_secret_is_out_at_once_and_without_users_nothing_is_shown(
    member_with: Start,
) -> None:
    site = member_with(users=f"{USER}:{HASHED}\nbob:{HASHED}\n")
    site.publish(site.snapshot())
    ada, bob = site.client(), site.client()
    assert ada.sign_in("ada").status == 303
    assert bob.sign_in("bob").status == 303

    site.users = f"bob:{HASHED}\n"
    site.publish(site.snapshot())
    assert ada.get("/").status == 303
    assert bob.get("/").status == 200

    site.users = ""
    site.publish(site.snapshot())
    for client in (ada, bob, site.client()):
        for path in ("/", "/sign-in", "/listeners"):
            reply = client.get(path)
            assert reply.status == 503
            assert "default" not in reply.text
    assert site.client().sign_in("bob").status == 503


def test_a_new_certificate_serves_new_connections_and_ends_none(site: Managed) -> None:
    client = site.signed_in()
    held = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
    held.connect()
    held.sock = client.context().wrap_socket(held.sock, server_hostname=HTTPS_NAME)
    held.request("GET", "/static/style.css")
    assert held.getresponse().read()
    fresh = Authority()
    kept = site.authority, site.pair
    try:
        site.authority, site.pair = fresh, fresh.issue(HTTPS_NAME)
        site.publish(site.snapshot(listeners=[listener(PORT)]))
        client.authority = fresh
        assert (
            client.get("/").status == 200
        )  # a new connection, verified against the new CA; the session goes on
        held.request("GET", "/static/icon.svg")
        assert held.getresponse().status == 200
    finally:
        held.close()
        site.authority, site.pair = kept


def test_client_certificates_sign_in_those_who_are_listed(site: Managed, tmp_path: Path) -> None:
    people = Authority()
    site.users = ""
    site.changes = {
        "client_certificates": True,
        "client_names": ["ada.people.example"],
        "client_ca_lists": ["people"],
    }
    trust = {"people": site.files.trust(people.pem)}
    site.publish(site.snapshot(trust=trust))

    def holding(pem: bytes, name: str) -> Path:
        file = tmp_path / name
        file.write_bytes(pem)
        return file

    ada = site.client(certificate=holding(people.issue("ada.people.example"), "ada.pem"))
    page = ada.get("/")
    assert page.status == 200
    assert "Sign out" not in page.text
    other = site.client(certificate=holding(people.issue("bob.people.example"), "bob.pem"))
    assert other.get("/").status == 303
    nobody = site.client().get("/sign-in")
    assert "client certificate" in nobody.text
    assert 'name="password"' not in nobody.text
    assert site.client().sign_in().status == 401
    stranger = site.client(certificate=holding(Authority().issue("ada.people.example"), "stranger.pem"))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        stranger.get("/")


def test_old_protocols_are_refused(site: Managed) -> None:
    def connects(*options: str) -> str:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{site.port}", *options]
        done = subprocess.run(command, input=b"", capture_output=True, timeout=60, check=False)
        return (done.stdout + done.stderr).decode(errors="replace")

    assert "Cipher is (NONE)" in connects("-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0")
    assert "Protocol  : TLSv1.2" in connects("-tls1_2")
    assert "TLSv1.3" in connects("-tls1_3")


def test_the_pages_start_again_when_they_die_and_mail_does_not_notice(site: Managed) -> None:
    assert site.member.process is not None
    workers = site.member.worker_pids()

    def pages() -> list[psutil.Process]:
        below = psutil.Process(site.member.process.pid if site.member.process else 0).children(recursive=True)
        return [one for one in below if named(one) == "letterlock-http"]

    (process,) = pages()
    assert process.nice() == min(19, psutil.Process(workers[0]).nice() + 10)
    assert process.rlimit(psutil.RLIMIT_DATA)[0] <= 1 << 30
    token = site.signed_in().cookie
    process.kill()
    until(lambda: [one for one in pages() if one.pid != process.pid], what="started again", seconds=120)
    until(lambda: site.programmed({}) and _answers(site), what="served again", seconds=120)
    assert site.client(cookie=token).get("/").status == 200  # sessions outlive the process
    assert site.member.worker_pids() == workers
    assert site.member.logged("HTTPS management ended (signal SIGKILL) and is started again")


def _answers(site: Managed) -> bool:
    try:
        return site.client().get("/sign-in").status == 200
    except OSError:
        return False


def test_a_port_that_is_not_to_be_had_is_said_and_keeps_nothing_else(member_with: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        site = member_with(port=taken.getsockname()[1])
        wanted = site.snapshot(listeners=[listener(free_port())])
        digests = {"MailGateway/default": "x", "Certificate/manage": "y", "Listener/public": "z"}
        site.member.mount.publish(wanted.model_copy(update={"digests": digests}), site.files)
        site.member.wait_ready()

        def told() -> bool:
            state = site.member.state()
            return state is not None and any(
                "cannot listen on 127.0.0.1 port" in one for one in state.problems
            )

        until(told, what="the problem in the state", seconds=120)
        state = site.member.state()
        assert state is not None
        assert dict(state.digests) == {
            "Listener/public": "z"
        }  # what the pages are needed for is not programmed
    until(lambda: site.programmed(digests), what="served, as soon as the port is free", seconds=120)
