"""How one resource names another, or a key of a Secret or ConfigMap: always in its own namespace."""

from letterlock_api.base import Model
from letterlock_api.values import DataKey, DataKeyTemplate, ObjectName, ObjectNameTemplate


class Reference(Model):
    """Names another resource of the same namespace."""

    name: ObjectName
    """Name of the resource, in the same namespace."""


class GatewayReference(Model):
    """Names the MailGateway that a resource belongs to."""

    name: ObjectName = "default"
    """Name of the MailGateway in the same namespace."""


class KeyReference(Model):
    """One key of a Secret or ConfigMap of the same namespace."""

    name: ObjectName
    """Name of the object."""
    key: DataKey
    """Key in its data."""


class PEMSource(Model):
    """Public PEM text kept in a ConfigMap or a Secret: exactly one of the two."""

    config_map_key_ref: KeyReference | None = None
    """Key of a ConfigMap."""
    secret_key_ref: KeyReference | None = None
    """Key of a Secret."""


class ReferenceTemplate(Model):
    """Names a Secret of the same namespace; one per member where a placeholder stands in the name."""

    name: ObjectNameTemplate
    """Name of the Secret; `{member}` and `{ordinal}` are replaced per member (Machine level only)."""


class KeyReferenceTemplate(Model):
    """One key of a Secret of the same namespace; one per member where a placeholder stands in name or key."""

    name: ObjectNameTemplate
    """Name of the Secret; `{member}` and `{ordinal}` are replaced per member (Machine level only)."""
    key: DataKeyTemplate
    """Key in its data; `{member}` and `{ordinal}` are replaced per member (Machine level only)."""
