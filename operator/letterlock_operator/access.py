"""Where the API server is and how to log in to it: from a kubeconfig, or from inside a pod. Called by `main`.

One answer for both users of it: kopf's watches and our own client (`api`).
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kubernetes import config
from kubernetes.client.configuration import Configuration

if TYPE_CHECKING:
    import kopf

_TOKEN_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class NoCluster(Exception):  # noqa: N818 - says what happened
    """No usable kubeconfig, and not inside a pod either. The text says what to do."""


@dataclass(frozen=True)
class Access:
    """One API server and the credentials for it."""

    server: str
    ca_file: str | None = None
    verify: bool = True
    token: str | None = None
    token_file: Path | None = None
    """Read again for every use: kubelets renew it about once an hour."""
    certificate_file: str | None = None
    key_file: str | None = None

    def bearer(self) -> str | None:
        """The token to present now."""
        if self.token_file is not None:
            return self.token_file.read_text().strip()
        return self.token

    def ssl_context(self) -> ssl.SSLContext:
        """A client context that trusts this API server and presents our certificate where we have one."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        # Cluster CAs made by older tools lack key usage or key identifiers; kubectl takes them too.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.certificate_file:
            context.load_cert_chain(self.certificate_file, self.key_file)
        return context

    def for_kopf(self) -> "kopf.ConnectionInfo":
        """The same as kopf takes it."""
        import kopf  # commands use this module too, and need none

        return kopf.ConnectionInfo(
            server=self.server,
            ca_path=self.ca_file,
            insecure=not self.verify,
            scheme="Bearer" if self.bearer() else None,
            token=self.bearer(),
            certificate_path=self.certificate_file,
            private_key_path=self.key_file,
        )


def find(kubeconfig: str | None = None, context: str | None = None) -> Access:
    """The API server of `kubeconfig` and `context`, else of the pod that we run in, else of the default file.

    Raises NoCluster.
    """
    loaded = cast("Any", Configuration())
    in_pod = kubeconfig is None and context is None and _TOKEN_FILE.exists()
    try:
        if in_pod:
            config.load_incluster_config(client_configuration=loaded)
        else:
            config.load_kube_config(
                config_file=kubeconfig, context=context, client_configuration=loaded, persist_config=False
            )
    except (config.ConfigException, OSError) as error:
        raise NoCluster(
            f"no API server to talk to: {error}; give --kubeconfig FILE or set KUBECONFIG"
        ) from error
    # The library has renamed this key: older versions say `authorization`.
    authorization: str = loaded.get_api_key_with_prefix("BearerToken", "authorization") or ""
    scheme, _, token = authorization.partition(" ")
    return Access(
        server=str(loaded.host).rstrip("/"),
        ca_file=loaded.ssl_ca_cert,
        verify=bool(loaded.verify_ssl),
        token=token if scheme.lower() == "bearer" and not in_pod else None,
        token_file=_TOKEN_FILE if in_pod else None,
        certificate_file=loaded.cert_file,
        key_file=loaded.key_file,
    )
