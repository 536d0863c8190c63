"""The manifests that the wizard writes: text with comments, as in the examples. Pure; called by `init_command`."""

import json
import re
from collections.abc import Sequence
from textwrap import dedent, indent
from typing import Final

from letterlock_cli.wizard.answers import Answers, split_port

CERTIFICATE: Final = "mx"
_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9._/@-]*")
# YAML reads these as something else than text.
_WORDS: Final = frozenset({"no", "yes", "on", "off", "true", "false", "null", "y", "n"})


def files(answers: Answers) -> dict[str, str]:
    """What each file holds, by name."""
    found = {
        "gateway.yaml": _gateway(answers),
        "certificates.yaml": _certificate(answers),
        "listeners.yaml": "---\n".join(filter(None, (_public(answers), _private(answers)))),
        "destinations.yaml": "---\n".join(
            filter(None, (_store(answers), _partners(answers), _others(answers)))
        ),
    }
    return {name: text for name, text in found.items() if text}


def _text(value: str) -> str:
    """A string in YAML, in quotes where it could be read as something else."""
    plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
    return value if plain else json.dumps(value, ensure_ascii=False)


def _list(values: Sequence[str]) -> str:
    return f"[{', '.join(map(_text, values))}]"


def _manifest(kind: str, name: str, comment: str, spec: str) -> str:
    lines = "".join(f"# {line}\n" for line in dedent(comment).strip().splitlines())
    head = f"apiVersion: letterlock.dev/v1alpha1\nkind: {kind}\nmetadata:\n  name: {name}\nspec:\n"
    return lines + head + indent(spec, "  ")


def _block(key: str, content: str, comment: str = "") -> str:
    note = f"# {comment}\n" if comment else ""
    return f"{note}{key}:\n{indent(content, '  ')}"


def _line(key: str, value: str | int | Sequence[str], comment: str = "") -> str:
    note = "".join(f"# {line}\n" for line in comment.splitlines())
    if isinstance(value, int):
        return f"{note}{key}: {value}\n"
    return f"{note}{key}: {_text(value) if isinstance(value, str) else _list(value)}\n"


def _gateway(answers: Answers) -> str:
    spec = _line("hostname", answers.hostname, "Its name in the greeting, in EHLO and in Received headers.")
    spec += _line(
        "postmaster",
        f"postmaster@{answers.domains[0]}",
        "Mail to the bare <postmaster>, which every mail server has to take (RFC 5321, 4.5.1).",
    )
    delivery = ""
    if answers.certificate != "demo":
        delivery += _block(
            "certificateRef",
            f"name: {CERTIFICATE}\n",
            "Presented to servers that ask for a client certificate.",
        )
    if answers.alert_recipients:
        delivery += _line("tlsAlert", "Enabled", "Tell the alert recipients when required TLS cannot be had.")
        recipients = "".join(f"- address: {_text(one)}\n" for one in answers.alert_recipients)
        spec += _block("alerts", _block("recipients", recipients))
    if delivery:
        spec += _block("delivery", delivery)
    if answers.https_port is not None:
        https = _line("port", answers.https_port)
        if answers.https_certificate == "same" and answers.certificate != "demo":
            https += _block("certificateRef", f"name: {CERTIFICATE}\n")
        else:
            https = "# Without certificateRef it is the demo certificate, which browsers warn of.\n" + https
        users = _block(
            "usersSecretRef",
            "name: letterlock-users\n",
            "Who may sign in: htpasswd -B -c htpasswd NAME, then\n"
            "# kubectl create secret generic letterlock-users --from-file=htpasswd\n"
            "# With `letterlock up`: that Secret as a manifest in this folder, the line under stringData.htpasswd.",
        )
        spec += _block("management", _block("https", https) + users, "The web page.")
    return _manifest(
        "MailGateway",
        "default",
        """
        The gateway as a whole. Everything else in this folder belongs to it, because it has the name that
        spec.gatewayRef means when it is left out: `default`.
        """,
        spec,
    )


