"""The outcome table: every cell, and what must hold whatever else changes in it."""

from typing import get_args

import pytest

from letterlock_api.snapshot import ResolvedTLSMode
from letterlock_gateway.deliver import outcomes_table
from letterlock_gateway.deliver.outcomes_table import TABLE, Decision, Event

MODES: tuple[ResolvedTLSMode, ...] = get_args(ResolvedTLSMode)
CLEAR = {Decision.CLEAR, Decision.CLEAR_ANEW}
AFTER_220 = {
    Event.LOST_AFTER_220,
    Event.HANDSHAKE_FAILED,
    Event.PARAMETERS_REFUSED,
    Event.ENCRYPTED,
    Event.NOT_TRUSTED,
    Event.SELF_SIGNED,
    Event.ISSUER_MISSING,
    Event.NAME_MISMATCH,
    Event.EXPIRED,
    Event.NOT_YET_VALID,
    Event.VERIFIED,
    Event.LOST_ENCRYPTED,
}
BEFORE_220 = {
    Event.EHLO_REFUSED,
    Event.STARTTLS_NOT_OFFERED,
    Event.STARTTLS_DEFERRED,
    Event.STARTTLS_REFUSED,
    Event.LOST_BEFORE_220,
}
UNVERIFIED = {
    Event.NOT_TRUSTED,
    Event.SELF_SIGNED,
    Event.ISSUER_MISSING,
    Event.NAME_MISMATCH,
    Event.EXPIRED,
    Event.NOT_YET_VALID,
}
IN_A_TRANSACTION = {
    Event.DEFERRED: Decision.WAIT,
    Event.REFUSED: Decision.BOUNCE,
    Event.LOST_IN_TRANSACTION: Decision.NEXT_HOST,
    Event.LOST_AT_THE_END: Decision.WAIT,
}
CELLS: list[tuple[ResolvedTLSMode, Event]] = [(mode, event) for mode in MODES for event in Event]


def ids(cells: list[tuple[ResolvedTLSMode, Event]]) -> list[str]:
    return [f"{mode} when {event}" for mode, event in cells]


def expected(mode: ResolvedTLSMode, event: Event) -> Decision:
    """The feature list in words, written a second time and in another way."""
    if event in IN_A_TRANSACTION:
        return IN_A_TRANSACTION[event]
    if event in outcomes_table.NOT_ABOUT_TLS:
        return Decision.NEXT_HOST
    if event is Event.STARTTLS_OFFERED:
        return Decision.CLEAR if mode == "No" else Decision.START_TLS
    if event in BEFORE_220:
        if mode.startswith("Required"):
            return Decision.NEXT_HOST
        return Decision.CLEAR_ANEW if event is Event.LOST_BEFORE_220 else Decision.CLEAR
    if event in {
        Event.LOST_AFTER_220,
        Event.HANDSHAKE_FAILED,
        Event.PARAMETERS_REFUSED,
        Event.LOST_ENCRYPTED,
    }:
        return Decision.NEXT_HOST
    if event is Event.ENCRYPTED:
        return Decision.CHECK if "Verify" in mode else Decision.ENCRYPTED
    if event in UNVERIFIED and mode.startswith("RequiredVerify"):
        return Decision.NEXT_HOST
    return Decision.ENCRYPTED


def test_the_table_has_every_cell_and_no_other() -> None:
    assert set(TABLE) == set(CELLS)


@pytest.mark.parametrize(("mode", "event"), CELLS, ids=ids(CELLS))
def test_each_cell_is_what_the_feature_list_says(mode: ResolvedTLSMode, event: Event) -> None:
    assert outcomes_table.decide(mode, event) is expected(mode, event)


def test_required_modes_never_go_on_in_clear_text() -> None:
    required = {mode for mode in MODES if mode.startswith("Required")}
    assert required == outcomes_table.REQUIRING
    for mode, event in CELLS:
        if mode in required:
            assert TABLE[mode, event] not in CLEAR


def test_after_the_220_no_mode_goes_back_to_clear_text() -> None:
    for mode, event in CELLS:
        if event in AFTER_220:
            assert TABLE[mode, event] not in CLEAR


def test_every_event_that_can_give_a_host_up_has_a_word_and_a_temporary_status() -> None:
    for (_, event), decision in TABLE.items():
        if decision is Decision.NEXT_HOST:
            assert outcomes_table.word(event)
            assert outcomes_table.status(event).startswith("4.")
            tls = event not in outcomes_table.NOT_ABOUT_TLS
            assert (outcomes_table.status(event) in {"4.7.4", "4.7.5"}) == tls


def test_no_failure_of_tls_says_that_it_is_none() -> None:
    for (_, event), decision in TABLE.items():
        if event in BEFORE_220 | AFTER_220 and decision is Decision.NEXT_HOST:
            assert event not in outcomes_table.NOT_ABOUT_TLS


def test_exactly_the_modes_that_say_so_insist_on_verification() -> None:
    insisting = {mode for mode in MODES if outcomes_table.insists_on_verification(mode)}
    assert insisting == {"RequiredVerify", "RequiredVerifyHostedDomains"}
