"""What the pages show of a real member: with mail of real sessions, hostile names, and 10,000 destinations."""

import re
import time
from collections.abc import Generator
from typing import Final

import pytest

from letterlock_api import listings
from letterlock_gateway.spool.traffic import last_day
from letterlock_gateway.web.facts import chains
from tests.harness.waiting import until
from tests.web.managed import Client, Managed, proof_in
from tests.web.populated import DAY, HOSTILE, populated


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Generator[Managed]:
    with populated(tmp_path_factory.mktemp("site")) as found:
        yield found


@pytest.fixture(scope="module")
def client(site: Managed) -> Client:
    return site.signed_in()


PAGES: Final = (
    "/",
    "/listeners",
    "/listeners/public?address=192.0.2.9&host=x",
    "/destinations?q=domain-1.",
    "/destinations?domain=user@domain-7.example",
    "/certificates",
    "/certificates/public",
    "/certificates/(demo)",
    "/certificates/manage",
    "/authorities",
    "/authorities/own",
    "/messages",
    "/queue",
    "/alerts",
)


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_there_and_shows_no_secret_and_no_markup_of_strangers(
    client: Client, path: str
) -> None:
    reply = client.get(path)
    assert reply.status == 200, path
    assert "<script" not in reply.text
    assert "<img src=x" not in reply.text
    for secret in ("PRIVATE KEY", "$2b$", "BEGIN"):
        assert secret not in reply.text
    # Nothing from elsewhere, and all that it links to is there.
    linked = {
        re.sub(r"\d+", "", one): one for one in re.findall(r'(?:href|src|action)="([^"#?]+)', reply.text)
    }
    for target in linked.values():
        assert target.startswith("/"), target
        if target != "/sign-out":
            assert client.get(target).status == 200, f"{path} links to {target}"


def test_hostile_names_are_shown_as_what_they_are(client: Client) -> None:
    assert "&lt;script" in client.get("/authorities/own").text
    assert "&lt;script" in client.get("/certificates/(demo)").text
    queue = client.get("/queue").text
    assert "&lt;img src=x onerror=alert(2)&gt;" in queue
    fields = ("q", "address", "host", "from", "to", "id", "domain")
    query = "&".join(f"{field}=%22%3E{HOSTILE}%00%F0%9F" for field in fields)
    for path in (
        "/destinations",
        "/listeners/public",
        "/messages",
        "/queue",
        "/certificates",
        "/authorities/own",
    ):
        reply = client.get(f"{path}?{query}&page=99999999999")
        assert reply.status == 200, path
        assert "<script" not in reply.text
    assert "No message fits" in client.get("/messages?mid=1e9").text
    for path in (
        "/messages/1e9",
        "/messages/99999999999999999999",
        "/listeners/%3Cscript%3E",
        "/certificates/..%2f",
        "/authorities/x/export.txt",
    ):
        reply = client.get(path)
        assert reply.status == 404, path
        assert "<script" not in reply.text


def test_the_overview_says_what_needs_attention_and_draws_the_day(client: Client) -> None:
    page = client.get("/").text
    assert "Listener public runs with the demo certificate" in page
    assert "Mail for domain-1.example cannot be delivered: Unreachable" in page
    assert "CA own expires within 30 days" in page
    assert "1 of 1" in page
    came = re.search(
        r'aria-label="Messages in: (\d+) encrypted, (\d+) in clear text in the last 24 hours"', page
    )
    went = re.search(
        r'aria-label="Deliveries out: (\d+) verified, (\d+) encrypted, (\d+) in clear text in', page
    )
    assert came is not None
    assert went is not None
    assert [int(one) for one in came.groups()] == [DAY[0], DAY[1] + 3]  # three came by SMTP just now
    assert [int(one) for one in went.groups()] == list(DAY[2:5])
    assert "1 recipient bounced" in page
    assert page.count('<rect class="clear"') > 10


def test_the_plots_count_what_the_spool_holds_and_nothing_older(site: Managed) -> None:
    day = 86400.0
    for ahead, share in ((0.0, 1.0), (day / 2, 0.5), (2 * day, 0.0)):
        found = last_day(site.member.spool, time.time() + ahead, 3 * day)
        came = sum(one.total for one in found.incoming)
        went = sum(one.total for one in found.outgoing)
        assert abs(came - share * (DAY[0] + DAY[1] + 3)) <= share * 40, (ahead, came)
        assert abs(went - share * sum(DAY[2:5])) <= share * 40, (ahead, went)
    assert last_day(site.member.spool, time.time(), 0.0).bounced <= 1


