"""Many Certificates at once: few writes, an event loop that never waits, and no member that restarts (C11)."""

from pathlib import Path

from tests.harness.apiserver import ApiServer
from tests.harness.crowds import Crowd, Writes

COUNT = 40
# Seconds of its own work that one callback of the loop may take. Processor time, so that a busy machine is no reason.
BUSY = 0.1


def test_many_at_once_are_one_secret_and_one_status_each_and_the_next_one_restarts_nobody(
    api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    with Crowd(api_server, namespace, tmp_path) as crowd:
        before, generation = Writes.so_far(crowd.kubectl), crowd.generation()
        crowd.all_ready(COUNT, privateKey={"algorithm": "ECDSA"})
        made = Writes.so_far(crowd.kubectl).since(before)
        assert (made.secrets_made, made.secrets_replaced) == (COUNT, 0)
        assert made.statuses == COUNT
        crowd.run_members()
        crowd.until(lambda: crowd.having("Programmed") == COUNT, "all of them Programmed")
        # Another status each, for there is something new to say, and the first Certificate's; or two, where the
        # kubelet calls the member ready before the operator has heard of it.
        made = Writes.so_far(crowd.kubectl).since(before)
        assert made.statuses <= 3 * COUNT + 2
        process = crowd.kubelet.pod("default-0").process
        crowd.make(1, COUNT)
        crowd.serve(COUNT)
        assert crowd.kubelet.pod("default-0").process is process
        assert crowd.generation() == generation
        slowest = crowd.slowest()
    assert slowest
    assert all(worked < BUSY for _, worked, _ in slowest), slowest
