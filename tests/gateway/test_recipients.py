"""For whom a listener takes mail, as its manifest says, with swaks and Postfix as senders (L5, L8)."""

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest

from tests.gateway.manifested import from_manifest
from tests.gateway.receiving import Receiving, receiving
from tests.harness import waiting
from tests.harness.postfix import Postfix
from tests.harness.swaks import swaks

INSIDE: Final = "127.0.0.5"
SPEC: Final[dict[str, Any]] = {
    "defaultDomain": "old.example",
    "domainMap": [
        {"from": "old.example", "to": "here.example"},
        {"from": "X.old.example", "to": "here.example"},
        {"from": "away.example", "to": "elsewhere.example"},
    ],
    "recipients": [
        {"match": ["boss@here.example"], "action": "Reject", "text": "The boss takes no mail"},
        {"match": ["secret.below.example", "postmaster@here.example"], "action": "Reject"},
        {"match": ["here.example", ".below.example", "abuse@", "only@single.example"]},
        {"match": ["boss@here.example", "list%odd@here.example"]},  # the boss comes too late
        {"match": ["away.example"]},  # as it is before the domain map: nobody is called so after it
    ],
    "mailFlowPolicies": [{"name": "out", "behavior": "Relay"}],
    "senderGroups": [{"name": "inside", "senders": [INSIDE], "policy": "out"}],
}
GATEWAY: Final = {"postmaster": "keeper@keep.example"}
DENIED: Final = "550 5.7.1 Address rejected: mail for it is not taken here"
ROUTED: Final = "550 5.7.1 Address rejected: routing inside an address is not followed"
REJECTED: Final = "550 5.7.1 Address rejected\r\n"
# What a stranger writes: where the mail goes, or what the refusal says.
STRANGERS: Final = {
    "u@here.example": "u@here.example",
    "U@HERE.example": "U@HERE.example",
    "u": "u@here.example",
    "u@old.example": "u@here.example",
    "u@x.old.example": "u@here.example",
    "boss@here.example": "550 5.7.1 The boss takes no mail",
    "BOSS@old.example": "550 5.7.1 The boss takes no mail",
    "boss": "550 5.7.1 The boss takes no mail",
    "u@away.example": DENIED,
    "u@elsewhere.example": DENIED,
    "u@a.below.example": "u@a.below.example",
    "u@below.example": DENIED,
    "u@secret.below.example": "550 5.7.1 Address rejected",
    "abuse@anything.example": "abuse@anything.example",
    "only@single.example": "only@single.example",
    "other@single.example": DENIED,
    "postmaster": "keeper@keep.example",
    "PostMaster": "keeper@keep.example",
    "postmaster@here.example": "postmaster@here.example",
    "postmaster@old.example": "postmaster@here.example",
    "postmaster@single.example": "postmaster@single.example",
    "postmaster@elsewhere.example": DENIED,
    "@here.example:u@elsewhere.example": DENIED,
    "@elsewhere.example:u@here.example": "u@here.example",
    "u%elsewhere.example@here.example": ROUTED,
    "elsewhere.example!u@here.example": ROUTED,
    '"u@elsewhere.example"@here.example': ROUTED,
    "list%odd@here.example": "list%odd@here.example",
    "u@[127.0.0.1]": DENIED,
}
# The same of somebody who relays: nothing is refused, and the domain map holds all the same.
RELAYED: Final = {
    "u@elsewhere.example": "u@elsewhere.example",
    "u@away.example": "u@elsewhere.example",
    "boss@here.example": "boss@here.example",
    "u": "u@here.example",
    "postmaster": "keeper@keep.example",
}


async def sent(world: Receiving, source: str, to: str) -> str:
    """Where the mail went, or what swaks was told."""
    recipient = to.replace(",", "\\,")
    seen = await asyncio.to_thread(
        swaks,
        world.port,
        to=recipient,
        tls=False,
        sender="bare",
        options=["--local-interface", source, "--header", "Subject: x"],
    )
    stored = await world.stored()
    if stored:
        assert "250 2.0.0 Ok: queued" in seen.text
        assert [one.sender for one in stored] == ["bare@old.example"], (
            "the default domain is for senders, too"
        )
        return stored[0].address
    assert not seen.accepted, seen.text
    return seen.text


