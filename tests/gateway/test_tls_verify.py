"""Chains: what is trusted, as OpenSSL does it, and what is said of the rest."""

import ssl
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from letterlock_gateway.tls import verify
from letterlock_gateway.tls.remembered import Remembered
from letterlock_gateway.tls.trust import TrustStore
from tests.harness.issued import NOW, Issued


def judged(trusted: Sequence[Issued], *chain: Issued, now: datetime = NOW) -> str:
    """`Trusted`, or the reason."""
    trust = TrustStore.from_pem(*(one.pem for one in trusted))
    verdict = verify.verify_chain([one.der for one in chain], trust, now)
    assert verdict.trusted == (verdict.reason is None)
    assert verdict.detail
    return verdict.reason or "Trusted"


@pytest.fixture(scope="module")
def root() -> Issued:
    return Issued.make("root", ca=True, days=(-1000, 1000))


def test_private_pki_without_san_aki_and_key_usage_is_trusted(root: Issued) -> None:
    assert judged([root], Issued.make("mail.example", root)) == "Trusted"


def test_an_ed25519_root_is_trusted() -> None:
    made = Issued.make("root", ca=True, key=ed25519.Ed25519PrivateKey.generate())
    assert judged([made], Issued.make("mail.example", made)) == "Trusted"


@pytest.mark.parametrize("ca", [True, False, None], ids=["CA:TRUE", "CA:FALSE", "no basic constraints"])
def test_a_self_signed_leaf_is_trusted_for_itself_where_it_is_listed(ca: bool | None) -> None:
    leaf = Issued.make("mail.example", ca=ca)
    assert judged([leaf], leaf) == "Trusted"
    assert judged([], leaf) == "NotTrusted"
    assert judged([leaf], Issued.make("mail.example", ca=ca)) == "NotTrusted"


def test_a_pinned_end_entity_vouches_for_nobody_else() -> None:
    leaf = Issued.make("mail.example", ca=False)
    assert judged([leaf], Issued.make("other.example", leaf), leaf) == "NotTrusted"


def test_presented_intermediates_are_used_and_missing_ones_missed(root: Issued) -> None:
    between = Issued.make("between", root, ca=True)
    leaf = Issued.make("mail.example", between)
    assert judged([root], leaf, between) == "Trusted"
    assert judged([root], leaf, between, root) == "Trusted"
    assert judged([root], leaf) == "NotTrusted"


def test_intermediates_that_are_no_ca_make_no_chain(root: Issued) -> None:
    between = Issued.make("between", root, ca=False)
    assert judged([root], Issued.make("mail.example", between), between) == "NotTrusted"


def test_a_presented_root_is_not_trusted_for_being_presented(root: Issued) -> None:
    other = Issued.make("other root", ca=True)
    assert judged([root], Issued.make("mail.example", other), other) == "NotTrusted"


def test_a_root_of_the_same_name_is_another_root(root: Issued) -> None:
    twin = Issued.make("root", ca=True)
    assert judged([root], Issued.make("mail.example", twin), twin) == "NotTrusted"


@pytest.mark.parametrize("days", [(-10, -1), (1, 10)], ids=["expired", "not yet valid"])
def test_dates_are_checked_in_the_whole_chain(root: Issued, days: tuple[int, int]) -> None:
    assert judged([root], Issued.make("mail.example", root, days=days)) == "Expired"
    between = Issued.make("between", root, ca=True, days=days)
    assert judged([root], Issued.make("mail.example", between), between) == "Expired"
    old_root = Issued.make("old", ca=True, days=days)
    assert judged([old_root], Issued.make("mail.example", old_root)) == "Expired"
    pinned = Issued.make("mail.example", ca=False, days=days)
    assert judged([pinned], pinned) == "Expired"


def test_one_store_verifies_at_many_times(root: Issued) -> None:
    """OpenSSL keeps the first time of a store for ever: a member that runs for months must not."""
    trust = TrustStore.from_pem(root.pem)
    leaf = Issued.make("mail.example", root)
    for days, trusted in [(0, True), (20, False), (0, True), (-20, False), (5, True)]:
        verdict = verify.verify_chain([leaf.der], trust, NOW + timedelta(days=days))
        assert verdict.trusted == trusted


