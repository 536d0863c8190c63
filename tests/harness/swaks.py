"""swaks, a real SMTP client with its transcript: what a person would try by hand."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness import programs


@dataclass(frozen=True)
class Transcript:
    """What came of one run."""

    status: int
    """0: the message was taken, or everything asked for was done."""
    text: str
    """Both sides of the session: `->` and `<-` in clear, `~>` and `<~` under TLS, `**`/`~*` for errors."""

    @property
    def accepted(self) -> bool:
        """Whether swaks was content."""
        return self.status == 0


def swaks(
    port: int,
    *,
    address: str = "127.0.0.1",
    sender: str = "sender@client.example",
    to: str | Sequence[str] = "someone@mailbox.example",
    data: bytes | None = None,
    tls: bool = True,
    options: Sequence[str] = (),
    directory: Path | None = None,
    seconds: float = 60,
) -> Transcript:
    """Run one session against `address:port`, with STARTTLS unless `tls` is False.

    `data` is the whole message with LF line ends (swaks makes CRLF of them, and the dots); `directory` is
    where it is put for swaks to read. `options` are added as they stand, such as `["--quit-after", "EHLO"]`.
    """
    recipients = to if isinstance(to, str) else ",".join(to)
    command = [
        str(programs.require("swaks")),
        *("--server", address, "--port", str(port), "--from", sender, "--to", recipients),
        *("--helo", "client.example", "--timeout", "30"),
        *(["--tls"] if tls else []),
        *options,
    ]
    if data is not None:
        if directory is None:
            raise ValueError("data needs a directory to lie in")
        path = directory / "swaks-message"
        # swaks ends the text with a newline of its own.
        path.write_bytes(data.removesuffix(b"\n"))
        command += ["--data", f"@{path}"]
    done = subprocess.run(
        command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds
    )
    return Transcript(status=done.returncode, text=done.stdout.decode("utf-8", "replace"))
