"""A CA as people run one: `openssl ca`, a root and an intermediate that signs requests."""

from pathlib import Path
from typing import Final

from tests.certificates.programs import openssl

_CONFIGURATION: Final = """\
[ca]
default_ca = intermediate
[intermediate]
database = {folder}/index.txt
new_certs_dir = {folder}
certificate = {folder}/intermediate.pem
private_key = {folder}/intermediate.key
rand_serial = yes
default_md = sha256
default_days = 30
policy = any
unique_subject = no
copy_extensions = copy
x509_extensions = server
[any]
commonName = optional
organizationName = optional
organizationalUnitName = optional
localityName = optional
stateOrProvinceName = optional
countryName = optional
[server]
basicConstraints = CA:FALSE
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""


class OpensslCA:
    """Keeps its files in `folder`, which must be there and empty."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._configuration = folder / "openssl.cnf"
        self._configuration.write_text(_CONFIGURATION.format(folder=folder))
        (folder / "index.txt").touch()
        self.root = self._authority("root", "Tests Root")
        self.intermediate = self._authority(
            "intermediate", "Tests Intermediate", "-CA", self.root, "-CAkey", folder / "root.key"
        )

    def sign(self, request: bytes, *options: str) -> bytes:
        """The certificate for a request, PEM with the text that `openssl ca` writes before it."""
        asked = self.folder / "request.csr"
        asked.write_bytes(request)
        return openssl("ca", "-config", self._configuration, "-batch", "-in", asked, *options)

    def _authority(self, name: str, common_name: str, *issuer: str | Path) -> Path:
        made = self.folder / f"{name}.pem"
        openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={common_name}"),
            *("-config", self._configuration, "-extensions", "authority", *issuer),
            *("-keyout", self.folder / f"{name}.key", "-out", made),
        )
        return made
