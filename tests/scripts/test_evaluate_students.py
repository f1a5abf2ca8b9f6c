"""The command as a user runs it: page and result.json; lists of folders; mistakes before any work."""

import shutil
from pathlib import Path

import pytest

from datamodules.results import read_json
from scripts.command import run
from scripts.evaluate_students import evaluate_students, with_lists
from sweeps.audit_verdict import shown
from tests.lightning_modules.students import TASK, write_labels
from tests.sweeps.fits import OTHER_TASK, fit
from tests.sweeps.page_reader import Page

SETS = ("squares", "walkers")
LIST = """
alphas: [0, 0.5]
candidates:
  - {name: darker, goal: [a dark square], baseline: [a square]}
  - {name: the fit's, goal: [a bright square], baseline: [a square]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two students and two data sets, and a list of prompts."""
    folder = tmp_path_factory.mktemp("evaluation")
    write_labels(folder / "squares")
    write_labels(folder / "walkers", episodes=10, task=OTHER_TASK)
    fit(folder / "embedding", folder / "squares", head="embedding")
    fit(folder / "reward", folder / "squares", epochs=1)
    (folder / "list.yaml").write_text(LIST)
    return folder


def given(folder: Path, *more: str) -> list[str]:
    students, labels = ([f"{folder}/{name}" for name in names] for names in (("embedding", "reward"), SETS))
    return with_lists(["--students", *students, "--labels", *labels, f"--out={folder}/out", *more])


def test_page_and_figures_lie_in_the_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(evaluate_students, given(folder, f"--prompts={folder}/list.yaml"))
    assert capsys.readouterr().out.splitlines()[-1] == f"{folder}/out/result.json"
    result, page = read_json(folder / "out" / "result.json"), Page(folder / "out" / "students.html")
    assert list(result["students"]) == ["embedding", "reward"]
    assert [each["task"] for each in result["data_sets"].values()] == [TASK.name, "walker_walk"]
    first = result["students"]["reward"]
    assert (first["head"], first["epochs"], first["tasks"]) == ("reward", 1, [TASK.name])
    assert first["parameters"] == read_json(folder / "reward" / "result.json")["parameters"]
    assert first["bytes"] == (folder / "reward" / "student.safetensors").stat().st_size
    assert set(first["milliseconds"]) == {"1", "16"}
    for student in result["students"]:
        for place in result["data_sets"]:
            agreement = result["agreement"][student][place]
            assert agreement["frames"] == ("held out" if place.endswith("squares") else "other task")
            assert f"{shown(agreement['within']['mean'], 3)} {agreement['frames']}" in page.text
    assert [(each["candidate"], each["prompts"]["alpha"]) for each in result["prompts"]] == 2 * [
        ("darker", 0.0),
        ("darker", 0.5),
        ("the fit's", 0.0),
        ("the fit's", 0.5),
    ]
    assert "On 4 prompts that no fit knew" in page.text
    assert "2 students on 2 data sets" in page.text


def test_page_fetches_nothing(folder: Path) -> None:
    run(evaluate_students, given(folder))
    path = folder / "out" / "students.html"
    page = Page(path)
    assert page.headings == ["Who follows the teacher, and where", "What they cost", "Do it again"]
    assert all(address.startswith("data:") for address in page.addresses)
    assert "<script" not in path.read_text()


def test_lists_are_given_with_spaces_or_as_yaml() -> None:
    assert with_lists(["--students", "a", "b", "--seed", "3", "--labels", "x"]) == [
        '--students=["a", "b"]',
        "--seed",
        "3",
        '--labels=["x"]',
    ]
    as_yaml = ["--students", "[a, b]", "--labels=[x]"]
    assert with_lists(as_yaml) == as_yaml


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--students {f}/nobody --labels {f}/squares", "nobody holds no student"),
        ("--students {f}/reward --labels {f}/nowhere", "holds no finished data set"),
        ("--students {f}/reward {f}/reward --labels {f}/squares", "students names {f}/reward twice"),
        ("--students {f}/reward --labels {f}/squares {f}/squares", "labels names {f}/squares twice"),
        ("--students {f}/reward --labels {f}/squares --seed -1", "seed is -1"),
        ("--students {f}/reward --labels {f}/squares --prompts {f}/list.yaml", "no student has an embedding head"),
        (
            "--students {f}/embedding --labels {f}/squares --prompts {f}/new.yaml",
            "no text embedding of 'a grey square'",
        ),
        ("--labels {f}/squares", "students"),
    ],
)
def test_a_mistake_is_one_message_and_leaves_nothing(
    folder: Path, arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "new.yaml").write_text("candidates: [{name: new, goal: [a grey square], alphas: [0]}]")
    shutil.rmtree(folder / "out", ignore_errors=True)
    with pytest.raises(SystemExit) as ended:
        run(evaluate_students, with_lists([*arguments.format(f=folder).split(), f"--out={folder}/out"]))
    assert ended.value.code == 2
    assert message.format(f=folder) in capsys.readouterr().err
    assert not (folder / "out").exists()
