"""What `letterlock init` writes runs: a message of swaks goes through `letterlock up` into a real Postfix (H3)."""

import signal
import subprocess
from pathlib import Path
from typing import Any

import yaml

from letterlock_cli import objects
from tests.cli.upped import COMMAND
from tests.harness import letters
from tests.harness.certificates import Authority
from tests.harness.ports import free_port
from tests.harness.postfix import Postfix
from tests.harness.swaks import swaks
from tests.harness.waiting import until


def test_a_message_is_delivered_by_what_the_wizard_wrote_and_started(tmp_path: Path) -> None:
    port, store = free_port(), free_port()
    answers = tmp_path / "answers"
    said = {"hostname": "mx.example.com", "domains": ["example.com"], "port": port, "storeTLS": "Required"}
    answers.write_text(yaml.safe_dump(said | {"nextHop": f"localhost:{store}"}))
    pair = Authority().issue("store.example.com")
    message = letters.letter(to="someone@example.com")
    with (
        Postfix.receiving(certificate=pair, domains=("example.com",), port=store) as receiver,
        (tmp_path / "output").open("wb") as output,
    ):
        command = [*COMMAND, "init", str(tmp_path / "mail"), "--answers", str(answers), "--then", "up"]
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=tmp_path)
        try:
            status = tmp_path / ".letterlock/mail/status/Listener/public.yaml"

            def programmed() -> bool:
                assert process.poll() is None, (tmp_path / "output").read_text()
                loaded: dict[str, Any] = yaml.safe_load(status.read_text()) if status.exists() else {}
                return objects.condition(loaded, "Programmed").get("status") == "True"

            until(programmed, what="the listener", seconds=90)
            sent = swaks(port, to="someone@example.com", data=message, directory=tmp_path)
            assert sent.accepted, sent.text
            until(
                lambda: letters.arrived(message, receiver.messages()),
                seconds=90,
                what="the message, byte for byte",
            )
        finally:
            process.send_signal(signal.SIGINT)
            ended = process.wait(60)
    assert ended == 0, (tmp_path / "output").read_text()
