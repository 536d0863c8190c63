"""All kinds, by name: the one list that CRDs, watches and folder loading walk."""

from typing import Final

from letterlock_api.calist import CAList
from letterlock_api.certificate import Certificate
from letterlock_api.destinationcontrol import DestinationControl
from letterlock_api.listener import Listener
from letterlock_api.mailgateway import MailGateway

AnyResource = Certificate | Listener | DestinationControl | CAList | MailGateway
KINDS: Final[dict[str, type[AnyResource]]] = {
    "MailGateway": MailGateway,
    "Certificate": Certificate,
    "Listener": Listener,
    "DestinationControl": DestinationControl,
    "CAList": CAList,
}