def _certificate(answers: Answers) -> str:
    if answers.certificate == "demo":
        return ""
    if answers.certificate == "secret":
        spec = _block("secretRef", f"name: {_text(answers.certificate_secret or '')}\n")
        comment = "A certificate that somebody else makes, such as cert-manager: its renewals are followed."
        return _manifest("Certificate", CERTIFICATE, comment, spec)
    each = "{" in answers.hostname
    subject = _line("commonName", answers.hostname)
    subject += _line("organization", answers.organization) if answers.organization else ""
    subject += _line("country", answers.country) if answers.country else ""
    spec = (
        _line("level", "Machine", "One certificate and key for each member, under its own name.")
        if each
        else _line(
            "level", "Cluster", "One certificate and key for all members. That takes explicit dnsNames."
        )
    )
    spec += _block("subject", subject) + ("" if each else _line("dnsNames", [answers.hostname]))
    spec += _block("privateKey", "algorithm: ECDSA\n")
    return _manifest(
        "Certificate",
        CERTIFICATE,
        f"""
        What the gateway shows. Key and self-signed certificate are made, kept in a Secret, and renewed in time.
        To have a CA sign it: letterlock certificate csr {CERTIFICATE}, then certificate upload {CERTIFICATE}.
        """,
        spec,
    )


def _served(answers: Answers) -> str:
    if answers.certificate == "demo":
        return "# No certificateRefs: the demo certificate is served, which nobody can verify.\n"
    return _block("certificateRefs", f"- name: {CERTIFICATE}\n")


def _public(answers: Answers) -> str:
    mode = _line(
        "mode",
        answers.listener_tls,
        "No: STARTTLS is not offered. Preferred: offered. Required: nothing is taken before it,\n"
        "which a server that an MX record names must not ask of everybody (RFC 3207, section 4).",
    )
    spec = _line("type", "Public") + _line("port", answers.port) + _served(answers)
    spec += _block("defaultPolicy", _block("tls", mode))
    spec += _block("recipients", f"- match: {_list(answers.domains)}\n  action: Accept\n")
    return _manifest(
        "Listener", "public", "From the Internet: mail for our domains, and for no one else.", spec
    )


def _private(answers: Answers) -> str:
    if not answers.relay_from:
        return ""
    spec = _line("type", "Private") + _line("port", answers.relay_port) + _served(answers)
    spec += _block("defaultPolicy", _block("tls", _line("mode", "Required")))
    policies = "- name: relayed\n  behavior: Relay\n- name: refused\n  behavior: Reject\n"
    groups = f"- name: our-networks\n  senders: {_list(answers.relay_from)}\n  policy: relayed\n"
    groups += "- name: everyone-else\n  senders: [ALL]\n  policy: refused\n"
    spec += _block("mailFlowPolicies", policies)
    spec += _block("senderGroups", groups, "In order; the first group that matches the client wins.")
    comment = "From our own networks: mail for anyone, only from the listed senders, only over TLS."
    return _manifest("Listener", "private", comment, spec)


def _store(answers: Answers) -> str:
    host, port = split_port(answers.next_hop)
    tls = _line("mode", answers.store_tls)
    if answers.store_tls == "RequiredVerify" and _is_name(host):
        tls += _line("names", [host], "The store's certificate has its own name, not our domains'.")
    route = f"- host: {_text(host)}\n  port: {port}\n"
    spec = _line("domains", answers.domains) + _block("tls", tls) + _block("routes", route)
    comment = """
    Our own domains: to the mail store. Is its certificate by a CA of your own, or self-signed? Then list that:
    letterlock calist import NAME FILE
    """
    return _manifest("DestinationControl", "mail-store", comment, spec)


def _is_name(host: str) -> bool:
    return "." in host and not host.replace(".", "").isdecimal()


def _partners(answers: Answers) -> str:
    domains = [one for one in answers.verified_domains if one not in answers.domains]
    if not domains:
        return ""
    spec = _line("domains", domains) + _block("tls", _line("mode", "RequiredVerify"))
    comment = """
    Partners: over TLS with a certificate for the recipient's domain, or not at all. Where a provider hosts
    their mail: RequiredVerifyHostedDomains.
    """
    return _manifest("DestinationControl", "partners", comment, spec)


def _others(answers: Answers) -> str:
    spec = _line("domains", ["*"]) + _block("tls", _line("mode", answers.internet_tls))
    return _manifest("DestinationControl", "everybody-else", "Everybody else, by MX records.", spec)
