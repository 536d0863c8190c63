"""What `letterlock check` found, in words: a line per step, and a table of what each mode would do.

Called by `check_command` with the values of the gateway's `deliver.findings`. Only prints.
"""

from typing import Any, Final

from letterlock_cli.messages import only
from letterlock_cli.output import print_table
from letterlock_gateway.deliver import wording

type Values = dict[str, Any]

_WIDTH: Final = 12


def show(found: Values) -> None:
    """All of one check."""
    _policy(found)
    if found["problem"]:
        _line("next hops", found["problem"]["reason"], bad=True)
    for hop in found["nextHops"]:
        _hop(hop)
    for hop in found["nextHops"]:
        for seen in hop["connections"]:
            _connection(hop, seen)
    print()
    rows = [
        (
            ("* " if one["configured"] else "  ") + one["mode"],
            wording.what_happens(one),
            _plain(only(one.get("reason") or one.get("notVerified") or "", 100)) or "-",
        )
        for one in found["modes"]
    ]
    print_table(("  MODE", "WHAT DELIVERY WOULD DO", "REASON"), rows, "")
    verdict = found["verdict"]
    print(f"\n{found['domain']} under {found['mode']}: {wording.what_happens(verdict)}")
    if verdict.get("reason"):
        print(f"  {verdict['result']}: {_plain(only(verdict['reason'], 500))}")
    if verdict.get("meaning"):
        print(f"  {verdict['meaning']}")
    print()


def _policy(found: Values) -> None:
    policy = found["policy"]
    _line("domain", f"{found['domain']}, checked from {found['from']}")
    owner = (
        f"DestinationControl {policy['resource']} (entry {', '.join(policy['domains'][:3])})"
        if policy["resource"]
        else "the built-in default"
    )
    _line("policy", f"{found['mode']}, of {owner}")
    lists = policy["caLists"]
    counting = (
        "all global CA lists" if lists is None else f"CA lists {', '.join(lists) or 'none that is enabled'}"
    )
    _line("trust", f"{counting}: {policy['authorities']} authorities")
    wanted = ", ".join(policy["names"]) or "those of the mode"
    ciphers = f", ciphers {policy['ciphers']}" if policy["ciphers"] else ""
    ours = "ours is presented if asked for" if policy["clientCertificate"] else "none of ours"
    _line("terms", f"names {wanted}; {policy['minVersion']} or later{ciphers}; client certificate: {ours}")
    if "behind" in found:
        _line("", found["behind"], bad=True)


def _hop(hop: Values) -> None:
    kind = {"MX": "MX", "Route": "route", "Literal": "address"}[hop["by"]]
    more = (", TLS from the first byte" if hop["implicitTLS"] else "") + (
        ", signs in" if hop["signIn"] else ""
    )
    where = ", ".join(hop["addresses"]) or "not needed"
    if hop["problem"]:
        where = hop["problem"]["reason"]
    _line(
        "next hop",
        f"{kind} {hop['priority']} {hop['host']} port {hop['port']}{more}: {where}",
        bad=bool(hop["problem"]),
    )


def _connection(hop: Values, seen: Values) -> None:
    print(f"\n{hop['host']} address {seen['address']} port {seen['port']} ({seen['minVersion']} or later)")
    if seen["from"]:
        _line("connected", f"from {seen['from']}")
    for one in seen["replies"]:
        _line("greeting" if one["to"] == "connection" else one["to"], only(one["reply"], 160))
        if one["to"] == "STARTTLS":
            _tls(seen)
    if hop["implicitTLS"]:
        _tls(seen)
    for one in seen["met"]:
        if not one["fine"]:
            detail = only(one["detail"], 200)
            _line("", f"{one['said']}{': ' if detail else ''}{detail}", bad=True)


def _tls(seen: Values) -> None:
    tls = seen["tls"]
    if tls is None:
        return
    sni = tls["sni"] or "none (the next hop is an address)"
    _line("handshake", f"{tls['protocol']} {tls['cipher']}, SNI {sni}")
    for number, one in enumerate(tls["chain"]):
        if "issuer" not in one:
            _line("certificate", one["subject"], bad=True)
            continue
        until = f"until {one['notAfter'][:10]} ({one['days']} days)"
        _line(
            f"chain {number}",
            f"{one['subject']}, issued by {one['issuer']}, from {one['notBefore'][:10]} {until}",
        )
    for one in tls["checked"]:
        asked = ", ".join(f"{name['name']} ({wording.SOURCES[name['source']]})" for name in one["asked"])
        shown = ", ".join(one["presented"][:20]) or "no name"
        kind = "common name" if one["commonName"] else "names"
        _line("names", f"asked for {asked}; {kind} in the certificate: {shown}")
        said = f"{one['result']}: {one['detail']}" if one["detail"] else one["result"]
        _line("check", f"{said} [{', '.join(one['modes'])}]", bad=not one["verified"])


def _line(name: str, text: str, *, bad: bool = False) -> None:
    print(f"{'!' if bad else ' '} {name.ljust(_WIDTH)} {_plain(text)}")


def _plain(text: str) -> str:
    """`text` without control characters: names in certificates are the peer's, and a terminal obeys them."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
