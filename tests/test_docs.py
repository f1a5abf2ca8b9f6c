"""What the documentation says is true: the map is the tree, commands exist, links lead somewhere, the example runs."""

import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from datamodules.conf import read_conf
from datamodules.tasks import Task

ROOT = Path(__file__).parents[1]
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "results/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
)
TEXTS = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}
README = TEXTS["README.md"]
ROOMS = ("datamodules", "lightning_modules", "rllib_envs", "sweeps", "scripts")
COMMANDS = sorted(
    {line for text in TEXTS.values() for line in re.findall(r"^    (python -m scripts\..*)$", text, re.MULTILINE)}
)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


def files_of_the_map() -> list[str]:
    """Paths in the README's map, where a folder stands above its files."""
    paths, folder = [], ""
    for line in README.partition("<!-- map: start -->")[2].partition("<!-- map: end -->")[0].splitlines():
        entry = re.match(r" {4,}(\S+) ", line + " ")
        if entry and entry[1].endswith("/"):
            folder = entry[1]
        elif entry:
            paths.append(folder + entry[1])
    return paths


def source_files() -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *ROOMS],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    present = (path for path in listed if (ROOT / path).is_file())
    unlisted = {f"{room}/{name}" for room in ROOMS for name in ("__init__.py", "py.typed")}
    return set(present) - unlisted


def test_map_lists_every_source_file_once() -> None:
    listed = files_of_the_map()
    assert sorted(listed) == sorted(source_files())


@pytest.mark.parametrize("page", TEXTS)
def test_files_named_in_the_text_exist(page: str) -> None:
    named = set(re.findall(r"\b(?:conf|docs)/[\w/]+\.\w+", TEXTS[page]))
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def anchors_of(page: Path) -> set[str]:
    """What GitHub makes of the page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TEXTS)
def test_links_within_the_repository_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", TEXTS[page]):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page} links to {link}"
        assert not anchor or anchor in anchors_of(target), f"{page} links to {link}"


def test_make_targets_exist() -> None:
    for target in set(re.findall(r"`?make ([a-z]+)`?(?=\n|`)", "".join(TEXTS.values()))):
        planned = subprocess.run(["make", "-n", target], cwd=ROOT, check=False, capture_output=True, text=True)
        assert planned.returncode == 0, planned.stderr


@cache
def help_of(*command: str) -> str:
    asked = [sys.executable, "-m", *command, "--help"]
    return subprocess.run(asked, cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.split()[2].removeprefix("scripts."))
def test_command_and_its_options_exist(command: str) -> None:
    words = shlex.split(command)[2:]
    subcommand = [word for word in words[1:2] if not word.startswith("-")]
    shown = help_of(words[0], *subcommand)
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"{re.escape(option)}[ ,\n]", shown), f"{words[0]} has no {option}"


def test_examples_named_in_the_text_exist() -> None:
    named = re.findall(r"python -m (examples\.\w+)", README)
    assert named
    assert [name for name in named if not (ROOT / f"{name.replace('.', '/')}.py").is_file()] == []


def test_python_example_runs_without_ray_and_lightning() -> None:
    example = re.findall(r"```python\n(.+?)```", README, re.DOTALL)
    assert len(example) == 1
    checked = example[0] + (
        "import sys\nassert not {'ray', 'pytorch_lightning', 'open_clip', 'mlflow'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", checked], cwd=ROOT, env=ENVIRONMENT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"learned return -?[\d.]+, true return [\d.]+\n", done.stdout)


def test_task_of_the_readme_is_a_valid_task(tmp_path: Path) -> None:
    block = re.search(r"(?:^    .*\n)+", README[README.index("    name: pendulum_swingup") :], re.MULTILINE)
    assert block is not None
    (tmp_path / "task.yaml").write_text(re.sub(r"^    ", "", block[0], flags=re.MULTILINE))
    assert read_conf(Task, tmp_path / "task.yaml").simulator == "pendulum-swingup"
