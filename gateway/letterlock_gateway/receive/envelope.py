"""A message's envelope as it grows, MAIL by RCPT, and what policy says to each. Pure."""

from dataclasses import dataclass, field
from typing import Self

from letterlock_gateway.receive import replies
from letterlock_gateway.receive.commands import Mail, Rcpt
from letterlock_gateway.receive.limits import Quota
from letterlock_gateway.receive.replies import Reply
from letterlock_gateway.receive.terms import Terms
from letterlock_gateway.spool import NewRecipient, domain_of


@dataclass(slots=True)
class Envelope:
    """Sender, parameters, and the recipients that were accepted."""

    mail: Mail
    sender: str
    """With the default domain where none was given; empty: the null sender."""
    recipients: list[NewRecipient] = field(default_factory=list[NewRecipient])

    @classmethod
    def begin(cls, mail: Mail, terms: Terms, *, tls: bool) -> Self | Reply:
        """The envelope that MAIL opens, or why it does not."""
        if not terms.takes_mail:
            return replies.ONLY_CHECKS
        path = terms.recipients.completed(mail.path)
        sender = path.address
        if path.local and not path.domain:
            return replies.SENDER_NEEDS_DOMAIN
        if not mail.smtputf8 and not sender.isascii():
            return replies.UTF8_NOT_DECLARED
        if mail.size > terms.policy.max_message_size:
            return replies.MESSAGE_TOO_BIG  # RFC 1870 section 6.1
        needs_tls = terms.policy.required_for_senders and path.local and not tls
        if needs_tls and terms.senders_with_tls.first(path.local, domain_of(sender)) is not None:
            return replies.TLS_FIRST
        return cls(mail, sender)

    def resolve(self, rcpt: Rcpt, terms: Terms) -> str | Reply:
        """Where mail for a recipient goes; or why it is not taken."""
        if not self.mail.smtputf8 and not rcpt.path.address.isascii():
            return replies.UTF8_NOT_DECLARED
        if len(self.recipients) >= terms.policy.max_recipients_per_message:
            return replies.TOO_MANY_RECIPIENTS
        return terms.recipients.resolve(rcpt.path, relay=terms.relay)

    def add(self, rcpt: Rcpt, address: str, terms: Terms, quota: Quota) -> Reply | None:
        """Take a recipient whose mail goes to `address`; or why it is not taken."""
        if not quota.take_recipient(terms.policy.max_recipients_per_hour):
            return replies.TOO_MANY_THIS_HOUR
        self.recipients.append(NewRecipient(address, rcpt.notify, rcpt.orcpt))
        return None
