"""Manifests that must be refused, each with what the refusal has to say. One table, walked twice.

By `tests/apiserver/test_crds.py` against a real API server, and by `tests/pure/test_rules.py` against the
rules in Python, so that a cluster and a folder of manifests refuse the same.
"""

from dataclasses import dataclass
from typing import Any, Final

from tests.harness.manifests import Manifest, ca_list, certificate, destination, gateway, listener, manifest

PEM: Final = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


@dataclass(frozen=True)
class Wrong:
    """A manifest that must be refused."""

    sentence: str
    """What is wrong with it: the id of the test."""
    manifest: Manifest
    says: tuple[str, ...]
    """Parts of the refusal, the API server's as well as ours."""


def policy(name: str = "p", **fields: Any) -> dict[str, Any]:
    """A mail-flow policy."""
    return {"name": name, **fields}


def group(*senders: str, policy: str = "p") -> dict[str, Any]:
    """A sender group."""
    return {"name": "group", "senders": list(senders), "policy": policy}


_LDAP: Final[dict[str, Any]] = {"name": "ad", "servers": ["ldap.example.com"], "baseDN": "dc=example"}
_PASSWORD: Final = {"name": "ldap", "key": "password"}
_KEY: Final = {"name": "imported", "key": "file.p12"}
_SOURCE: Final = {"configMapKeyRef": {"name": "pem", "key": "ca.pem"}}

CERTIFICATES: Final = (
    Wrong(
        "a certificate has two sources",
        certificate(secretRef={"name": "a"}, signerName="example.com/mail"),
        ("pkcs12, secretRef and signerName exclude one another",),
    ),
    Wrong(
        "a signed certificate is given for a key that is not made here",
        certificate(secretRef={"name": "a"}, signed=[{"certificate": PEM}]),
        ("signed is for requests of keys made here",),
    ),
    Wrong(
        "the country is written out",
        certificate(subject={"commonName": "mx.example.com", "country": "Germany"}),
        ("spec.subject.country",),
    ),
    Wrong(
        "the country is written in small letters",
        certificate(subject={"commonName": "mx.example.com", "country": "de"}),
        ("spec.subject.country", "two-letter ISO 3166 code in capitals"),
    ),
    Wrong(
        "an RSA key has the size of an ECDSA key",
        certificate(subject={"commonName": "mx.example.com"}, privateKey={"size": 256}),
        ("size does not go with algorithm",),
    ),
    Wrong(
        "an ECDSA key has the size of an RSA key",
        certificate(
            subject={"commonName": "mx.example.com"}, privateKey={"algorithm": "ECDSA", "size": 2048}
        ),
        ("size does not go with algorithm",),
    ),
    Wrong(
        "a key size is one that nobody offers",
        certificate(subject={"commonName": "mx.example.com"}, privateKey={"size": 2000}),
        ("spec.privateKey.size",),
    ),
    Wrong(
        "one certificate for all members names one host only",
        certificate(level="Cluster", subject={"commonName": "mx.example.com"}),
        ("NotClusterCapable", "needs dnsNames or a wildcard"),
    ),
    Wrong(
        "a placeholder stands in the subject of a certificate for all members",
        certificate(level="Cluster", subject={"commonName": "{member}.example.com"}, dnsNames=["a.example"]),
        ("{member} and {ordinal}", "set level: Machine"),
    ),
    Wrong(
        "a placeholder stands in a name of a certificate for all members",
        certificate(level="Cluster", dnsNames=["mx{ordinal}.example.com"]),
        ("{member} and {ordinal}", "set level: Machine"),
    ),
    Wrong(
        "a placeholder stands in an imported Secret's name without a level",
        certificate(secretRef={"name": "tls-{member}"}),
        ("{member} and {ordinal}", "set level: Machine"),
    ),
    Wrong(
        "a placeholder is none that exists",
        certificate(subject={"commonName": "{host}.example.com"}),
        ("spec.subject.commonName", "{member} and {ordinal} may stand in it"),
    ),
    Wrong(
        "a member is named for a certificate for all members",
        certificate(level="Cluster", dnsNames=["a.example"], signed=[{"member": "m-0", "certificate": PEM}]),
        ("leave out signed[].member",),
    ),
    Wrong(
        "a member's certificate is given twice",
        certificate(
            level="Machine",
            signed=[{"member": "m-0", "certificate": PEM}, {"member": "m-0", "certificate": PEM}],
        ),
        ("spec.signed[1]", "Duplicate value"),
    ),
    Wrong(
        "a signed certificate is inline and elsewhere",
        certificate(level="Machine", signed=[{"certificate": PEM, "certificateFrom": _SOURCE}]),
        ("certificate or certificateFrom",),
    ),
    Wrong(
        "intermediates are inline and elsewhere",
        certificate(
            level="Machine",
            signed=[{"certificate": PEM, "intermediates": PEM, "intermediatesFrom": _SOURCE}],
        ),
        ("intermediates or intermediatesFrom",),
    ),
    Wrong(
        "PEM text comes from nowhere",
        certificate(level="Machine", signed=[{"certificateFrom": {}}]),
        ("spec.signed[0].certificateFrom", "exactly one source"),
    ),
    Wrong(
        "renewal would begin before the certificate does",
        certificate(subject={"commonName": "mx.example.com"}, days=30, renewal={"beforeDays": 30}),
        ("renewal.beforeDays must be less than days",),
    ),
    Wrong(
        "a certificate is valid for no day",
        certificate(subject={"commonName": "mx.example.com"}, days=0),
        ("spec.days",),
    ),
    Wrong(
        "a subject alternative name is an address with a port",
        certificate(dnsNames=["mx.example.com:25"]),
        ("spec.dnsNames[0]", "write a DNS name"),
    ),
    Wrong(
        "a private key stands in a resource",
        certificate(level="Machine", signed=[{"certificate": "-----BEGIN RSA PRIVATE KEY-----"}]),
        ("spec.signed[0].certificate", "those belong into Secrets"),
    ),
    Wrong(
        "a fingerprint has colons",
        certificate(dnsNames=["a.example"], renewal={"mode": "Prepare", "activate": "AB:CD"}),
        ("spec.renewal.activate", "64 lower-case hexadecimal digits"),
    ),
    Wrong(
        "a signer has no domain",
        certificate(dnsNames=["a.example"], signerName="mail"),
        ("spec.signerName", "write a signer name"),
    ),
)

