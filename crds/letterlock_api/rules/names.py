"""The rule for names that become part of the name of a Service."""

import re
from typing import Any

from letterlock_api.resource import Resource
from letterlock_api.rules.rule import Rule
from letterlock_api.values import DNS_LABEL_PATTERN


def service_owner_name(kind: type[Resource], limit: int) -> Rule[Any]:
    """The name of a `kind` is a DNS label of at most `limit` characters."""
    return Rule[Resource](
        "",
        f'self.metadata.name.size() <= {limit} && self.metadata.name.matches(r"^{DNS_LABEL_PATTERN}$")',
        f"the name of a {kind.__name__} becomes part of a Service's name:"
        f" use at most {limit} lower-case letters, digits and '-' (no '.')",
        lambda resource: (
            len(resource.name) <= limit and re.fullmatch(DNS_LABEL_PATTERN, resource.name) is not None
        ),
    )