def test_what_is_remembered_says_what_a_fresh_look_says_at_every_moment(root: Issued) -> None:
    """Chains with different ends, and a wrong one, asked for in an order that goes to and fro over all of them."""
    between = Issued.make("between", root, ca=True, days=(-5, 5))
    pinned = Issued.make("pinned", ca=False, days=(-2, 2))
    chains = [
        [Issued.make("a.example", root).der],
        [Issued.make("b.example", between).der, between.der],
        [pinned.der],
        [Issued.make("stranger", ca=True).der],
    ]
    ends = [timedelta(days=days, seconds=second) for days in (2, 5, 10) for second in (-1, 0, 1)]
    moments = [NOW, *(NOW + end for end in ends), *(NOW - end for end in ends), NOW]
    used = TrustStore.from_pem(root.pem, pinned.pem)
    for moment in moments:
        for purpose in (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH):
            for chain in chains:
                fresh = TrustStore.from_pem(root.pem, pinned.pem)
                expected = verify.verify_chain(chain, fresh, moment, purpose)
                assert verify.verify_chain(chain, used, moment, purpose) == expected
    assert len(used.found_good) == 6, "the three good ones, for each purpose"


def test_only_so_much_is_remembered(root: Issued) -> None:
    remembered = Remembered[int, str](2)
    for key in (1, 2):
        remembered.put(key, str(key))
    assert remembered.get(1) == "1"
    remembered.put(3, "3")
    assert (len(remembered), remembered.get(2), remembered.get(1)) == (2, None, "1")
    trust = TrustStore.from_pem(root.pem)
    long = [Issued.make("mail.example", root).der, *[root.der] * 100]
    assert verify.verify_chain(long, trust, NOW).trusted
    assert len(trust.found_good) == 0, "a stranger does not fill our memory"


def test_of_two_roots_with_one_name_and_key_the_valid_one_counts() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    expired = Issued.make("root", ca=True, days=(-100, -1), key=key)
    renewed = Issued.make("root", ca=True, days=(-1, 100), key=key)
    leaf = Issued.make("mail.example", renewed)
    assert judged([expired, renewed], leaf) == "Trusted"
    assert judged([renewed, expired], leaf) == "Trusted"


def test_a_certificate_for_clients_only_is_none_for_servers(root: Issued) -> None:
    client = [ExtendedKeyUsageOID.CLIENT_AUTH]
    server = [*client, ExtendedKeyUsageOID.SERVER_AUTH]
    assert judged([root], Issued.make("mail.example", root, usages=client)) == "NotTrusted"
    assert judged([root], Issued.make("mail.example", root, usages=server)) == "Trusted"


def test_nothing_presented_and_nonsense_are_not_trusted(root: Issued) -> None:
    trust = TrustStore.from_pem(root.pem)
    assert verify.verify_chain([], trust, NOW).reason == "NotTrusted"
    assert verify.verify_chain([b"nonsense"], trust, NOW).reason == "NotTrusted"
    assert verify.verify_chain([Issued.make("x", root).der, b"nonsense"], trust, NOW).reason == "NotTrusted"


def test_an_empty_store_trusts_nobody(root: Issued) -> None:
    assert judged([], Issued.make("mail.example", root), root) == "NotTrusted"


def test_the_system_list_can_be_read_and_verifies_quickly(root: Issued) -> None:
    with open(certifi.where(), "rb") as file:  # noqa: PTH123
        trust = TrustStore.from_pem(file.read(), root.pem)
    assert len(trust.authorities) > 100
    assert verify.verify_chain([Issued.make("mail.example", root).der], trust, NOW).trusted


SERVER, CLIENT = [ExtendedKeyUsageOID.SERVER_AUTH], [ExtendedKeyUsageOID.CLIENT_AUTH]


@pytest.mark.parametrize(
    "made",
    [
        pytest.param({"signs": False}, id="a key usage that does not let it sign"),
        pytest.param({"names": ["mail.example"]}, id="names of hosts"),
        pytest.param({"usages": SERVER}, id="a use in TLS"),
    ],
)
def test_an_end_entity_with_ca_true_is_pinned_and_no_issuer(made: dict[str, Sequence[str]]) -> None:
    """`openssl req -x509` writes CA:TRUE into a server's certificate: its key must not speak for others."""
    pinned = Issued.make("mail.example", ca=True, **made)  # pyright: ignore[reportArgumentType]
    assert judged([pinned], pinned) == "Trusted"
    assert judged([pinned], Issued.make("bank.example", pinned)) == "NotTrusted"
    assert judged([pinned], Issued.make("bank.example", pinned), pinned) == "NotTrusted"
    between = Issued.make("between", pinned, ca=True)
    assert judged([pinned], Issued.make("bank.example", between), between, pinned) == "NotTrusted"


@pytest.mark.parametrize("names", [[], ["ca.example"]], ids=["without names", "with a name"])
def test_a_root_that_says_that_it_signs_is_one(names: list[str]) -> None:
    made = Issued.make("root", ca=True, signs=True, names=names)
    assert judged([made], Issued.make("mail.example", made)) == "Trusted"


