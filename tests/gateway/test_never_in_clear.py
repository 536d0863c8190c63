"""Tries to get mail out in clear text that must not go so: faults, races, changed policies and trust, restarts.

Three real servers take turns at being broken while messages wait, sessions are open and policies change under them.
The oracle is what the servers read outside of TLS. `LETTERLOCK_EXAMPLES` asks for more sequences (`make soak`).
"""

import contextlib
import os
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, get_args

import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from letterlock_api.snapshot import ResolvedTLSMode
from letterlock_gateway.deliver.terms import Timeouts
from tests.harness.certificates import Authority
from tests.harness.deliveries import Delivering, delivering, route, until
from tests.harness.faulty_smtp import Fault, FaultySMTP
from tests.harness.mounts import destination

EXAMPLES: Final = int(os.environ.get("LETTERLOCK_EXAMPLES", "150"))
MODES: tuple[ResolvedTLSMode, ...] = get_args(ResolvedTLSMode)
REQUIRED = tuple(mode for mode in MODES if mode.startswith("Required"))
FAULTS: tuple[Fault, ...] = get_args(Fault)
NAMES = ("strict.example", "shifting.example")
# Short, so that a fault that is silent costs little. A loaded machine only defers more: the oracle does not care.
SHORT = Timeouts(**dict.fromkeys(Timeouts.__dataclass_fields__, 0.3))
SERVERS: Final = 3

Step = tuple[str, Any, Any]
# Faults that tempt a sender to go on in clear text are drawn as often as all others together.
TEMPTING: tuple[Fault, ...] = (
    "STARTTLS not offered",
    "STARTTLS 454",
    "STARTTLS 421",
    "EHLO unknown",
    "closes on STARTTLS",
    "half a 220",
    "closes after 220",
)
server_number = st.integers(0, SERVERS - 1)
changes = st.one_of(
    st.tuples(st.just("fault"), server_number, st.sampled_from(TEMPTING)),
    st.tuples(st.just("fault"), server_number, st.sampled_from(FAULTS)),
    st.tuples(
        st.just("certificate"), server_number, st.sampled_from(["good", "other CA", "other name", None])
    ),
    st.tuples(st.just("mode"), st.just("strict.example"), st.sampled_from(REQUIRED)),
    st.tuples(st.just("mode"), st.just("shifting.example"), st.sampled_from(MODES)),
    st.tuples(st.just("mode"), st.just("shifting.example"), st.sampled_from(["Preferred", "Required"])),
    st.tuples(st.just("trust"), st.booleans(), st.none()),
    st.tuples(st.just("hasten"), st.none(), st.none()),
    st.tuples(st.just("hang up"), server_number, st.none()),
    st.tuples(st.just("restart"), st.none(), st.none()),
)
sends = st.tuples(st.just("send"), st.sampled_from(NAMES), st.integers(1, 4))
waits = st.tuples(st.just("wait"), st.none(), st.none())
steps = st.tuples(
    st.lists(st.tuples(st.just("fault"), server_number, st.sampled_from(TEMPTING)), max_size=SERVERS),
    st.lists(st.one_of(changes, sends, sends, waits), min_size=3, max_size=12),
).map(lambda parts: [*parts[0], *parts[1]])


@cache
def certificates() -> dict[str | None, bytes | None]:
    """By kind; the CA of `good` is the trusted one."""
    authority, other = Authority(), Authority()
    return {
        "CA": authority.pem,
        "good": authority.issue(*NAMES),
        "other CA": other.issue(*NAMES),
        "other name": authority.issue("elsewhere.example"),
        None: None,
    }