@pytest.mark.parametrize(
    ("address", "host", "words"),
    [
        ("192.0.2.77", "", "Group <strong>partners</strong> by its entry <code>192.0.2.0/24</code>"),
        ("198.51.100.1", "mx.partner.example", "<code>.partner.example</code>"),
        ("198.51.100.1", "-", "Group <strong>all</strong> by its entry <code>ALL</code>"),
        ("198.51.100.1", "", "That depends on the host name"),
        ("nonsense", "", "nonsense is no IPv4 or IPv6 address"),
        ("2001:db8::1", "-", "policy <strong>accept</strong>"),
    ],
)
def test_which_group_an_address_matches(client: Client, address: str, host: str, words: str) -> None:
    assert words in client.get(f"/listeners/public?address={address}&host={host}").text


def test_destinations_are_searched_and_paged_and_fast_with_ten_thousand(client: Client) -> None:
    client.get("/destinations")  # made once for a set
    first = client.get("/destinations").text
    page = client.get("/destinations?page=200").text
    last = client.get("/destinations?page=999999").text
    found = client.get("/destinations?q=DOMAIN-9876.").text
    failing = client.get("/destinations?failing=1&q=domain-").text
    assert "1–50 of 10\u202f001" in first
    assert "9\u202f951–10\u202f000 of 10\u202f001" in page
    assert "10\u202f001–10\u202f001 of" in last
    assert found.count("<tr>") == 2
    assert "control-9876" in found
    assert failing.count('<span class="badge bad">Failing</span>') == 3
    assert "domain-2.example: Unreachable" in failing


def test_what_would_happen_for_a_domain_is_looked_up_and_tried(site: Managed, client: Client) -> None:
    page = client.get("/destinations?domain=Someone@sub.domain-7.example").text
    assert (
        "DestinationControl <strong>control-7</strong> holds for <strong>sub.domain-7.example</strong>"
        in page
    )
    assert "The built-in default holds for" in client.get("/destinations?domain=elsewhere.test").text
    assert "is no domain name" in client.get("/destinations?domain=no domain".replace(" ", "%20")).text
    form = {"domain": "domain-7.example", "proof": proof_in(page)}

    def tried() -> str | None:
        answer = client.post("/destinations", form)
        assert answer.status == 200
        return answer.text if "not delivered, it waits and is tried again" in answer.text else None

    # Another process does it, with less of the processor than mail has: on a busy machine not always in time.
    assert "refused" in until(tried, seconds=180, what="an answer in time")
    assert client.post("/destinations", {**form, "proof": "x"}).status == 403
    assert site.client().post("/destinations", form).status == 303
    assert client.post("/queue", form).status == 405


def test_a_list_goes_out_as_the_command_writes_it(site: Managed, client: Client) -> None:
    reply = client.get("/authorities/system/export.txt")
    assert reply.headers["Content-Disposition"] == 'attachment; filename="system.txt"'
    assert reply.headers.get_content_type() == "text/plain"
    trusted = [
        pem for name, pem in site.files.content.items() if name.startswith("ca-") and pem.count(b"BEGIN") == 2
    ]
    assert reply.text == listings.text("system", chains.read(trusted[0]))
    page = client.get("/authorities").text
    assert "system.txt" in page
    assert '<span class="badge bad">Off</span>' in page  # the list that is switched off


def test_messages_are_found_by_every_key_and_told_whole(client: Client) -> None:
    page = client.get("/messages?from=@sender.example").text
    assert page.count('data-label="MID"') == 3
    mid = re.findall(r'href="/messages/(\d+)"', page)[0]
    for query in (
        f"mid={mid}",
        "to=user@domain-2.example",
        "from=@sender.example&to=@domain-2.example",
        "id=7@sender.example",
    ):
        assert client.get(f"/messages?since=24&{query}").text.count('data-label="MID"') == 1, query
    assert client.get("/messages?from=@sender.example").text.count('data-label="MID"') == 3
    assert "No message fits" in client.get("/messages?to=nobody@nowhere.example").text
    one = client.get(f"/messages/{mid}").text
    assert "deferred" in one
    assert "clear text" in one
    assert "hi" not in re.sub(r"<[^>]+>", "", one).split()
    assert client.get("/queue?from=@sender.example").text.count('data-label="MID"') == 3
    assert client.get("/queue?from=@sender.example&to=@domain-1.example").text.count('data-label="MID"') == 1


def test_alerts_say_who_is_told_and_what_ends(client: Client) -> None:
    page = client.get("/alerts").text
    assert "ops@here.example" in page
    assert "Critical, Warning" in page
    assert "CAList own" in page
    assert "Certificate (demo)" in page


def test_the_demo_banner_is_on_every_page_while_it_is_served(site: Managed) -> None:
    keep = site.files.content
    try:
        site.files.content = {}
        site.publish(site.snapshot(demo=True))
        client = site.signed_in()
        for path in ("/", "/queue", "/alerts"):
            assert "Demo certificate." in client.get(path).text
        assert site.member.logged("HTTPS management runs with the demo certificate")
    finally:
        site.files.content = keep
