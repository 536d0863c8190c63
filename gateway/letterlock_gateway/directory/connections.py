"""One connection to one directory server: TLS, bind, searches. `directories` makes and keeps them.

The protocol is sansldap's (no I/O in it); sockets and TLS are ours, so that servers are verified against the same CA
lists and with the same rules as everybody else.
"""

import asyncio
import ipaddress
import ssl
from datetime import UTC, datetime
from typing import Final, Self

import sansldap
from cryptography import x509
from sansldap import LDAPResultCode as Code

from letterlock_gateway.directory.settings import Server, Settings, Unavailable
from letterlock_gateway.tls import contexts, names, verify

# Seconds for everything up to a connection that is ready, and for one search.
CONNECT: Final = 5.0
SEARCH: Final = 5.0
_READ: Final = 65536
# A search that wants no attributes and one entry has an answer of some hundred bytes; no server may fill our memory.
_MAX_ANSWER: Final = 1 << 20
_START_TLS: Final = sansldap.ExtendedOperations.LDAP_START_TLS


class Connection:
    """Ready for searches, one at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._session = sansldap.LDAPClient()
        self._in_clear: asyncio.StreamWriter | None = None
        """What StartTLS was asked for over. Kept, since a writer that is forgotten closes what is below it."""

    @classmethod
    async def open(cls, settings: Settings, server: Server) -> Self:
        """Connect, verify the server, bind, see that the base is there. Raises Unavailable."""
        try:
            async with asyncio.timeout(CONNECT):
                return await cls._open(settings, server)
        except TimeoutError:
            raise Unavailable(f"no connection within {CONNECT:g} s") from None
        except (ssl.SSLError, contexts.BadCertificate) as error:
            raise Unavailable(f"TLS failed: {getattr(error, 'reason', None) or error}") from error
        except (OSError, sansldap.LDAPError, EOFError) as error:
            raise Unavailable(f"no connection: {error}") from error

    @classmethod
    async def _open(cls, settings: Settings, server: Server) -> Self:
        context = None
        if settings.tls != "None":
            context = contexts.client_context(
                min_version="TLSv1.2", ciphers=None, certificate=settings.certificate
            )
        first = context if settings.tls == "LDAPS" else None
        made = cls(
            *await asyncio.open_connection(
                server.host, server.port, ssl=first, server_hostname=server.host if first else None
            )
        )
        try:
            if context is not None:
                if settings.tls == "StartTLS":
                    await made._start_tls(context, server.host)
                made._verify(settings, server.host)
            await made._bind(settings)
            await made._look(settings.base)
        except BaseException:
            made.close()
            raise
        return made

    async def has(self, base: str, query: str) -> bool:
        """Whether anything below `base` matches the filter. Raises Unavailable; then the connection is closed."""
        try:
            async with asyncio.timeout(SEARCH):
                found = await self._search(base, query)
        except TimeoutError:
            self.close()
            raise Unavailable(f"no answer within {SEARCH:g} s") from None
        except (OSError, sansldap.LDAPError, EOFError) as error:
            self.close()
            raise Unavailable(f"connection lost: {error}") from error
        except BaseException:  # an answer that cannot be used, or cancelled in the middle of one
            self.close()
            raise
        return found

    @property
    def open_still(self) -> bool:
        """Whether the server has not hung up, as far as that is known."""
        return not self._writer.is_closing() and not self._reader.at_eof()

    def close(self) -> None:
        """Hang up; that is as good as an unbind (RFC 4511 section 5.3)."""
        self._writer.transport.abort()

    async def _start_tls(self, context: ssl.SSLContext, host: str) -> None:
        self._session.extended_request(_START_TLS)
        answer = await self._answer()
        if not isinstance(answer, sansldap.ExtendedResponse):
            raise Unavailable("the answer to StartTLS is none")
        _demand(answer.result, "StartTLS")
        # RFC 4511 section 4.14: whatever was said in clear text counts for nothing, half a message that was read
        # and whole ones that nobody has read yet included. Those lie in the reader, which `StreamWriter.start_tls`
        # would keep: somebody on the way could answer our questions with them.
        self._session = sansldap.LDAPClient()
        loop = asyncio.get_running_loop()
        self._reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(self._reader)
        transport = await loop.start_tls(self._writer.transport, protocol, context, server_hostname=host)
        if transport is None:
            raise EOFError("it hung up")
        self._reader.set_transport(transport)
        self._in_clear, self._writer = (
            self._writer,
            asyncio.StreamWriter(transport, protocol, self._reader, loop),
        )

    def _verify(self, settings: Settings, host: str) -> None:
        """The chain against the CA lists, and the host that was written against the names in the certificate."""
        connection: ssl.SSLObject = self._writer.get_extra_info("ssl_object")
        chain = [bytes(one) for one in connection.get_unverified_chain() or ()]
        verdict = verify.verify_chain(chain, settings.trust, datetime.now(UTC))
        if not verdict.trusted:
            raise Unavailable(f"its certificate is not trusted: {verdict.detail}")
        leaf = x509.load_der_x509_certificate(chain[0])
        if not _names(leaf, host):
            shown = ", ".join(names.presented_names(leaf).names) or "no name"
            raise Unavailable(f"its certificate is for {shown}, and not for {host}")

    async def _bind(self, settings: Settings) -> None:
        if settings.password:
            self._session.bind_simple(settings.bind, settings.password)
        elif settings.certificate is not None:
            self._session.bind_sasl(
                "EXTERNAL", cred=b""
            )  # as whom the certificate names (RFC 4513 section 5.2.3)
        else:
            return  # anonymous: RFC 4511 section 4.2.1
        answer = await self._answer()
        if not isinstance(answer, sansldap.BindResponse):
            raise Unavailable("the answer to the bind is none")
        if not settings.password and answer.result.result_code == Code.AUTH_METHOD_NOT_SUPPORTED:
            return  # it asks for the certificate, and has no identity to give for it
        _demand(answer.result, "the bind")

    async def _look(self, base: str) -> None:
        """See that the base is there for us.

        Servers show those who may see nothing an empty tree: each no from it would refuse a recipient who is there.
        """
        if not await self._search(base, "(objectClass=*)", sansldap.SearchScope.BASE):
            raise Unavailable(f"it does not show us {base}: let us read it")

    async def _search(
        self, base: str, query: str, scope: sansldap.SearchScope = sansldap.SearchScope.SUBTREE
    ) -> bool:
        self._session.search_request(
            base_object=base,
            scope=scope,
            size_limit=1,
            time_limit=int(SEARCH),
            filter=sansldap.LDAPFilter.from_string(query),
            attributes=["1.1"],
        )
        found = referred = False
        while True:
            for answer in await self._answers():
                found |= isinstance(answer, sansldap.SearchResultEntry)
                referred |= isinstance(answer, sansldap.SearchResultReference)
                if isinstance(answer, sansldap.SearchResultDone):
                    if found:
                        return True
                    _demand(answer.result, "the search")
                    if referred:
                        raise Unavailable(
                            "it knows part of the answer, and refers to other servers for the rest"
                        )
                    return False

    async def _answer(self) -> sansldap.LDAPMessage:
        """The answer where there can be but one. Raises as `_answers` does."""
        answers = await self._answers()
        if len(answers) != 1:
            raise Unavailable("it says more than it was asked")
        return answers[0]

    async def _answers(self) -> list[sansldap.LDAPMessage]:
        """Send what is to be sent, and wait for whole messages. Raises EOFError, OSError and LDAPError."""
        if request := self._session.data_to_send():
            self._writer.write(request)
            await self._writer.drain()
        received = 0
        while True:
            data = await self._reader.read(_READ)
            if not data:
                raise EOFError("it hung up")
            received += len(data)
            if received > _MAX_ANSWER:
                raise Unavailable("its answer does not end")
            try:
                messages = self._session.receive(data)
            except (IndexError, KeyError, TypeError, RecursionError) as error:
                raise Unavailable("its answer cannot be read") from error
            if messages:
                return messages


def _demand(result: sansldap.LDAPResult, what: str) -> None:
    if result.result_code != Code.SUCCESS:
        said = f" ({result.diagnostics_message[:200]})" if result.diagnostics_message else ""
        raise Unavailable(f"{what} failed: {result.result_code.name}{said}")


def _names(leaf: x509.Certificate, host: str) -> bool:
    """Whether the certificate is for `host`, a name or an address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return names.first_match([host], names.presented_names(leaf)) is not None
    try:
        alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return address in alternative.get_values_for_type(x509.IPAddress)