@pytest.mark.parametrize(
    ("source", "table"), [("127.0.0.2", STRANGERS), (INSIDE, RELAYED)], ids=["stranger", "relay"]
)
async def test_recipients_are_completed_mapped_and_judged_in_this_order(
    tmp_path: Path, source: str, table: dict[str, str]
) -> None:
    async with receiving(tmp_path) as world:
        await world.reception.apply(from_manifest(world.port, gateway=GATEWAY, **SPEC))
        for to, expected in table.items():
            found = await sent(world, source, to)
            assert expected == found or (expected.startswith("550") and f"<** {expected}" in found), (
                to,
                found,
            )


async def test_postfix_hears_of_each_recipient_what_became_of_it(tmp_path: Path) -> None:
    async with receiving(tmp_path) as world:
        await world.reception.apply(from_manifest(world.port, gateway=GATEWAY, **SPEC))
        everybody = [
            "u@here.example",
            "boss@here.example",
            "u@elsewhere.example",
            "postmaster@here.example",
            "v@x.old.example",
        ]

        def send() -> str:
            with Postfix.sending(world.port, tls="none") as postfix:
                postfix.submit(b"Subject: x\n\nx\n", to=everybody)
                for to in everybody:
                    postfix.wait_said(f"to=<{to}>")
                return postfix.log

        log = await asyncio.to_thread(send)
        lines = {to: next(line for line in log.splitlines() if f"to=<{to}>" in line) for to in everybody}
        assert "The boss takes no mail" in lines["boss@here.example"]
        assert "status=bounced" in lines["boss@here.example"]
        assert "status=bounced" in lines["u@elsewhere.example"]
        for to in ("u@here.example", "postmaster@here.example", "v@x.old.example"):
            assert "status=sent" in lines[to]
        found = {one.address for one in await world.stored() if one.sender}
        assert found == {"u@here.example", "postmaster@here.example", "v@here.example"}


async def test_postfix_sends_to_more_recipients_than_a_message_may_have_in_turns(tmp_path: Path) -> None:
    """It asks for all of them at once, and takes those that were taken (RFC 5321 section 4.5.3.1.10)."""
    everybody = [f"u{number}@here.example" for number in range(350)]
    async with receiving(tmp_path) as world:
        await world.reception.apply(from_manifest(world.port, recipients=[{"match": ["here.example"]}]))

        def send() -> str:
            settings = {"smtp_destination_recipient_limit": "1000"}
            with Postfix.sending(world.port, tls="none", settings=settings) as postfix:

                def all_of_them() -> bool:
                    if postfix.log.count("status=sent") == len(everybody):
                        return True
                    # A run of the queue that meets the message while an agent still has it open would
                    # put it off by a minute; one that was asked for does not look at the time.
                    postfix.flush()
                    return False

                postfix.submit(b"Subject: x\n\nx\n", to=everybody)
                waiting.until(all_of_them, every=1, what="all of them")
                return postfix.log

        log = await asyncio.to_thread(send)
        assert "452 4.5.3 Too many recipients" in log
        assert {one.address for one in await world.stored()} == set(everybody)


async def test_without_a_default_domain_bare_addresses_are_refused_but_the_postmasters(
    tmp_path: Path,
) -> None:
    async with receiving(tmp_path) as world:
        await world.reception.apply(from_manifest(world.port, recipients=[{"match": ["here.example"]}]))
        for sender, to, words in (
            ("a@b.example", "u", "553 5.1.3"),
            ("bare", "u@here.example", "553 5.1.7"),
            ("a@b.example", "postmaster", "250 2.0.0 Ok: queued"),
            ("<>", "postmaster@here.example", "250 2.0.0 Ok: queued"),
        ):
            seen = await asyncio.to_thread(swaks, world.port, to=to, sender=sender, tls=False)
            assert words in seen.text, seen.text
        assert [one.address for one in await world.stored()] == [
            "postmaster@mx.here.example",
            "postmaster@here.example",
        ]
