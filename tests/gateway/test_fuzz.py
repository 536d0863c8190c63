"""The fuzzer's bounded run, its corpus, and that it would find what it looks for.

The same cases in every run: what is new is looked for with `make fuzz`, and comes here as a case of the corpus.
"""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import Phase as Generate
from hypothesis import strategies as st

from letterlock_gateway.receive import commands, data, lines, proxy, session
from letterlock_gateway.receive.orders import Phase
from letterlock_gateway.receive.replies import Reply
from letterlock_gateway.receive.session import Session
from letterlock_gateway.receive.trace import TLSDetails
from tests.gateway import fuzzing
from tests.gateway.fuzzing import Script


@settings(max_examples=1500, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(fuzzing.scripts)
def test_whatever_a_client_sends_no_rule_is_broken(script: Script):
    fuzzing.check(script)


@pytest.mark.parametrize("path", fuzzing.kept(), ids=lambda path: path.stem)
def test_cases_of_the_corpus_stay_mended(path: Path):
    fuzzing.check(fuzzing.read(path))


def test_there_is_a_corpus():
    assert fuzzing.kept()


def keeps_what_was_said(self: Session, details: TLSDetails) -> None:
    self.action = None
    self.tls = details
    self.phase = Phase.READY


BROKEN: dict[str, tuple[Any, str, Any]] = {
    "what was said survives STARTTLS": (Session, "tls_started", keeps_what_was_said),
    "no bound for a line": (lines, "MAX_LINE", 1 << 30),
    "a lone LF ends a text": (data, "_END", b"\n.\r\n"),
    "TLS is never required": (
        session,
        "BEFORE_TLS",
        frozenset({"EHLO", "MAIL", "RCPT", "DATA", "STARTTLS", "QUIT"}),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_fuzzer_finds_a_broken_session(monkeypatch: pytest.MonkeyPatch, name: str):
    where, what, broken = BROKEN[name]
    monkeypatch.setattr(where, what, broken)

    @settings(
        max_examples=2000,
        derandomize=True,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        database=None,
        phases=[Generate.generate],
    )
    @given(fuzzing.scripts)
    def look(script: Script) -> None:
        fuzzing.check(script)

    with pytest.raises(BaseException):  # noqa: B017, PT011 - several rules may be the first to be broken
        look()


@settings(max_examples=500, derandomize=True, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n\x21\x11"]))
def test_a_proxy_header_is_read_only_when_it_is_whole(tail: bytes, start: bytes):
    whole = start + tail
    try:
        header = proxy.read(whole)
    except proxy.BadHeader:
        return
    if header is None:
        return
    length = len(whole) - len(header.rest)
    assert proxy.read(whole[:length]) == proxy.Header(header.client, b"")
    for cut in range(length):
        assert proxy.read(whole[:cut]) is None


@settings(max_examples=500, derandomize=True, deadline=None)
@given(
    st.lists(st.binary(max_size=20), max_size=30),
    st.sampled_from(["FROM:<a@b.example> ", "TO:<a@b.example> ", ""]),
)
def test_arguments_are_parsed_or_refused(words: list[bytes], start: str):
    argument = start + b" ".join(words).decode("utf-8", "replace")
    for parse in (commands.mail, commands.rcpt):
        found = parse(argument)
        assert isinstance(found, Reply | commands.Mail | commands.Rcpt)
        if not isinstance(found, Reply):
            # What is taken can be written into a command as it stands.
            assert "\r" not in found.path.address
            assert "\n" not in found.path.address
