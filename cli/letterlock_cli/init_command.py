"""`letterlock init` (H3): asks what a gateway needs, and writes manifests. Called by `main`, which registers it.

Nothing is written before every question is answered, and then all of it, or (Ctrl-C before) nothing.
"""

import contextlib
import signal
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, cast

import click
import typer

from letterlock_cli.failures import CommandError
from letterlock_cli.options import Context, Kubeconfig, Namespace
from letterlock_cli.progress import shown
from letterlock_cli.source import Where

if TYPE_CHECKING:
    from letterlock_cli.wizard.answers import Answers, Question

# `kubectl apply -f DIR` and `letterlock up DIR` take no file of such a name for a manifest.
ANSWERS: Final = "init.answers"

type Then = Literal["ask", "nothing", "apply", "up"]


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the manifests.")] = Path("mail"),
    *,
    answers: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Take the answers from this YAML file ('-': stdin), and ask nothing."
        ),
    ] = None,
    then: Annotated[
        Literal["ask", "nothing", "apply", "up"],
        typer.Option(help="What to do with the manifests. With --answers: nothing, unless said."),
    ] = "ask",
    force: Annotated[
        bool, typer.Option("--force", help="Replace files and resources that are there, without asking.")
    ] = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    r"""Set up a gateway: answer some questions, get manifests with comments, apply them or serve them here.

    The answers are kept in DIR/init.answers, to be changed and given to --answers. Nothing is written before the
    last question, and nothing that exists is replaced unasked.

    \b
    Examples:
      letterlock init
      letterlock init ./mail --answers answers.yaml --then apply -n mail
      letterlock init ./mail --answers mail/init.answers --force --then up
    """
    from letterlock_cli.wizard import drafts

    if answers is None and not sys.stdin.isatty():
        raise CommandError("nobody is there to answer: give --answers FILE (see `letterlock init --help`)")
    with _nothing_on_interrupt():
        found = _read(answers) if answers is not None else _ask()
        files = {**drafts.files(found), ANSWERS: _kept(found)}
        manifests = _checked(files)
        _permit(folder, files, ask=answers is None, force=force)
    _write(folder, files)
    where = Where(None, None, namespace, kubeconfig, context)
    chosen: Then = then if then != "ask" else ("nothing" if answers is not None else _next(folder))
    if chosen == "apply":
        _apply(where, manifests, force=force)
    elif chosen == "up":
        from letterlock_cli.up.command import run

        run(folder, None, None, None)
    else:
        print(f"\nNext: letterlock up {folder}\n  or: kubectl apply -f {folder}")


@contextlib.contextmanager
def _nothing_on_interrupt() -> Generator[None]:
    try:
        yield
    except (click.Abort, KeyboardInterrupt, EOFError) as end:
        print()
        raise CommandError("stopped: nothing was written") from end


def _ask() -> "Answers":
    from pydantic import ValidationError

    from letterlock_cli.colours import painted
    from letterlock_cli.wizard import answers, lookups

    print(
        "A gateway in some questions. Enter takes what stands in brackets; Ctrl-C ends it, nothing is written."
    )
    said: dict[str, Any] = {}
    wanted = [one.field for one in answers.QUESTIONS]
    while wanted:
        for question in answers.QUESTIONS:
            if question.field not in wanted or not answers.asked(question.field, said):
                continue
            print(f"\n{painted(question.text, 'heading')}")
            if question.explanation:
                print(question.explanation)
            said[question.field] = _answer(question)
            for note in lookups.notes(question.field, said[question.field], said):
                print(f"  {note}")
        try:
            return answers.Answers.model_validate(said)
        except ValidationError as error:
            # What does not go together names the field: that one is asked again.
            words = answers.problem(error)
            print(f"\n! {words}")
            wanted = _again(words)
    raise CommandError("the answers do not go together: start again")


def _again(words: str) -> list[str]:
    from letterlock_cli.wizard.answers import QUESTIONS, key

    return [one.field for one in QUESTIONS if key(one.field) == words.partition(":")[0]]