@dataclass
class Story:
    """One sequence of steps, and what must not have been seen in clear text so far."""

    servers: list[FaultySMTP]
    modes: dict[str, ResolvedTLSMode] = field(
        default_factory=lambda: {"strict.example": "Required", "shifting.example": "Preferred"}
    )
    trusted: bool = True
    secrets: set[bytes] = field(default_factory=set[bytes])
    """Words of messages that must be encrypted."""
    waiting: dict[int, bytes] = field(default_factory=dict[int, bytes])
    """Words of messages that may go in clear as long as the mode stays, by message."""
    sent: int = 0

    def apply(self, made: Delivering) -> None:
        authority = certificates()["CA"]
        assert authority is not None
        made.trusted = [authority] if self.trusted else []
        made.apply(
            *(
                destination(
                    domain,
                    resource=domain,
                    tls_mode=mode,
                    connections=1,
                    routes=[route(server.port) for server in self.servers],
                )
                for domain, mode in self.modes.items()
            ),
            destination("sender.example", resource="back", routes=[route(self.servers[0].port)]),
        )

    async def send(self, made: Delivering, domain: str) -> None:
        self.sent += 1
        word = f"word-{self.sent}-of-{domain.partition('.')[0]}."
        required = self.modes[domain] in REQUIRED
        if required:
            self.secrets.add(word.encode())
        body = f"Subject: {word}\r\n\r\n{word}\r\n".encode()
        mid = await made.send(
            f"{word}x@{domain}", sender=f"{word}x@sender.example", notify="NEVER", body=body
        )
        if not required:
            self.waiting[mid] = word.encode()

    def change_mode(self, made: Delivering, domain: str, mode: ResolvedTLSMode) -> None:
        self.check()
        self.modes[domain] = mode
        if domain == "strict.example":
            return
        if mode in REQUIRED:
            # What has not been begun must be encrypted from now on; of what has, bytes may be on their way.
            begun = {line["mid"] for line in made.lines if line["message"].startswith("Delivery start ")}
            self.secrets |= {word for mid, word in self.waiting.items() if mid not in begun}
            self.waiting.clear()
        else:  # from now on they may go in clear
            self.secrets = {word for word in self.secrets if b"shifting" not in word}

    def check(self) -> None:
        """What must be encrypted has not been seen outside of TLS, by anybody."""
        for server in self.servers:
            seen = {word for word in self.secrets if word in server.clear}
            assert not seen, (seen, server.clear[-2000:])
            assert not any(b"of-strict" in bytes(one.clear) for one in server.sessions)


async def told(story: Story, sequence: list[Step], directory: Path) -> None:
    rest = list(sequence)
    while True:
        async with delivering(directory, idle=5, timeouts=SHORT) as made:
            story.apply(made)
            restarted = False
            while rest and not restarted:
                restarted = await step(story, made, rest.pop(0))
            story.check()
            if not rest and not restarted:
                await healed(story, made)
                return


async def step(story: Story, made: Delivering, one: Step) -> bool:
    """Do it. True: restart."""
    match one:
        case ("send", domain, count):
            for _ in range(count):
                await story.send(made, domain)
        case ("fault", number, fault):
            story.servers[number].fault = fault
        case ("certificate", int(number), kind):
            story.servers[number].use_certificate(certificates()[kind])
        case ("mode", domain, mode):
            story.change_mode(made, domain, mode)
            story.apply(made)
        case ("trust", trusted, _):
            story.trusted = trusted
            story.apply(made)
        case ("hasten", _, _):
            await made.spool.hasten()
        case ("hang up", int(number), _):
            story.servers[number].hang_up()
        case ("wait", _, _):  # until there is nothing to do, or something has come of it
            before = len(made.lines)
            with contextlib.suppress(TimeoutError):
                await until(
                    lambda: made.spool.queue_length() == 0 or len(made.lines) > before + 8, "", seconds=0.1
                )
        case _:
            story.waiting.clear()  # their beginnings will not be known
            return True
    return False


async def healed(story: Story, made: Delivering) -> None:
    """Everything works again: what waits is delivered, and all that must be encrypted was."""
    for server in story.servers:
        server.fault = ""
        server.use_certificate(certificates()["good"])
    story.trusted = True
    story.apply(made)

    async def emptied() -> bool:
        await made.spool.hasten()
        return made.spool.queue_length() == 0

    for _ in range(200):
        if await emptied():
            break
        with contextlib.suppress(TimeoutError):
            await until(lambda: made.spool.queue_length() == 0, "an empty queue", seconds=0.2)
    assert made.spool.queue_length() == 0
    story.check()


@given(steps)
@settings(max_examples=EXAMPLES, deadline=None)
def test_what_must_be_encrypted_never_goes_in_clear_text(sequence: list[Step]) -> None:
    async def scenario() -> None:
        async with contextlib.AsyncExitStack() as ends:
            good = certificates()["good"]
            servers = [await ends.enter_async_context(FaultySMTP(good)) for _ in range(SERVERS)]
            for server in servers:
                server.pause = 0.01  # so that messages wait while the policy changes
            directory = ends.enter_context(tempfile.TemporaryDirectory())
            await told(Story(servers), sequence, Path(directory))

    uvloop.run(scenario())
