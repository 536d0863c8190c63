"""What a MailGateway may say about its members' pods: resources, metadata, and where they run. Nothing else.

The values stay plain dicts, since they go into the pod template as they are; these models say what may stand
in them, to the API server and to folders alike.
"""

from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, GetCoreSchemaHandler, StringConstraints, ValidatorFunctionWrapHandler
from pydantic_core import CoreSchema, core_schema

from letterlock_api.base import Model
from letterlock_api.values import Shape

_QUANTITY: Final = r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?"


class _Like:
    """Takes a dict that the model takes, and leaves it a dict."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            _unchanged,
            handler.generate_schema(self._model),
            serialization=core_schema.plain_serializer_function_ser_schema(_itself),
        )


def _unchanged(value: object, check: ValidatorFunctionWrapHandler) -> object:
    check(value)
    return value


def _itself(value: object) -> object:
    return value


def _is_quantity(value: object) -> bool:
    if isinstance(value, str):
        return Shape.matching(_QUANTITY, "").holds(value)
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_Quantity = Annotated[
    Any,
    Shape.by_rule(
        f'type(self) == string ? self.matches(r"^{_QUANTITY}$") : self >= 0',
        "write a quantity, as in 500m, 2 or 512Mi",
        _is_quantity,
    ),
    Field(json_schema_extra={"x-kubernetes-int-or-string": True, "maxLength": 32}),
]
_Quantities = Annotated[dict[str, _Quantity], Field(max_length=8)]
_Labels = Annotated[
    dict[str, Annotated[str, StringConstraints(max_length=63)]],
    Field(max_length=32),
]
_Annotations = Annotated[
    dict[str, Annotated[str, StringConstraints(max_length=4096)]],
    Field(max_length=32),
]
# Kubernetes' own types: it judges them when the StatefulSet is written.
_Foreign = Annotated[
    dict[str, Any], Field(json_schema_extra={"type": "object", "x-kubernetes-preserve-unknown-fields": True})
]


class _Resources(Model):
    requests: _Quantities | None = None
    """What a member is guaranteed, as in `cpu: 500m` and `memory: 512Mi`."""
    limits: _Quantities | None = None
    """What a member may use at most."""


class _Metadata(Model):
    labels: _Labels | None = None
    """Labels beside ours; ours win."""
    annotations: _Annotations | None = None
    """Annotations beside ours; ours win."""


class _Scheduling(Model):
    node_selector: _Labels | None = None
    """Labels that a node must have."""
    tolerations: Annotated[list[_Foreign], Field(max_length=16)] | None = None
    """Taints that do not keep members away, as in a pod."""
    affinity: _Foreign | None = None
    """Which nodes and neighbours members prefer, as in a pod."""
    topology_spread_constraints: Annotated[list[_Foreign], Field(max_length=8)] | None = None
    """How members are spread over nodes and zones, as in a pod."""
    priority_class_name: Annotated[str, StringConstraints(max_length=253)] | None = None
    """How important members are where room is scarce."""


class _PodTemplate(Model):
    metadata: _Metadata | None = None
    """Labels and annotations of the members' pods."""
    spec: _Scheduling | None = None
    """Where the members' pods run."""


Resources = Annotated[dict[str, Any], _Like(_Resources)]
PodTemplate = Annotated[dict[str, Any], _Like(_PodTemplate)]