def _answer(question: "Question") -> object:
    default = question.default
    shown = str(default) if isinstance(default, str | int) else ""
    while True:
        said = str(click.prompt(">", default=shown, show_default=bool(shown), prompt_suffix=" "))
        try:
            return question.parsed(said)
        except ValueError as error:
            print(f"! {error}")


def _read(file: Path) -> "Answers":
    import yaml
    from pydantic import ValidationError

    from letterlock_cli.wizard import answers

    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
        # As text: No is a mode (and Norway), and not false.
        loaded: Any = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - makes strings, lists and dicts only
        if not isinstance(loaded, dict):
            raise CommandError(f"{file} holds no answers: write them as in `hostname: mx.example.com`")
        given = {key: one for key, one in cast("dict[str, Any]", loaded).items() if one != ""}
        return answers.Answers.model_validate(given)
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"cannot read {file}: {error}") from error
    except yaml.YAMLError as error:
        raise CommandError(f"{file} is no YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise CommandError(f"{file}: {answers.problem(error)}") from error


def _kept(found: "Answers") -> str:
    import yaml

    values = found.model_dump(mode="json", by_alias=True, exclude_none=True)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return f"# What `letterlock init` was answered. Again from here: letterlock init DIR --answers THIS --force\n{text}"


def _checked(files: dict[str, str]) -> list[dict[str, Any]]:
    """The manifests, each by the rules of the API server."""
    import yaml

    from letterlock_cli.targets import check

    manifests = [
        one for name, text in files.items() if name != ANSWERS for one in yaml.safe_load_all(text) if one
    ]
    for one in manifests:
        check(one)
    return manifests


def _permit(folder: Path, files: dict[str, str], *, ask: bool, force: bool) -> None:
    """Raise CommandError where a file is there that nobody allowed to replace."""
    if folder.exists() and not folder.is_dir():
        raise CommandError(f"{folder} is not a folder: give another")
    there = [name for name in files if (folder / name).exists() or (folder / name).is_symlink()]
    if not there or force:
        return
    if ask and click.confirm(f"\n{', '.join(there)} in {folder} will be replaced. Go on?", default=False):
        return
    raise CommandError(f"{folder} has {', '.join(there)} already: give another folder, or --force")


def _write(folder: Path, files: dict[str, str]) -> None:
    """All of them: each as a whole, and no Ctrl-C between two."""
    from letterlock_cli.up.atomic import write_file

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_file(folder / name, text.encode(), mode=0o644)
    except OSError as error:
        raise CommandError(f"cannot write to {folder}: {error.strerror}") from error
    finally:
        signal.signal(signal.SIGINT, before)
    print(f"{folder}: {', '.join(files)} written")


def _next(folder: Path) -> Then:
    print(f"\nWhat now? up: serve {folder} on this machine. apply: to the current cluster. nothing: later.")
    choices = click.Choice(["up", "apply", "nothing"])
    try:
        return cast("Then", click.prompt(">", type=choices, default="nothing", prompt_suffix=" "))
    except click.Abort:
        return "nothing"


def _apply(where: Where, manifests: list[dict[str, Any]], *, force: bool) -> None:
    from letterlock_cli.targets import target

    there = target(where)
    with shown("looking what is there already"):
        present = [one for one in manifests if there.find(one["kind"], one["metadata"]["name"]) is not None]
    if present and not force:
        named = ", ".join(f"{one['kind']}/{one['metadata']['name']}" for one in present)
        raise CommandError(f"{named} is there already: --force replaces it")
    for one in manifests:
        kind, name = one["kind"], one["metadata"]["name"]
        with shown(f"applying {kind}/{name}"):
            if one in present:
                spec = one["spec"]
                done = there.change(kind, name, lambda item, spec=spec: item.update(spec=spec))
            else:
                done = there.create(one)
        print(done)
    chosen = "".join(
        f" {option} {value}"
        for option, value in (("-n", where.namespace), ("--context", where.context))
        if value
    )
    print(
        f"kubectl wait{chosen} --for=condition=Programmed --timeout=5m mailgateway/default listener/public",
        file=sys.stderr,
    )
