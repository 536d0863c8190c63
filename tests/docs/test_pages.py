"""The pages of docs: every command in them is run, as it stands, and every page and heading that they name is there."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.cli.test_command_line import ALL
from tests.harness.ports import free_port

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
PAGES: Final = sorted(DOCS.glob("*.md"))
# Which test runs the commands of a page.
RUN_BY: Final = {
    "tutorial.md": "docs/test_pages.py",
    "listeners.md": "apiserver/test_pages_on_cluster.py",
    "delivery.md": "apiserver/test_pages_on_cluster.py",
    "https.md": "apiserver/test_pages_on_cluster.py",
    "troubleshooting.md": "apiserver/test_pages_on_cluster.py",
    "certificates.md": "apiserver/test_certificate_commands.py",
    "operations.md": "cluster/test_chart.py",
}
# Commands that people measure with: each takes minutes of a machine that does nothing else, which no run of all tests
# has. What they are made of is run by tests/bench and by the tests that they name; here, that they can be called.
MEASURES: Final = ("bench", "durability", "e2e", "fuzz", "many", "vanish")


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


def test_every_command_on_every_page_is_run_by_a_test() -> None:
    with_commands = {page.name for page in PAGES if blocks(page.name)}
    assert with_commands == set(RUN_BY)
    for page, test in RUN_BY.items():
        assert page in (ROOT / "tests" / test).read_text(), f"{test} does not run {page}"
    # There the blocks are run one by one, each found by a word in it.
    chart = (ROOT / "tests" / RUN_BY["operations.md"]).read_text()
    words = set(re.findall(r'commands\(OPERATIONS, "([^"]+)"\)', chart))
    for block in blocks("operations.md"):
        assert sum(word in block for word in words) == 1, block


def spans(start: str) -> set[str]:
    """The words in the midst of sentences, on all pages, that are a command which begins so."""
    text = "\n".join(page.read_text() for page in (*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"))
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return set(re.findall(rf"`({start}[^`]*)`", outside))


def test_what_is_measured_can_be_called() -> None:
    named = {one.split()[1] for one in spans("make ")}
    assert named >= set(MEASURES)
    targets = re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert named <= set(targets)
    for command in spans("python -m "):
        assert importlib.util.find_spec(command.split()[2]) is not None, command


@pytest.mark.parametrize("said", sorted(spans("letterlock ")))
def test_commands_in_sentences_are_there_with_their_options(said: str) -> None:
    words = [one for one in said.split()[1:] if one != "…"]
    found = max((name for name in ALL if words[: len(name.split())] == name.split()), key=len, default="")
    assert found, said
    known = {option for one in ALL[found].params for option in (*one.opts, *one.secondary_opts)}
    assert {one.partition("=")[0] for one in words if one.startswith("-")} <= {*known, "--help"}, said
