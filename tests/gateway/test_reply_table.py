"""Every SMTP reply comes from one table, and the table keeps to the RFCs."""

import ast
import re
from pathlib import Path

import pytest

from letterlock_gateway import receive
from letterlock_gateway.receive import replies
from letterlock_gateway.receive.replies import Reply

SOURCES = sorted(Path(str(receive.__file__)).parent.glob("*.py"))
OTHERS = [path for path in SOURCES if path.name != "replies.py"]
TABLE = {name: value for name, value in vars(replies).items() if isinstance(value, Reply)}
# What is made from words that are only known later.
MADE = [
    replies.queued(7),
    replies.recipient_rejected("no\nno"),
    replies.recipient_rejected(""),
    replies.hello("mx.example"),
    replies.extended_hello("mx.example", ["PIPELINING", "STARTTLS"]),
    replies.greeting("mx.example", ""),
    replies.greeting("mx.example", "two\nlines"),
    replies.refusal("mx.example", ""),
]
# RFC 2034 section 4: the greeting, and the replies to EHLO and HELO, have no enhanced code; RFC 5321: 354 neither.
PLAIN = {220, 250, 354, 554}
# RFC 5321 section 4.2.3, and RFC 3207, 4954, 6531 for the last ones.
KNOWN_CODES = {
    211,
    214,
    220,
    221,
    250,
    251,
    252,
    354,
    421,
    450,
    451,
    452,
    454,
    500,
    501,
    502,
    503,
    530,
    550,
    552,
    553,
    554,
    555,
}


@pytest.mark.parametrize("reply", [*TABLE.values(), *MADE], ids=repr)
def test_each_reply_keeps_to_the_form(reply: Reply):
    assert reply.code in KNOWN_CODES
    lines = reply.wire.decode("ascii").split("\r\n")
    assert lines.pop() == ""
    for line in lines:
        assert len(line) <= 510  # RFC 5321 section 4.5.3.1.5, without CRLF
        assert line.isprintable()
        assert line[:3] == str(reply.code)
        assert line[3] == (" " if line is lines[-1] else "-")
    if not reply.enhanced:
        assert reply.code in PLAIN
        return
    assert re.fullmatch(r"[245]\.[0-7]\.\d{1,3}", reply.enhanced)  # RFC 3463: subjects 0 to 7
    assert reply.enhanced[0] == str(reply.code)[0]
    assert all(line[4:].startswith(f"{reply.enhanced} ") for line in lines)


def test_no_two_names_say_the_same():
    assert len({reply.wire for reply in TABLE.values()}) == len(TABLE)


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.name)
def test_no_reply_is_built_elsewhere(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            assert called != "Reply", f"{path.name}:{node.lineno} makes a reply of its own"
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            assert not re.match(r"[2345]\d\d[ -]", text), f"{path.name}:{node.lineno} writes {text!r}"


def test_every_reply_of_the_table_is_used():
    everything = (
        "".join(path.read_text() for path in OTHERS)
        + Path(str(replies.__file__)).read_text().partition("\ndef ")[2]
    )
    assert [name for name in TABLE if not re.search(rf"\b{name}\b", everything)] == []