LISTENERS: Final = (
    Wrong(
        "a listener's name leaves no room for the name of its Service",
        listener(name="a" * 53),
        ("at most 52", "Listener"),
    ),
    Wrong("a listener's name has a dot", listener(name="a.b"), ("at most 52", "no '.'")),
    Wrong("a port is zero", listener(port=0), ("spec.port",)),
    Wrong("a port is too high", listener(port=65536), ("spec.port",)),
    Wrong("a port is text", listener(port="25"), ("spec.port",)),
    Wrong(
        "a listener's address is a host name",
        listener(address="mx.example.com"),
        ("spec.address", "write an IPv4 or IPv6 address"),
    ),
    Wrong(
        "a listener's address has a number that is too high",
        listener(address="192.0.2.256"),
        ("spec.address", "write an IPv4 or IPv6 address"),
    ),
    Wrong(
        "everything below a domain is written with an asterisk",
        listener(recipients=[{"match": ["example.com", "*.example.com"]}]),
        ("spec.recipients[0].match[1]",),
    ),
    Wrong(
        "a recipient's domain is an address of the web",
        listener(recipients=[{"match": ["http://example.com"]}]),
        ("spec.recipients[0].match[0]",),
    ),
    Wrong(
        "a sender that needs TLS is anybody below a domain",
        listener(defaultPolicy={"tls": {"requiredForSenders": ["ceo@*.example.com"]}}),
        ("spec.defaultPolicy.tls.requiredForSenders[0]",),
    ),
    Wrong("a field does not exist", listener(prot=25), ("spec.prot", "unknown field")),
    Wrong("a listener has a type that does not exist", listener(type="Internal"), ("spec.type", "Public")),
    Wrong(
        "a sender group names a policy that is not there",
        listener(senderGroups=[group("ALL", policy="missing")], mailFlowPolicies=[policy()]),
        ("UnknownPolicy",),
    ),
    Wrong(
        "two policies have one name",
        listener(mailFlowPolicies=[policy(), policy()]),
        ("spec.mailFlowPolicies[1]", "Duplicate value"),
    ),
    Wrong(
        "a policy asks for client certificates without offering TLS",
        listener(mailFlowPolicies=[policy(tls={"mode": "No", "clientCertificate": "Optional"})]),
        ("a policy asks for client certificates but does not offer TLS",),
    ),
    Wrong(
        "a policy asks for client certificates where the default policy offers no TLS",
        listener(mailFlowPolicies=[policy(tls={"clientCertificate": "Required"})]),
        ("a policy asks for client certificates but does not offer TLS",),
    ),
    Wrong(
        "the default policy asks for client certificates without offering TLS",
        listener(defaultPolicy={"tls": {"clientCertificate": "Required"}}),
        ("defaultPolicy asks for client certificates",),
    ),
    Wrong(
        "a policy lists client certificates and asks for none",
        listener(
            mailFlowPolicies=[
                policy(tls={"mode": "Required", "clientCertificates": {"names": ["a.example"]}})
            ]
        ),
        ("which client certificates count but asks for none",),
    ),
    Wrong(
        "TLS is demanded of a sender and not offered",
        listener(mailFlowPolicies=[policy(tls={"requiredForSenders": ["bank.example"]})]),
        ("requiredForSenders", "does not offer it"),
    ),
    Wrong(
        "a public listener relays for everybody",
        listener(mailFlowPolicies=[policy(behavior="Relay")], senderGroups=[group("ALL")]),
        ("OpenRelay",),
    ),
    Wrong(
        "a public listener relays for everybody by the default policy",
        listener(
            defaultPolicy={"behavior": "Relay"}, mailFlowPolicies=[policy()], senderGroups=[group("ALL")]
        ),
        ("OpenRelay",),
    ),
    Wrong(
        "a public listener relays for the whole address space",
        listener(
            mailFlowPolicies=[policy(behavior="Relay")], senderGroups=[group("10.0.0.0/8", "0.0.0.0/0")]
        ),
        ("OpenRelay",),
    ),
    Wrong(
        "a public listener relays for every client certificate there is",
        listener(
            mailFlowPolicies=[
                policy(behavior="Relay", tls={"mode": "Required", "clientCertificate": "Required"})
            ],
            senderGroups=[group("ALL")],
        ),
        ("OpenRelay",),
    ),
    Wrong(
        "a public listener relays for everybody who shows no client certificate",
        listener(
            mailFlowPolicies=[
                policy(
                    behavior="Relay",
                    tls={
                        "mode": "Required",
                        "clientCertificate": "Optional",
                        "clientCertificates": {"names": ["a.example"]},
                    },
                )
            ],
            senderGroups=[group("ALL")],
        ),
        ("OpenRelay",),
    ),
    Wrong(
        "a private listener's clients would all look like nodes",
        listener(type="Private", service={"type": "LoadBalancer", "externalTrafficPolicy": "Cluster"}),
        ("externalTrafficPolicy Cluster hides the clients' addresses",),
    ),
    Wrong(
        "a message size has a unit that does not exist",
        listener(defaultPolicy={"maxMessageSize": "10MB"}),
        ("spec.defaultPolicy.maxMessageSize", "10Mi"),
    ),
    Wrong(
        "a message size is zero",
        listener(defaultPolicy={"maxMessageSize": 0}),
        ("spec.defaultPolicy.maxMessageSize",),
    ),
    Wrong(
        "a banner has two lines",
        listener(defaultPolicy={"banner": "hello\r\n250 ok"}),
        ("spec.defaultPolicy.banner", "write one line of text"),
    ),
    Wrong(
        "a load balancer is a host name",
        listener(proxyProtocol={"from": ["lb.example.com"]}),
        ("spec.proxyProtocol.from[0]", "write an address or a CIDR"),
    ),
    Wrong(
        "a recipient domain is rewritten twice",
        listener(
            domainMap=[{"from": "a.example", "to": "b.example"}, {"from": "a.example", "to": "c.example"}]
        ),
        ("domainMap has two entries for one domain",),
    ),
    Wrong(
        "a sender is a wildcard",
        listener(mailFlowPolicies=[policy()], senderGroups=[group("*.example.com")]),
        ("spec.senderGroups[0].senders[0]",),
    ),
    Wrong(
        "a TLS version is one that nobody should use",
        listener(defaultPolicy={"tls": {"mode": "Preferred", "minVersion": "SSLv3"}}),
        ("spec.defaultPolicy.tls.minVersion",),
    ),
)

