"""The envelope that every kind has: apiVersion, metadata, spec, status."""

from typing import ClassVar, Literal

from pydantic import Field

from letterlock_api.base import Lenient
from letterlock_api.values import Time


class Metadata(Lenient):
    """The part of ObjectMeta that decisions use."""

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int | None = None
    creation_timestamp: Time | None = None
    resource_version: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class Resource(Lenient):
    """Base of the five kinds. Subclasses add `spec` and `status` and say how the kind is called."""

    PLURAL: ClassVar[str]
    SHORT: ClassVar[str]

    api_version: Literal["letterlock.dev/v1alpha1"] = "letterlock.dev/v1alpha1"
    metadata: Metadata

    @property
    def name(self) -> str:
        """The resource's name."""
        return self.metadata.name
