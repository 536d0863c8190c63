"""Every SMTP reply of a session, as a named constant with its enhanced code.

RFC 5321 section 4.2, RFC 3463, RFC 5248. The table is tested: the class of each code is that of its enhanced
code. Texts never hold anything of the inside.
"""

import re
from typing import Final

_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]")
# RFC 5321 section 4.5.3.1.5: a reply line has at most 512 octets; texts of administrators are cut to fit.
_MAX_TEXT: Final = 480


class Reply:
    """A reply, ready for the wire."""

    __slots__ = ("code", "enhanced", "text", "wire")

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        """`enhanced` is empty for the greeting and the replies to EHLO and HELO (RFC 2034 section 4)."""
        self.code = code
        self.enhanced = enhanced
        self.text = text
        prefix = f"{enhanced} " if enhanced else ""
        lines = [_UNPRINTABLE.sub("?", line)[:_MAX_TEXT] for line in text.splitlines()] or [""]
        self.wire = b"".join(
            f"{code}{' ' if last else '-'}{prefix}{line}\r\n".encode()
            for line, last in zip(lines, [False] * (len(lines) - 1) + [True], strict=True)
        )

    def __repr__(self) -> str:
        return f"Reply({self.code} {self.enhanced} {self.text!r})"


OK: Final = Reply(250, "2.0.0", "Ok")
RESET: Final = Reply(250, "2.0.0", "Reset")
SENDER_OK: Final = Reply(250, "2.1.0", "Sender ok")
RECIPIENT_OK: Final = Reply(250, "2.1.5", "Recipient ok")
START_DATA: Final = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
READY_FOR_TLS: Final = Reply(220, "2.0.0", "Ready to start TLS")
GOODBYE: Final = Reply(221, "2.0.0", "Goodbye")
WILL_TRY: Final = Reply(252, "2.5.0", "Cannot verify, but will take mail for it and try to deliver")
HELP: Final = Reply(214, "2.0.0", "See RFC 5321")

# TLS
TLS_FIRST: Final = Reply(530, "5.7.0", "Must issue a STARTTLS command first")
TLS_ACTIVE: Final = Reply(503, "5.5.1", "TLS is already active")
TLS_NOT_OFFERED: Final = Reply(502, "5.5.1", "STARTTLS is not offered")
TLS_NO_PARAMETERS: Final = Reply(501, "5.5.4", "STARTTLS takes no parameters")
TLS_UNAVAILABLE: Final = Reply(454, "4.7.0", "TLS is not available for a temporary reason")
# RFC 3207 section 4.1: the reply to everything but QUIT where what TLS brought is not enough.
CLIENT_CERTIFICATE_MISSING: Final = Reply(554, "5.7.0", "A client certificate is required")
CLIENT_CERTIFICATE_INVALID: Final = Reply(554, "5.7.0", "The client certificate is not accepted")

# Order and syntax
UNKNOWN_COMMAND: Final = Reply(500, "5.5.1", "Command not recognized")
NOT_IMPLEMENTED: Final = Reply(502, "5.5.1", "Command not implemented")
BAD_LINE: Final = Reply(500, "5.5.2", "Syntax error: lines are text and end with <CR><LF>")
LINE_TOO_LONG: Final = Reply(500, "5.5.2", "Line too long")
PIPELINING: Final = Reply(554, "5.5.0", "Input after a command that must be the last of its group")
HELLO_FIRST: Final = Reply(503, "5.5.1", "Send EHLO first")
MAIL_FIRST: Final = Reply(503, "5.5.1", "Send MAIL first")
RECIPIENT_FIRST: Final = Reply(503, "5.5.1", "No recipient has been accepted")
NESTED_MAIL: Final = Reply(503, "5.5.1", "MAIL has been given already")
HELLO_SYNTAX: Final = Reply(501, "5.5.4", "Syntax: EHLO hostname")
MAIL_SYNTAX: Final = Reply(501, "5.5.4", "Syntax: MAIL FROM:<address> [parameters]")
RCPT_SYNTAX: Final = Reply(501, "5.5.4", "Syntax: RCPT TO:<address> [parameters]")
NO_PARAMETERS: Final = Reply(501, "5.5.4", "The command takes no parameters")
BAD_PARAMETER: Final = Reply(501, "5.5.4", "A parameter's value is not valid")
UNKNOWN_PARAMETER: Final = Reply(555, "5.5.4", "A parameter is not supported")
BAD_SENDER: Final = Reply(501, "5.1.7", "The sender's address is not valid")
BAD_RECIPIENT: Final = Reply(501, "5.1.3", "The recipient's address is not valid")
SENDER_NEEDS_DOMAIN: Final = Reply(553, "5.1.7", "The sender's address needs a domain")
RECIPIENT_NEEDS_DOMAIN: Final = Reply(553, "5.1.3", "The recipient's address needs a domain")
UTF8_NOT_DECLARED: Final = Reply(553, "5.6.7", "The address needs the SMTPUTF8 parameter")
TOO_IDLE: Final = Reply(450, "4.7.0", "Too many commands without a message")
TOO_MANY_ERRORS: Final = Reply(421, "4.7.0", "Too many errors, closing")

