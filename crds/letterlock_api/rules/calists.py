"""Rules for CALists."""

from typing import Any, Final

from letterlock_api.calist import SYSTEM_LIST, CAList, CAListSpec
from letterlock_api.rules.rule import Rule, one_source

RULES: Final[tuple[Rule[Any], ...]] = (
    Rule[CAList](
        "",
        f"(self.metadata.name == '{SYSTEM_LIST}') == (self.spec.type == 'System')",
        f"type System is for the list named {SYSTEM_LIST} alone, and that name for no other:"
        " use type Custom and another name",
        lambda resource: (resource.name == SYSTEM_LIST) == (resource.spec.type == "System"),
    ),
    Rule[CAListSpec](
        "spec",
        "!has(self.certificates) || !has(self.certificatesFrom)",
        "certificates and certificatesFrom exclude each other: keep one of them",
        lambda spec: spec.certificates is None or spec.certificates_from is None,
    ),
    Rule[CAListSpec](
        "spec",
        "self.type == 'System' || has(self.certificates) || has(self.certificatesFrom)",
        "a custom list needs CA certificates: give certificates or certificatesFrom",
        lambda spec: (
            spec.type == "System" or spec.certificates is not None or spec.certificates_from is not None
        ),
    ),
    Rule[CAListSpec](
        "spec",
        "self.type != 'System' || !has(self.certificates) && !has(self.certificatesFrom)",
        "the system list's certificates come with the product: put others into a list of type Custom",
        lambda spec: spec.type != "System" or (spec.certificates is None and spec.certificates_from is None),
    ),
    Rule[CAListSpec](
        "spec",
        "!has(self.export) || !self.export.fileName.startsWith('.')",
        "export.fileName begins with a dot: give it a name such as authorities.txt",
        lambda spec: spec.export is None or not spec.export.file_name.startswith("."),
    ),
    one_source("spec.certificatesFrom"),
)
