"""What holds for one connection: a listener's mail-flow policy, compiled once per configuration. Pure."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from letterlock_api import queries
from letterlock_api.snapshot import ReceptionPolicy
from letterlock_gateway import values
from letterlock_gateway.directory import Settings
from letterlock_gateway.receive import replies
from letterlock_gateway.receive.access import AccessTable, Ranges
from letterlock_gateway.receive.paths import Path
from letterlock_gateway.receive.patterns import Patterns
from letterlock_gateway.receive.recipients import POSTMASTER, Recipients
from letterlock_gateway.receive.replies import Reply
from letterlock_gateway.running import RunningListener, RunningSet


@values.value
class Terms:
    """What a session needs to know."""

    policy: ReceptionPolicy
    hostname: str
    recipients: Recipients
    greeting: Reply
    hello: Reply
    hello_clear: Reply
    """The reply to EHLO before TLS."""
    hello_tls: Reply
    """The reply to EHLO under TLS: STARTTLS is not offered again."""
    senders_with_tls: Patterns
    max_hops: int = 25
    context: ssl.SSLContext | None = None
    query: str = ""
    """LDAP filter with placeholders that the directory is asked with; empty: it is not asked."""
    takes_mail: bool = True
    """False: the client only looks whether somebody is there (a load balancer's own connection)."""

    def query_for(self, asked: Path, address: str) -> str | None:
        """What to ask the directory about a recipient whose mail goes to `address`; None: nothing."""
        local, _, domain = address.rpartition("@")
        if not self.query or self.relay or POSTMASTER in (asked.local.lower(), local.lower()):
            return None
        return queries.filled(self.query, local, domain)

    @property
    def relay(self) -> bool:
        """Whether any recipient will do."""
        return self.policy.behavior == "Relay"

    @property
    def tls_required(self) -> bool:
        """Whether nothing is taken in clear text."""
        return self.policy.tls_mode == "Required"

    @property
    def tls_offered(self) -> bool:
        """Whether STARTTLS is offered."""
        return self.policy.tls_mode != "No"


# In capitals, which no policy's name has.
CHECK: Final = "CHECK"


@dataclass(frozen=True)
class ListenerTerms:
    """A listener, compiled."""

    name: str
    implicit_tls: bool
    max_concurrency: int
    access: AccessTable
    by_policy: Mapping[str, Terms]
    """And `CHECK`, for what load balancers ask on their own account."""
    proxies: Ranges
    running: RunningSet
    directory: Settings | None = None
    """Who is asked for recipients; None: nobody."""


def compile_listener(running: RunningSet, one: RunningListener) -> ListenerTerms:
    """Everything that connections of a listener need, worked out beforehand."""
    listener = one.listener
    hostname = running.hostname
    recipients = Recipients(
        listener.recipients,
        default_domain=listener.default_domain,
        domain_map=listener.domain_map,
        postmaster=running.snapshot.postmaster or f"postmaster@{listener.default_domain or hostname}",
    )
    by_policy = {
        policy.name: compile_terms(
            policy,
            hostname=hostname,
            recipients=recipients,
            max_hops=running.snapshot.max_hops,
            context=one.contexts.get(policy.name),
            query=listener.query.filter if listener.query is not None else "",
        )
        for policy in listener.policies
    }
    strangers = by_policy.get(listener.groups[-1].policy) if listener.groups else None
    if strangers is not None:
        by_policy[CHECK] = _for_checks(strangers)
    return ListenerTerms(
        name=listener.name,
        implicit_tls=listener.protocol == "SMTPS",
        max_concurrency=listener.max_concurrency,
        access=AccessTable(listener.groups),
        by_policy=by_policy,
        proxies=Ranges.of(listener.proxy_from),
        running=running,
        directory=running.directories[listener.query.directory] if listener.query is not None else None,
    )


def _for_checks(strangers: Terms) -> Terms:
    """Greeted and answered with the TLS of strangers, whatever becomes of these; but no mail is taken."""
    mode = "No" if strangers.policy.tls_mode == "No" else "Preferred"  # a check may say HELO
    policy = strangers.policy.model_copy(update={"name": CHECK, "behavior": "Accept", "tls_mode": mode})
    made = compile_terms(
        policy, hostname=strangers.hostname, recipients=strangers.recipients, context=strangers.context
    )
    return replace(made, takes_mail=False)


def compile_terms(
    policy: ReceptionPolicy,
    *,
    hostname: str,
    recipients: Recipients,
    max_hops: int = 25,
    context: ssl.SSLContext | None = None,
    query: str = "",
) -> Terms:
    """The terms of one policy."""
    keywords = ["PIPELINING", f"SIZE {policy.max_message_size}", "8BITMIME", "SMTPUTF8", "DSN"]
    last = "ENHANCEDSTATUSCODES"
    offer = ["STARTTLS"] if policy.tls_mode != "No" else []
    return Terms(
        policy=policy,
        hostname=hostname,
        recipients=recipients,
        greeting=(
            replies.refusal(hostname, policy.reject_text)
            if policy.behavior == "Reject"
            else replies.greeting(hostname, policy.banner)
        ),
        hello=replies.hello(hostname),
        hello_clear=replies.extended_hello(hostname, [*keywords, *offer, last]),
        hello_tls=replies.extended_hello(hostname, [*keywords, last]),
        senders_with_tls=Patterns([policy.required_for_senders]),
        max_hops=max_hops,
        context=context,
        query=query,
    )
