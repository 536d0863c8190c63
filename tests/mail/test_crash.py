"""A 250 is a promise (RFC 5321, 6.1): it holds when every process of a member is killed at any moment."""

import smtplib

from tests.harness import letters, waiting
from tests.harness.postfix import Postfix
from tests.mail import clients
from tests.mail.between import Between, MakeBetween


def check_all_arrived(made: Between, acknowledged: list[str]) -> None:
    """Every message that got its 250 is in the mailbox. A second copy may be there (RFC 5321, 4.5.4.1)."""

    def missing() -> set[str]:
        return set(acknowledged) - set(made.receiver.message_ids())

    try:
        waiting.until(lambda: not missing(), seconds=120, every=0.5, what="all acknowledged messages")
    except TimeoutError:
        raise AssertionError(f"lost after 250: {sorted(missing())} of {len(acknowledged)}") from None


def test_kill_9_between_250_and_delivery_loses_nothing(between: MakeBetween) -> None:
    # The next hop is down: everything that is acknowledged is still in the spool when the member dies.
    made = between(receiving=False)
    with clients.sending(made.port, stop_on_failure=True) as record:
        waiting.until(clients.after(record, 200), what="200 messages acknowledged", seconds=60)
        made.member.kill9()
    assert len(record.acknowledged) >= 200
    with made.receiver:
        made.member.start().wait_ready()
        check_all_arrived(made, record.acknowledged)
        made.wait_queue(0)


def test_kill_9_again_and_again_while_mail_flows_loses_nothing(between: MakeBetween) -> None:
    made = between()
    promised: list[str] = []
    for _ in range(3):
        with clients.sending(made.port, stop_on_failure=True) as record:
            waiting.until(clients.after(record, 100), what="100 messages acknowledged", seconds=60)
            made.member.kill9()
        promised += record.acknowledged
        made.member.start().wait_ready()
    check_all_arrived(made, promised)
    made.wait_queue(0)


def test_a_stopped_member_ends_in_time_and_delivers_after_its_return(between: MakeBetween) -> None:
    made = between(receiving=False)
    with clients.sending(made.port, clients=4, stop_on_failure=True) as record:
        waiting.until(clients.after(record, 20), what="messages acknowledged", seconds=60)
        assert made.member.stop() == 0
    # A gentle end never breaks off between the final dot and its reply.
    assert not [failure for failure in record.failures if "after 250" in failure and "421" not in failure]
    with made.receiver:
        made.member.start().wait_ready()
        check_all_arrived(made, record.acknowledged)
        # Nothing was interrupted, so nothing came twice.
        made.wait_queue(0)
        assert len(made.receiver.message_ids()) == len(set(made.receiver.message_ids()))


def test_fewer_workers_after_a_restart_still_deliver_what_all_had_spooled(between: MakeBetween) -> None:
    made = between(receiving=False, workers=3)
    with clients.sending(made.port, clients=6, stop_on_failure=True) as record:
        waiting.until(clients.after(record, 30), what="messages acknowledged", seconds=60)
        made.member.kill9()
    with made.receiver:
        made.member.use_workers(1)
        made.member.start().wait_ready()
        check_all_arrived(made, record.acknowledged)


def test_a_session_in_progress_survives_a_dead_worker_next_to_it(between: MakeBetween) -> None:
    """A dead worker takes its own sessions along only; it is started again, and its spool is delivered."""
    made = between(workers=2)
    workers = made.member.worker_pids()
    assert len(workers) == 2
    with clients.sending(made.port, clients=8) as record:
        waiting.until(clients.after(record, 40), what="messages acknowledged", seconds=60)
        made.member.kill_worker(workers[0])
        waiting.until(clients.after(record, 100), what="messages acknowledged after that", seconds=60)
    waiting.until(
        lambda: len(made.member.worker_pids()) == 2 and workers[0] not in made.member.worker_pids(),
        what="a new worker",
    )
    made.member.wait_ready()
    check_all_arrived(made, record.acknowledged)
    with smtplib.SMTP("127.0.0.1", made.port, timeout=20) as client:
        assert client.noop()[0] == 250


def test_postfix_sends_again_what_a_killed_member_had_not_acknowledged(between: MakeBetween) -> None:
    made = between()
    ids = [f"<{n}@crash.example>" for n in range(100)]
    with Postfix.sending(made.port, tls="encrypt") as sender:
        for identity in ids:
            sender.submit(letters.sized_letter(4096, identity), to="someone@mailbox.example")
        made.member.kill9()
        made.member.start().wait_ready()
        check_all_arrived(made, ids)

        def emptied() -> bool:
            sender.flush()
            return "Mail queue is empty" in sender.queue()

        waiting.until(emptied, seconds=120, every=1, what="an empty queue")
