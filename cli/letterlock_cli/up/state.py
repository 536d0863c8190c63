"""The state directory of `letterlock up`: all that is made from the manifests and outlives the process.

Layout, and who reads it besides us:

    manifests/FILE              the last good content of every file of the folder
    secrets/NAME/KEY            keys and certificates made here, and exports (people, and the examples' receiver)
    configmaps/NAME/KEY         exports of CA lists (people)
    status/KIND/NAME.yaml       every resource with its status (people, tests, `letterlock … --dir`)
    mount/GATEWAY/              what a member has mounted
    spool/MEMBER/               its mail
    log/MEMBER.log              its log
    problems                    what is wrong in the folder, one line each
    lock                        the id of the process that keeps it all

Files are 0600 and directories 0700: keys are among them.
"""

import contextlib
import fcntl
import hashlib
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self, cast

import yaml
from pydantic import ValidationError

from letterlock_api.base import API_VERSION
from letterlock_api.kinds import KINDS, AnyResource
from letterlock_cli.failures import CommandError
from letterlock_cli.up.atomic import make_directory, remove_link, swap_directory, write_file
from letterlock_operator.plan import AnyStatus, TextFile
from letterlock_operator.world import Keep

type Key = tuple[str, str]
"""(kind, name)."""

_LOCK_FILE: Final = "lock"
_OWNER_FILE: Final = ".owner"
_INPUTS_FILE: Final = ".inputs"
_PROBLEMS_FILE: Final = "problems"
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class State:
    """The state directory. Use as a context manager while writing: the lock keeps a second `up` out."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock: int | None = None
        self._problems: list[str] | None = None

    def __enter__(self) -> Self:
        try:
            make_directory(self.directory)
            self._lock = os.open(self.directory / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._lock, 0)
            os.write(self._lock, f"{os.getpid()}\n".encode())
        except BlockingIOError as error:
            raise CommandError(
                f"another `letterlock up` runs on {self.directory}: stop it, or give this one its own --state"
            ) from error
        except OSError as error:
            raise CommandError(
                f"cannot keep state in {self.directory}: {error.strerror}; give --state DIR"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def is_served(self) -> bool:
        """Whether a process keeps this state now. Taking the lock to find out would keep one out that starts."""
        try:
            os.kill(int((self.directory / _LOCK_FILE).read_text()), 0)
        except PermissionError:
            return True  # somebody else's
        except (OSError, ValueError):
            return False
        return True

    def mount(self, gateway: str) -> Path:
        """What the members of `gateway` have mounted."""
        return self.directory / "mount" / gateway

    def spool(self, member: str) -> Path:
        """The mail of `member`."""
        return make_directory(self.directory / "spool" / member)

    def log(self, member: str) -> Path:
        """The log of `member`."""
        return make_directory(self.directory / "log") / f"{member}.log"

    @property
    def manifests(self) -> Path:
        """Last good copies of the folder's files."""
        return self.directory / "manifests"

    def keeps(self) -> dict[str, Keep]:
        """The Secrets made here, by name."""
        return _keeps(self.directory / "secrets")

    def store_secret(self, name: str, owner: str, data: Mapping[str, bytes], inputs: str = "") -> None:
        """Write Secret `name` as a whole: its keys change together or not at all.

        `inputs`: what it was made from, where that is not in the data because others read it (an export).
        """
        link = make_directory(self.directory / "secrets") / name
        notes = {_OWNER_FILE: owner.encode(), **({_INPUTS_FILE: inputs.encode()} if inputs else {})}
        swap_directory(link, {**data, **notes}, f".{name}.{secrets.token_hex(4)}")

    def remove_secret(self, name: str) -> None:
        """Remove Secret `name`."""
        remove_link(self.directory / "secrets" / name)

    def texts(self) -> dict[str, Keep]:
        """The ConfigMaps with exports, by name."""
        return _keeps(self.directory / "configmaps")

    def store_text(self, text: TextFile) -> None:
        """Write such a ConfigMap, unless it stands already; take one away that shall hold nothing."""
        if not text.data:
            self.forget_text(text.name)
            return
        data = {key: value.encode() for key, value in text.data.items()}
        present = self.texts().get(text.name)
        if present is None or (present.data, present.owner) != (data, text.owner):
            link = make_directory(self.directory / "configmaps") / text.name
            swap_directory(
                link, {**data, _OWNER_FILE: text.owner.encode()}, f".{text.name}.{secrets.token_hex(4)}"
            )

    def forget_text(self, name: str) -> None:
        """Take such a ConfigMap away."""
        remove_link(self.directory / "configmaps" / name)

    def resources(self) -> dict[Key, AnyResource]:
        """Every resource with the status that was written last, by (kind, name); unreadable ones left out."""
        found: dict[Key, AnyResource] = {}
        for (kind, name), item in self.objects().items():
            with contextlib.suppress(ValidationError):
                found[kind, name] = KINDS[kind].model_validate(item)
        return found

    def objects(self) -> dict[Key, dict[str, Any]]:
        """The same as plain dicts, with those that do not fit the models and so have a status only."""
        found: dict[Key, dict[str, Any]] = {}
        for kind in KINDS:
            for path in _entries(self.directory / "status" / kind):
                if path.suffix == ".yaml" and not path.name.startswith("."):
                    with contextlib.suppress(OSError, yaml.YAMLError):
                        found[kind, path.stem] = _load(path)
        return found

    def store_status(self, resource: AnyResource, status: AnyStatus) -> None:
        """Write a resource with its status, as `kubectl get -o yaml` would show it."""
        metadata = {"name": resource.name, "generation": resource.metadata.generation}
        self._store(resource.kind, metadata, spec_as_written(resource), status)

    def store_invalid(self, kind: str, name: str, status: AnyStatus) -> None:
        """Write the status of a resource that does not fit the models."""
        self._store(kind, {"name": name}, None, status)

    def _store(
        self, kind: str, metadata: Mapping[str, Any], spec: Mapping[str, Any] | None, status: AnyStatus
    ) -> None:
        body = {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": metadata,
            **({"spec": spec} if spec is not None else {}),
            "status": status.model_dump(mode="json", by_alias=True, exclude_none=True),
        }
        text = yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=120)
        write_file(self.directory / "status" / kind / f"{metadata['name']}.yaml", text.encode())

    def forget_status(self, kind: str, name: str) -> None:
        """The resource is gone from the folder."""
        (self.directory / "status" / kind / f"{name}.yaml").unlink(missing_ok=True)

    def problems(self) -> list[str]:
        """What was wrong in the folder when `up` looked last, one line each."""
        path = self.directory / _PROBLEMS_FILE
        return path.read_text().splitlines() if path.is_file() else []

    def store_problems(self, problems: Sequence[str]) -> bool:
        """Write that. True if it is news."""
        lines = [" ".join(problem.split()) for problem in problems]
        if lines == self._problems:
            return False
        self._problems = lines
        write_file(self.directory / _PROBLEMS_FILE, "".join(f"{line}\n" for line in lines).encode())
        return True


def spec_as_written(resource: AnyResource) -> dict[str, Any]:
    """The spec with what the user wrote, without the defaults."""
    return resource.spec.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _keeps(directory: Path) -> dict[str, Keep]:
    found: dict[str, Keep] = {}
    for link in _entries(directory):
        if link.name.startswith("."):
            continue
        data = {path.name: path.read_bytes() for path in link.iterdir()}
        owner, inputs = (data.pop(name, b"").decode() for name in (_OWNER_FILE, _INPUTS_FILE))
        found[link.name] = Keep(
            link.name, data, ours=True, owner=owner, resource_version=_version(data), inputs=inputs
        )
    return found


def _version(data: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for key in sorted(data):
        digest.update(key.encode() + b"\0" + hashlib.sha256(data[key]).digest())
    return digest.hexdigest()[:16]


def _entries(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _load(path: Path) -> dict[str, Any]:
    loaded: Any = yaml.load(path.read_bytes(), Loader=_LOADER)  # noqa: S506 - a safe loader
    return cast("dict[str, Any]", loaded) if isinstance(loaded, dict) else {}
