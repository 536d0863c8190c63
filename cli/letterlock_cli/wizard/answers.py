"""What the wizard has to know, as a model: from questions, or from a file with `--answers`.

Called by `init_command`. Every value is checked as the manifests' own fields are, so what is taken here is taken there.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from letterlock_api.base import Model, to_yaml_name
from letterlock_api.values import (
    Client,
    DomainName,
    HostnameTemplate,
    HostPort,
    MailAddress,
    ObjectName,
    Port,
    Text,
)

Domains = Annotated[list[DomainName], Field(min_length=1, max_length=64)]


def key(field: str) -> str:
    """What a field is called in a file of answers."""
    return to_yaml_name(field).replace("Tls", "TLS")


class Answers(Model):
    """All answers, in the order of the questions."""

    model_config = ConfigDict(alias_generator=key)

    hostname: HostnameTemplate
    """The gateway's name on the Internet, as in its MX record (mx.example.com)

    With several members: mx{ordinal}.example.com, one name each."""
    domains: Domains
    """Domains that mail is taken for, separated by spaces

    Mail for everybody else is refused from the Internet."""
    next_hop: HostPort
    """Where their mail goes: the mail store, as host or host:port

    Resolved as this system does: a hosts file or cluster DNS counts."""
    certificate: Literal["self-signed", "secret", "demo"] = "self-signed"
    """Certificate of the gateway: self-signed, secret or demo

    self-signed: made and renewed here; a CA can sign it later (letterlock certificate csr and upload).
    secret: a kubernetes.io/tls Secret, of cert-manager say. demo: to try things; nobody can verify it."""
    certificate_secret: ObjectName | None = None
    """Name of the Secret with the certificate"""
    organization: Text | None = None
    """Organization in the certificate (may be empty)"""
    country: Annotated[str, Field(pattern="^[A-Z]{2}$")] | None = None
    """Country in the certificate, two letters as in DE (may be empty)"""
    port: Port = 25
    """Port for mail from the Internet

    25 takes root with `letterlock up`; a port above 1024 can be tried by anybody."""
    listener_tls: Literal["No", "Preferred", "Required"] = "Preferred"
    """TLS for mail that comes in: No, Preferred or Required

    A server that an MX record names must take mail without TLS too (RFC 3207): Preferred."""
    relay_from: Annotated[list[Client], Field(max_length=63)] = Field(default_factory=list[str])
    """Networks of your own that may send to anybody, as in 10.0.0.0/8 (empty: none)

    They get a listener of their own, where TLS is required."""
    relay_port: Port = 587
    """Port for mail from your own networks"""
    store_tls: Literal["No", "Preferred", "Required", "RequiredVerify"] = "RequiredVerify"
    """TLS towards the mail store: No, Preferred, Required or RequiredVerify

    RequiredVerify: its certificate must be for its name, by a CA that is listed; or mail waits."""
    verified_domains: Annotated[list[DomainName], Field(max_length=64)] = Field(default_factory=list[str])
    """Partners' domains that get mail over verified TLS only (empty: none)"""
    internet_tls: Literal["No", "Preferred", "Required", "PreferredVerify", "RequiredVerify"] = "Preferred"
    """TLS towards everybody else: No, Preferred, Required, PreferredVerify or RequiredVerify

    Preferred is what the Internet's mail does. From Required on, mail to servers without TLS waits and bounces."""
    alert_recipients: Annotated[list[MailAddress], Field(max_length=63)] = Field(default_factory=list[str])
    """Addresses that are told when required TLS fails, or a certificate ends soon (empty: none)"""
    https_port: Port | None = None
    """Port of the web page over HTTPS (empty: no web page)"""
    https_certificate: Literal["same", "demo"] = "same"
    """Certificate of the web page: same or demo"""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not 0 < split_port(self.next_hop)[1] < 65536:
            raise ValueError("nextHop: a port is a number from 1 to 65535")
        if any(one.upper() == "ALL" for one in self.relay_from):
            raise ValueError(
                "relayFrom: ALL would let the whole Internet send through here: name your networks"
            )
        if self.certificate == "secret" and not self.certificate_secret:
            raise ValueError("certificateSecret: name the Secret, since certificate is secret")
        if self.https_port is not None and self.https_port in (self.port, self.relay_port):
            raise ValueError("httpsPort: choose another, this one is a listener's")
        if self.relay_from and self.relay_port == self.port:
            raise ValueError("relayPort: choose another, this one is the port for mail from the Internet")
        return self


def split_port(host: str) -> tuple[str, int]:
    """A next hop's host, and its port: 25 unless it says another."""
    name, colon, port = host.rpartition(":")
    return (name.strip("[]"), int(port)) if colon and port.isdecimal() else (host.strip("[]"), 25)


@dataclass(frozen=True)
class Question:
    """One field of Answers as people are asked for it."""

    field: str
    text: str
    explanation: str
    default: Any
    """None: there is none, and an empty answer is none."""
    required: bool
    several: bool

    def parsed(self, said: str) -> object:
        """The value that `said` stands for. Raises ValueError with what to write instead."""
        words = said.replace(",", " ").split()
        value: Any = words if self.several else said.strip() or None
        if self.field == "country" and value:
            value = str(value).upper()
        if value in (None, []) and self.required:
            raise ValueError("an answer is needed")
        try:
            return getattr(_ALONE[self.field].model_validate({self.field: value}), self.field)
        except ValidationError as error:
            raise ValueError(problem(error).partition(": ")[2]) from error


_WORDS: Final = {"missing": "is needed", "extra_forbidden": "there is no such answer"}


def problem(error: ValidationError) -> str:
    """All that is wrong, on one line."""
    found: list[str] = []
    for one in error.errors():
        # Pydantic names validators in a location too; our fields are words.
        where = next((part for part in one["loc"] if isinstance(part, str) and part.isidentifier()), "")
        words = _WORDS.get(one["type"]) or one["msg"].removeprefix("Value error, ")
        found.append(f"{where}: {words}" if where and not words.startswith(where) else words)
    return "; ".join(dict.fromkeys(found))


def _question(field: str) -> Question:
    info = Answers.model_fields[field]
    first, _, rest = (info.description or "").strip().partition("\n\n")
    default = None if info.is_required() else info.get_default(call_default_factory=True)
    several = field in {"domains", "relay_from", "verified_domains", "alert_recipients"}
    return Question(field, first, " ".join(rest.split()), default, info.is_required(), several)


def _alone(field: str) -> type[BaseModel]:
    """A model of one field, to judge an answer before the others are known."""
    info = Answers.model_fields[field]
    fields: dict[str, Any] = {field: (info.annotation, info)}
    return create_model("Answer", __config__=Answers.model_config, **fields)


_ALONE: Final = {field: _alone(field) for field in Answers.model_fields}
QUESTIONS: Final = tuple(_question(field) for field in Answers.model_fields)


def asked(field: str, so_far: dict[str, Any]) -> bool:
    """Whether a question makes sense after what was said before."""
    kind = so_far.get("certificate")
    if field == "certificate_secret":
        return kind == "secret"
    if field in {"organization", "country"}:
        return kind == "self-signed"
    if field == "relay_port":
        return bool(so_far.get("relay_from"))
    if field == "https_certificate":
        return so_far.get("https_port") is not None and kind != "demo"
    return True
