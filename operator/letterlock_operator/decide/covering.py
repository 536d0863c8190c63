"""Whether a certificate's names and signer fit where it is used (C3, C9): warnings only. Called by `certificates`."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from cryptography import x509

from letterlock_api.conditions import Reason, Type
from letterlock_api.mailgateway import MailGateway
from letterlock_api.snapshot import member_hostname
from letterlock_operator.decide import chains, pems
from letterlock_operator.decide.authorities import Authorities
from letterlock_operator.decide.chains import Chain, Refused
from letterlock_operator.decide.verdicts import Verdict, listed, true


def names_not_covered(chain: Chain, gateway: MailGateway, members: Sequence[str]) -> Verdict | None:
    """Members whose host name no name of a cluster-level certificate covers."""
    template = gateway.spec.hostname
    if template is None:
        return None  # members go by their pod names then, which no certificate is made for
    names = chain.names or [name.lower() for name in [chain.common_name] if name]
    hosts = [member_hostname(template, member).lower() for member in members]
    left = [host for host in hosts if not any(covers(name, host) for name in names)]
    if not left:
        return None
    idle = [name for name in names if not any(covers(name, host) for host in hosts)]
    text = f"no name in it covers {listed(left)}, the name of a member" + (
        f"; {listed(idle)} covers no member" if idle else ""
    )
    return true(Type.NAMES_NOT_COVERED, Reason.NAMES_NOT_COVERED, f"{text}: add the names to dnsNames")


def covers(name: str, host: str) -> bool:
    """Whether a presented name stands for `host`; `*`: the left-most label, or a part of it (RFC 2818, 3.1)."""
    first, _, below = name.partition(".")
    label, _, rest = host.partition(".")
    if first.count("*") != 1:
        return name == host
    before, after = first.split("*")
    fits = len(label) > len(before) + len(after) or (first == "*" and bool(label))
    return fits and rest == below and label.startswith(before) and label.endswith(after)


def issuer_not_trusted(chain: Chain, lists: Mapping[str, Authorities]) -> Verdict | None:
    """A signer that no enabled CA list holds: our own members would not verify such a certificate of a peer."""
    if chain.self_signed:
        return None
    top = chain.intermediates[-1] if chain.intermediates else chain.leaf
    for one in lists.values():
        if one.trust is None:
            continue
        if _holds(one.content, chain):
            return None
    text = (
        f"no enabled CAList holds {top.issuer.rfc4514_string()}, which signed it: right if only others shall"
        " verify it, else add the CA to a CAList"
    )
    return true(Type.ISSUER_NOT_TRUSTED, Reason.ISSUER_NOT_TRUSTED, text)


def _holds(content: bytes, chain: Chain) -> bool:
    """Whether a list vouches for the chain: from any certificate in it on, for peers build their own way upwards."""
    known = _by_subject(content)
    for one in (chain.leaf, *chain.intermediates):
        if any(chains.link(one, above) for above in known.get(one.issuer.public_bytes(), ())):
            return True
        if one in known.get(one.subject.public_bytes(), ()):
            return True
    return False


@lru_cache(maxsize=64)
def _by_subject(content: bytes) -> Mapping[bytes, tuple[x509.Certificate, ...]]:
    found: dict[bytes, tuple[x509.Certificate, ...]] = {}
    try:
        several = pems.certificates(content, most=None)
    except Refused:
        return found
    for one in several:
        subject = one.subject.public_bytes()
        found[subject] = (*found.get(subject, ()), one)
    return found