# Policy and limits
ONLY_CHECKS: Final = Reply(550, "5.7.1", "No mail is taken from the load balancer itself")
RELAYING_DENIED: Final = Reply(550, "5.7.1", "Address rejected: mail for it is not taken here")
ROUTED_ADDRESS: Final = Reply(550, "5.7.1", "Address rejected: routing inside an address is not followed")
RECIPIENT_UNKNOWN: Final = Reply(550, "5.1.1", "Address rejected: there is no such recipient here")
DIRECTORY_FAILED: Final = Reply(451, "4.4.3", "The recipient could not be looked up, try again later")
RECIPIENT_REJECTED: Final = Reply(550, "5.7.1", "Address rejected")
MESSAGE_TOO_BIG: Final = Reply(552, "5.3.4", "The message is too big")
TOO_MANY_RECIPIENTS: Final = Reply(452, "4.5.3", "Too many recipients")
TOO_MANY_THIS_HOUR: Final = Reply(452, "4.7.1", "Too many recipients from this host, try again later")
TOO_MANY_MESSAGES: Final = Reply(421, "4.7.0", "Too many messages in this connection")
TOO_MANY_CONNECTIONS: Final = Reply(421, "4.3.2", "Too many connections, try again later")
TOO_MANY_FROM_HOST: Final = Reply(421, "4.7.0", "Too many connections from this host")
LOOP: Final = Reply(554, "5.4.6", "Too many hops: the message goes in a circle")
MALFORMED_MESSAGE: Final = Reply(554, "5.6.0", "The message holds a bare <CR>, a bare <LF> or a NUL")
BUFFERS_FULL: Final = Reply(452, "4.3.1", "Insufficient system storage, try again later")
STORE_FAILED: Final = Reply(451, "4.3.0", "The message could not be stored, try again later")
REFUSED: Final = Reply(503, "5.5.1", "Mail is not taken from this host, only QUIT is")

# Ends
IDLE: Final = Reply(421, "4.4.2", "Nothing heard for too long, closing")
SHUTTING_DOWN: Final = Reply(421, "4.3.2", "Service shutting down, closing")


def queued(mid: int) -> Reply:
    """The promise that message `mid` is safe (RFC 5321 section 6.1)."""
    return Reply(250, "2.0.0", f"Ok: queued as {mid}")


def recipient_rejected(text: str) -> Reply:
    """A rejection with the words of the recipient access table."""
    return Reply(550, "5.7.1", text) if text else RECIPIENT_REJECTED


def hello(hostname: str) -> Reply:
    """The reply to HELO."""
    return Reply(250, "", hostname)


def extended_hello(hostname: str, keywords: list[str]) -> Reply:
    """The reply to EHLO."""
    return Reply(250, "", "\n".join([hostname, *keywords]))


def greeting(hostname: str, banner: str) -> Reply:
    """The greeting of a host from whom mail is taken."""
    return Reply(220, "", _after_hostname(hostname, banner or "ESMTP Letterlock"))


def refusal(hostname: str, text: str) -> Reply:
    """The greeting of a host from whom none is taken (RFC 5321 section 3.1)."""
    return Reply(554, "", _after_hostname(hostname, text or "Mail is not taken from this host"))


def _after_hostname(hostname: str, text: str) -> str:
    return "\n".join(f"{hostname} {line}" for line in text.splitlines())