DESTINATIONS: Final = (
    Wrong("a destination has no domain", manifest("DestinationControl", {}), ("spec.domains", "equired")),
    Wrong("a destination's list of domains is empty", destination(), ("spec.domains", "at least 1 item")),
    Wrong(
        "the default entry shares its resource",
        destination("*", "a.example", tls={"mode": "Preferred"}),
        ("'*' is the default entry and stands alone",),
    ),
    Wrong(
        "the default entry says Default",
        destination("*"),
        ("the entry '*' needs another tls.mode",),
    ),
    Wrong(
        "the default entry verifies hosted domains",
        destination("*", tls={"mode": "RequiredVerifyHostedDomains"}),
        ("the entry '*' needs another tls.mode",),
    ),
    Wrong(
        "a domain is written as a wildcard",
        destination("*.example.com"),
        ("spec.domains[0]", ".example.com for everything below it"),
    ),
    Wrong(
        "a domain is a mail address",
        destination("user@example.com"),
        ("spec.domains[0]", "write a domain"),
    ),
    Wrong(
        "a domain stands twice in the list",
        destination("a.example", "a.example"),
        ("spec.domains[1]", "Duplicate value"),
    ),
    Wrong(
        "routing by routes has none",
        destination("a.example", routing="Routes"),
        ("routing Routes needs routes",),
    ),
    Wrong(
        "routing by MX has routes",
        destination("a.example", routing="MX", routes=[{"host": "mx.example"}]),
        ("routes count only with routing Routes",),
    ),
    Wrong(
        "a password goes over TLS that is not verified",
        destination(
            "a.example",
            tls={"mode": "Required"},
            routes=[{"host": "mx.example", "auth": {"secretRef": {"name": "relay"}}}],
        ),
        ("a password goes only over verified TLS",),
    ),
    Wrong(
        "a route begins with TLS and the mode forbids it",
        destination("a.example", tls={"mode": "No"}, routes=[{"host": "mx.example", "implicitTLS": True}]),
        ("tls.mode No and implicitTLS contradict each other",),
    ),
    Wrong(
        "a route's host holds its port",
        destination("a.example", routes=[{"host": "mx.example:25"}]),
        ("spec.routes[0].host", "the port goes into its own field"),
    ),
    Wrong(
        "a next hop stands twice in the list",
        destination("a.example", routes=[{"host": "mx.example"}, {"host": "mx.example", "port": 25}]),
        ("spec.routes[1]", "Duplicate value"),
    ),
    Wrong(
        "a TLS mode is one that does not exist",
        destination("a.example", tls={"mode": "Verify"}),
        ("spec.tls.mode", "RequiredVerify"),
    ),
    Wrong(
        "a period is no time at all",
        destination("a.example", limits={"recipients": {"count": 10, "period": "0s"}}),
        ("the period must be longer than nothing",),
    ),
    Wrong(
        "a cipher list holds a command",
        destination("a.example", tls={"mode": "Required", "ciphers": "HIGH;rm"}),
        ("spec.tls.ciphers", "OpenSSL cipher list"),
    ),
)

