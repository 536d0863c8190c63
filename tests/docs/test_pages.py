"""The pages of docs: every command in them is run, as it stands, and every page and heading that they name is there."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.harness.ports import free_port

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
PAGES: Final = sorted(DOCS.glob("*.md"))


def blocks(page: str) -> list[str]:
    """Its commands, block by block."""
    return re.findall(r"^```sh\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A directory as the tutorial has it: a clone's root, but for what is written into it."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def test_the_tutorial_works_as_it_stands(workplace: Path) -> None:
    listener, receiver = str(free_port()), str(free_port())
    # Other ports alone: several tests may run at a time.
    script = "\n".join(blocks("tutorial.md")).replace("localhost:2525", f"localhost:{listener}")
    script = script.replace(
        "cp -r examples/quickstart mail", f"cp -r examples/quickstart mail && {_edit(listener, receiver)}"
    )
    script = script.replace("receiver.py state", f"receiver.py state {receiver}")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    # What was started in the background ends with the script.
    ended = "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT"
    done = subprocess.run(
        ("bash", "-eu", "-c", f"{ended}\n{script}"),
        cwd=workplace,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment,
    )
    told = "".join(
        (workplace / name).read_text() for name in ("up.log", "receiver.log") if (workplace / name).exists()
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:] + told[-3000:]
    assert "Everything is as it shall be" in done.stdout
    assert "verified example.com" in done.stdout
    assert "other.example.net" in done.stdout + told
    assert (workplace / "ours/gateway.yaml").is_file()
    assert len(list((workplace / "state/mailbox").iterdir())) >= 2


def _edit(listener: str, receiver: str) -> str:
    return f"sed -i 's/port: 2525/port: {listener}/; s/port: 2526/port: {receiver}/' mail/*.yaml"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#][^)]*)\)|\]\((#[^)]*)\)", page.read_text()):
        link = target[0] or target[1]
        if "://" in link:
            continue
        path, _, heading = link.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name} names {link}"
        if heading:
            found = {
                re.sub(r"[^\w\- ]", "", one.lower()).strip().replace(" ", "-")
                for one in re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            }
            assert heading in found, f"{page.name} names {link}"


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text()
    assert [page.name for page in PAGES if page.name != "README.md" and f"({page.name})" not in index] == []