def test_an_intermediate_is_no_anchor_by_itself(root: Issued) -> None:
    between = Issued.make("between", root, ca=True)
    leaf = Issued.make("mail.example", between)
    assert judged([between], leaf) == "NotTrusted"
    assert judged([between], leaf, between, root) == "NotTrusted"
    assert judged([between, root], leaf) == "Trusted"
    assert judged([between], between) == "NotTrusted"


def test_a_signature_that_is_not_its_own_makes_no_root(root: Issued) -> None:
    forged = Issued.make("root", root, ca=True)  # the root's name on both sides, and another key
    assert judged([forged], Issued.make("mail.example", forged), forged) == "NotTrusted"


def test_uses_are_asked_of_intermediates_too(root: Issued) -> None:
    between = Issued.make("between", root, ca=True, usages=CLIENT)
    assert judged([root], Issued.make("mail.example", between), between) == "NotTrusted"
    trust = TrustStore.from_pem(root.pem)
    chain = [Issued.make("mail.example", between).der, between.der]
    assert verify.verify_chain(chain, trust, NOW, ExtendedKeyUsageOID.CLIENT_AUTH).trusted


def test_a_pinned_certificate_serves_its_uses_only() -> None:
    pinned = Issued.make("mail.example", usages=CLIENT)
    assert judged([pinned], pinned) == "NotTrusted"
    trust = TrustStore.from_pem(pinned.pem)
    assert verify.verify_chain([pinned.der], trust, NOW, ExtendedKeyUsageOID.CLIENT_AUTH).trusted


def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def test_rsa_1024_counts_and_less_does_not(root: Issued) -> None:
    assert judged([root], Issued.make("mail.example", root, key=rsa_key(1024))) == "Trusted"
    small = Issued.make("small", root, ca=True, key=small_key())
    assert judged([root], small) == "NotTrusted"
    assert judged([root], Issued.make("mail.example", small), small) == "NotTrusted"


def small_key() -> rsa.RSAPrivateKey:
    """512 bits; cryptography makes no such key, and OpenSSL does."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    made = subprocess.run(["openssl", "genrsa", "512"], capture_output=True, check=True)
    key = load_pem_private_key(made.stdout, None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def test_a_sha1_signature_makes_no_chain_unless_it_is_the_roots_own(tmp_path: Path) -> None:
    """OpenSSL makes it: cryptography signs with SHA-1 no more."""
    end = ["-days", "36500", "-set_serial", "1"]

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)

    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl(
        "req",
        "-x509",
        *new,
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-subj",
        "/CN=old root",
        "-sha1",
        *end,
    )
    openssl("req", *new, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=mail.example")
    for name in ("sha256", "sha1"):
        signing = ["x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", f"-{name}"]
        openssl(*signing, "-out", f"{name}.pem", *end)
    trust = TrustStore.from_pem((tmp_path / "ca.pem").read_bytes())
    now = datetime.now(UTC) + timedelta(days=1)

    def verdict(name: str) -> verify.Verdict:
        leaf = ssl.PEM_cert_to_DER_cert((tmp_path / f"{name}.pem").read_text())
        return verify.verify_chain([leaf], trust, now)

    assert verdict("sha256").trusted
    assert not verdict("sha1").trusted
    assert "SHA1" in verdict("sha1").detail


def test_a_wildcard_covers_no_name_that_its_ca_is_denied(root: Issued) -> None:
    between = Issued.make("between", root, ca=True, excluded=["bank.example.com"])
    assert judged([root], Issued.make("x", between, names=["*.example.com"]), between) == "NotTrusted"
    assert judged([root], Issued.make("x", between, names=["b*.example.com"]), between) == "NotTrusted"
    assert judged([root], Issued.make("x", between, names=["c*.example.com"]), between) == "Trusted"
    assert judged([root], Issued.make("x", between, names=["*.example.org"]), between) == "Trusted"


BROKEN = x509.UnrecognizedExtension(ObjectIdentifier("2.5.29.17"), b"\x30\x03nonsense")


def test_broken_extensions_of_a_peer_are_a_verdict_and_no_exception(root: Issued) -> None:
    broken = Issued.make("mail.example", root, more=[BROKEN])
    assert judged([root], broken) == "NotTrusted"
    between = Issued.make("between", root, ca=True, more=[BROKEN])
    assert judged([root], Issued.make("mail.example", between), between) == "NotTrusted"


def test_a_broken_certificate_in_a_list_is_a_value_error(root: Issued) -> None:
    broken = Issued.make("broken", ca=True, more=[BROKEN])
    with pytest.raises(ValueError, match=r"parse|extension|value|invalid"):
        TrustStore.from_pem(root.pem, broken.pem)