CA_LISTS: Final = (
    Wrong("a CA list has no specification", manifest("CAList"), ("spec", "equired")),
    Wrong("a CA list holds nothing", ca_list(), ("a custom list needs CA certificates",)),
    Wrong(
        "a CA list is inline and elsewhere",
        ca_list(certificates=PEM, certificatesFrom=_SOURCE),
        ("certificates and certificatesFrom exclude each other",),
    ),
    Wrong(
        "a CA list comes from two places",
        ca_list(certificatesFrom={**_SOURCE, "secretKeyRef": {"name": "a", "key": "b"}}),
        ("spec.certificatesFrom", "exactly one source"),
    ),
    Wrong(
        "a list of one's own calls itself the system list",
        ca_list(type="System"),
        ("type System is for the list named system alone",),
    ),
    Wrong(
        "a list of one's own takes the system list's name",
        ca_list(name="system", certificates=PEM),
        ("type System is for the list named system alone",),
    ),
    Wrong(
        "the system list is given certificates",
        ca_list(name="system", type="System", certificates=PEM),
        ("the system list's certificates come with the product",),
    ),
    Wrong("a CA list is no PEM", ca_list(certificates="hello"), ("spec.certificates", "write PEM")),
    Wrong(
        "a CA list holds a private key",
        ca_list(certificates=PEM + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
        ("spec.certificates", "without private keys"),
    ),
    Wrong("a CA list counts somewhere", ca_list(certificates=PEM, scope="Local"), ("spec.scope",)),
    Wrong(
        "a CA list's export has no file name",
        ca_list(certificates=PEM, export={"configMapName": "cas"}),
        ("spec.export.fileName", "equired"),
    ),
    Wrong(
        "a CA list's export has a hidden file",
        ca_list(certificates=PEM, export={"configMapName": "cas", "fileName": "..data"}),
        ("spec", "export.fileName begins with a dot"),
    ),
    Wrong(
        "a CA list's export goes into a folder",
        ca_list(certificates=PEM, export={"configMapName": "cas", "fileName": "a/b.txt"}),
        ("spec.export.fileName", "write letters"),
    ),
)

GATEWAYS: Final = (
    Wrong("a gateway's name has a dot", gateway(name="mail.example"), ("at most 52", "MailGateway")),
    Wrong("a gateway has a negative number of members", gateway(replicas=-1), ("spec.replicas",)),
    Wrong("a host name has a space", gateway(hostname="mx example"), ("spec.hostname", "write a host name")),
    Wrong(
        "a host name has a placeholder that does not exist",
        gateway(hostname="mx{number}.example.com"),
        ("spec.hostname", "{member} and {ordinal} may stand in it"),
    ),
    Wrong(
        "a duration has no unit",
        gateway(delivery={"retry": {"initial": "60"}}),
        ("spec.delivery.retry.initial", "write a number with its unit"),
    ),
    Wrong(
        "the first retry comes after the longest wait",
        gateway(delivery={"retry": {"initial": "2h", "max": "1h"}}),
        ("spec.delivery.retry", "no longer than max and giveUpAfter"),
    ),
    Wrong(
        "a retry comes at once and for ever",
        gateway(delivery={"retry": {"initial": "0s"}}),
        ("spec.delivery.retry", "longer than nothing"),
    ),
    Wrong(
        "a bind password goes in clear text",
        gateway(ldap=[{**_LDAP, "tls": "None", "bindDN": "cn=mail", "bindPasswordSecretKeyRef": _PASSWORD}]),
        ("spec.ldap[0]", "a bind password needs TLS"),
    ),
    Wrong(
        "a bind password has nobody who binds",
        gateway(ldap=[{**_LDAP, "bindPasswordSecretKeyRef": _PASSWORD}]),
        ("spec.ldap[0]", "set bindDN"),
    ),
    Wrong(
        "a client certificate is shown to a directory without TLS",
        gateway(ldap=[{**_LDAP, "tls": "None", "certificateRef": {"name": "a"}}]),
        ("spec.ldap[0]", "a client certificate needs TLS"),
    ),
    Wrong("two directories have one name", gateway(ldap=[_LDAP, _LDAP]), ("spec.ldap[1]", "Duplicate value")),
    Wrong(
        "management is bound to a host name",
        gateway(management={"https": {"address": "localhost"}}),
        ("spec.management.https.address", "write an IPv4 or IPv6 address"),
    ),
    Wrong(
        "everybody whom a CA signed for would sign in to management",
        gateway(management={"clientCertificates": {"caListRefs": [{"name": "people"}]}}),
        ("spec.management.clientCertificates", "set names or fingerprints"),
    ),
    Wrong(
        "a resolver is a URL",
        gateway(delivery={"resolvers": ["https://dns.example"]}),
        ("spec.delivery.resolvers[0]", "write host:port"),
    ),
    Wrong(
        "a pod template brings a container",
        gateway(podTemplate={"spec": {"containers": [{"name": "a"}]}}),
        ("spec.podTemplate.spec.containers", "unknown field"),
    ),
    Wrong(
        "a resource limit has no unit that exists",
        gateway(resources={"limits": {"memory": "1GB"}}),
        ("spec.resources.limits", "write a quantity"),
    ),
    Wrong(
        "an alert recipient is no mail address",
        gateway(alerts={"recipients": [{"address": "postmaster"}]}),
        ("spec.alerts.recipients[0].address", "write a mail address"),
    ),
)

WRONG: Final = (*CERTIFICATES, *LISTENERS, *DESTINATIONS, *CA_LISTS, *GATEWAYS)

RIGHT: Final[dict[str, Manifest]] = {
    "a gateway needs nothing said": manifest("MailGateway"),
    "a gateway with everything": gateway(
        replicas=2,
        hostname="mx{ordinal}.example.com",
        postmaster="postmaster@example.com",
        delivery={
            "certificateRef": {"name": "out"},
            "tlsAlert": "Enabled",
            "retry": {"initial": "1m30s", "max": "1.5h", "giveUpAfter": "120h", "attempts": 7},
            "bounce": {"from": "bounce@example.com", "delayNotice": "4h", "maxSize": "50Ki"},
            "resolvers": ["192.0.2.53:53", "[2001:db8::53]:53", "dns.example.com"],
            "addressFamily": "PreferIPv6",
        },
        alerts={"recipients": [{"address": "ops@example.com", "severities": ["Warning"]}]},
        ldap=[{**_LDAP, "bindDN": "cn=mail", "bindPasswordSecretKeyRef": _PASSWORD}],
        management={"https": {"port": 443, "address": "::1", "certificateRef": {"name": "web"}}},
        storage={"size": "10Gi"},
        resources={"requests": {"cpu": 1, "memory": "512Mi"}, "limits": {"cpu": "1500m"}},
        podTemplate={
            "metadata": {"annotations": {"example.com/team": "mail"}},
            "spec": {"nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "mail", "operator": "Exists"}]},
        },
    ),
    "a listener needs nothing said": manifest("Listener"),
    "a certificate needs nothing said": manifest("Certificate"),
    "a certificate per member": certificate(
        subject={"commonName": "{member}.example.com", "organization": "Example Ltd", "country": "DE"},
        privateKey={"algorithm": "ECDSA", "size": 384},
    ),
    "a weak key is taken, and flagged later": certificate(
        subject={"commonName": "mx.example.com"}, privateKey={"size": 1024}
    ),
    "a wildcard for all members": certificate(level="Cluster", subject={"commonName": "*.example.com"}),
    "names for all members": certificate(level="Cluster", dnsNames=["mx1.example.com", "*.example.com"]),
    "a Secret per member": certificate(level="Machine", secretRef={"name": "tls-{member}"}),
    "a Secret for all members": certificate(secretRef={"name": "tls"}),
    "a PKCS#12 file per member": certificate(
        level="Machine",
        pkcs12={"secretKeyRef": {"name": "import", "key": "{member}.p12"}, "passphraseSecretKeyRef": _KEY},
        export={
            "pkcs12": {
                "secretName": "export-{ordinal}",
                "fileName": "{member}.p12",
                "passphraseSecretKeyRef": _KEY,
            }
        },
    ),
    "signed certificates by member": certificate(
        level="Machine",
        signed=[
            {"member": "m-0", "certificate": PEM, "intermediatesFrom": _SOURCE},
            {"member": "m-1", "certificateFrom": _SOURCE},
        ],
    ),
    "a public listener that takes mail for its domains": listener(
        address="0.0.0.0",
        certificateRefs=[{"name": "mx"}, {"name": "old"}],
        defaultDomain="example.com",
        domainMap=[{"from": "old.example", "to": "example.com"}],
        defaultPolicy={"tls": {"mode": "Preferred"}, "maxMessageSize": "10Mi", "banner": "Welcome."},
        mailFlowPolicies=[
            policy("accept"),
            policy("big", maxMessageSize=52428800, tls={"clientCertificate": "Optional"}),
            policy("clear", tls={"mode": "No"}),
            policy("refuse", behavior="Reject", rejectText="Not you."),
        ],
        senderGroups=[
            group("192.0.2.1", "10.1.", "10.0.0.1-10.0.0.9", "2001:db8::/32", policy="clear"),
            group(".partner.example", "mx.example.org", policy="big"),
            group("ALL", policy="accept"),
        ],
        recipients=[
            {"match": ["abuse@", "user@example.com", ".example.com", "example.com", "bücher.example"]},
            {"match": ["o'brien+tag@example.com", "postmaster@[192.0.2.1]", "[IPv6:2001:db8::1]"]},
            {"match": ["gone@example.com"], "action": "Reject", "text": "Moved."},
        ],
        proxyProtocol={"from": ["10.0.0.0/8", "2001:db8::1"]},
    ),
    "a public listener that relays for known client certificates": listener(
        mailFlowPolicies=[
            policy(
                behavior="Relay",
                tls={
                    "mode": "Required",
                    "clientCertificate": "Required",
                    "clientCertificates": {"fingerprints": ["ab" * 32]},
                },
            )
        ],
        senderGroups=[group("ALL")],
    ),
    "the default policy's client certificates do for a policy that relays": listener(
        protocol="SMTPS",
        port=465,
        defaultPolicy={
            "behavior": "Relay",
            "tls": {
                "mode": "Required",
                "clientCertificate": "Required",
                "clientCertificates": {"caListRefs": [{"name": "partners"}]},
            },
        },
        mailFlowPolicies=[policy()],
        senderGroups=[group("ALL")],
    ),
    "a policy without TLS beside a default that asks for client certificates": listener(
        defaultPolicy={"tls": {"mode": "Required", "clientCertificate": "Required"}},
        mailFlowPolicies=[policy(tls={"mode": "No"})],
    ),
    "a private listener that relays for everybody": listener(
        type="Private",
        mailFlowPolicies=[policy(behavior="Relay")],
        senderGroups=[group("ALL")],
        service={"type": "LoadBalancer"},
    ),
    "a private listener behind a load balancer that tells": listener(
        type="Private",
        service={"type": "LoadBalancer", "externalTrafficPolicy": "Cluster"},
        proxyProtocol={"from": ["10.0.0.0/8"]},
    ),
    "the default entry": destination("*", tls={"mode": "Preferred"}),
    "domains and what is below them": destination("example.com", ".example.com", "münchen.example"),
    "routes with a password over verified TLS": destination(
        "a.example",
        tls={"mode": "RequiredVerify", "names": ["mx.example"], "caListRefs": [{"name": "partners"}]},
        routing="Routes",
        routes=[
            {"host": "mx.example", "auth": {"secretRef": {"name": "relay"}}},
            {"host": "mx.example", "port": 465, "implicitTLS": True, "priority": 10},
            {"host": "2001:db8::25"},
            {"host": "192.0.2.25", "priority": 20},
        ],
        limits={"connections": 10, "recipients": {"count": 100, "period": "60m"}},
    ),
    "a CA list": ca_list(certificates=PEM, scope="Referenced"),
    "a CA list with an export": ca_list(
        certificates=PEM, export={"configMapName": "cas", "fileName": "cas.txt"}
    ),
    "a CA list from a ConfigMap": ca_list(certificatesFrom=_SOURCE),
    "the system list, switched off": ca_list(name="system", type="System", enabled=False),
}
