"""The reference pages, from what they speak of: docs/reference.md of the models, docs/commands.md of the commands.

`python -m letterlock_cli.reference` writes them, with `--check` it says which are stale; tests do that too.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from letterlock_api import crd
from letterlock_api.base import GROUP
from letterlock_api.kinds import KINDS

_DOCS: Final = Path(__file__).resolve().parents[2] / "docs"
_RESOURCES: Final = f"""# Resources

Every field of every resource, made from the models (`make crds` writes it anew). `kubectl explain` says the
same. The API group is `{GROUP}`, all kinds are namespaced and in the category `letterlock`. A name with `[]` is
a list; what is said below it holds for each entry.

"""
_COMMANDS: Final = """# Commands

What `--help` says, of every command (`make crds` writes it anew). As a plugin of kubectl: `kubectl letterlock
…`, with its options behind the command (`kubectl letterlock status -n mail --context work`).

| exit status | means |
|---|---|
| 0 | it went well |
| 1 | it failed: one line on stderr, `error: …`, says what to do; `check`: no delivery; `track`: nothing fits |
| 2 | wrong usage: an option or a value that there is not |

Results are on stdout; warnings, progress and errors on stderr. Colours come on terminals only, and not where
`NO_COLOR` is set.

`-o json` and `-o yaml` give the same values, in names that stay. Commands on resources (`certificate`,
`listener`, `destination`, `calist`: `list`, `show`) print the resources themselves: one, or a List with
`items`, as `kubectl get -o json`. `status` prints a List of all of them, with `overview` beside: `attention`,
`gateways`, `members`, `listeners`, `destinations` (domains that fail), `certificates` (by expiry), `queue`,
`served`. `queue` and `track` print a list of messages: `member`, `mid`, `icid`, `messageID`, `sender`,
`receivedAt`, `receivedFrom`, `receivedOver`, `size`, and `recipients` with `rid`, `address`, `state` (queued,
deferred, delivered, bounced, deleted), `attempts`, `nextAttempt`, `host`, `ip`, `protocol`, `cipher`,
`verified`, `matchedName`, `reply`. `queue retry` and `queue delete` print a list of what they met: `member`,
`mid`, `rid`, `address`, `done` (false: it is being delivered just now). `check` prints a list of findings, one
for each place that it looked from: `from` (a member, or `here`), `domain`, `mode`, `delivered`, `verdict`,
`policy`, `problem`, `nextHops`, `modes`; and `behind` where a member runs an older snapshot than is mounted.
What is not known is left out. Times are RFC 3339 in UTC.

Completion: `source <(letterlock completion bash)`; zsh and fish likewise. `kubectl letterlock <TAB>` works
where kubectl's own completion does: `kubectl_complete-letterlock` is on the PATH beside `letterlock`.

"""


def pages() -> dict[Path, str]:
    """What each page shall hold."""
    return {_DOCS / "reference.md": _RESOURCES + _resources(), _DOCS / "commands.md": _COMMANDS + _commands()}


def _resources() -> str:
    parts: list[str] = []
    for kind, model in KINDS.items():
        definition = crd.custom_resource_definition(kind)
        schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        parts.append(f"## {kind}\n\n{_words(schema)} Short name: `{model.SHORT}`.\n")
        for part in ("spec", "status"):
            parts.append(f"| {part} | type | what |\n|---|---|---|")
            parts += [
                f"| `{path}` | {kind_of} | {what} |"
                for path, kind_of, what in _fields(schema["properties"][part])
            ]
            parts.append("")
    return "\n".join(parts)


def _fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, str, str]]:
    for name, one in schema.get("properties", {}).items():
        inner: dict[str, Any] = one.get("items", one)
        listed = "[]" if "items" in one else ""
        yield f"{path}{name}{listed}", _type(one), _words(one)
        if name != "conditions":
            yield from _fields(inner, f"{path}{name}{listed}.")


def _type(one: dict[str, Any]) -> str:
    inner: dict[str, Any] = one.get("items", one)
    kind = "int or string" if inner.get("x-kubernetes-int-or-string") else str(inner.get("type", "any"))
    if "enum" in inner:
        kind = ", ".join(f"`{value}`" for value in inner["enum"] if value is not None)
    default = one.get("default")
    return kind + (
        f" (`{default}`)" if isinstance(default, str | int) and not isinstance(default, bool) else ""
    )


def _words(one: dict[str, Any]) -> str:
    return " ".join(str(one.get("description", "")).split()).replace("|", "\\|")


def _commands() -> str:
    import typer.main

    from letterlock_cli.main import app, keep_lines

    keep_lines(app)
    root = typer.main.get_command(app)
    return "\n".join(_command(root, "letterlock", None))


def _command(command: Any, name: str, parent: Any) -> Iterator[str]:  # noqa: ANN401 - click's, as typer has it
    context = command.context_class(
        command, info_name=name, parent=parent, terminal_width=100, max_content_width=100
    )
    below: dict[str, Any] = getattr(command, "commands", {})
    if not below:
        yield f"## {context.command_path}\n\n```text\n{command.get_help(context).rstrip()}\n```\n"
    for key, one in below.items():
        if not one.hidden:
            yield from _command(one, key, context)


def main() -> int:
    """Write the pages, or check them. Gives the exit status."""
    stale = [path for path, text in pages().items() if not path.is_file() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.name} is stale: run `make crds`", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(pages()[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
