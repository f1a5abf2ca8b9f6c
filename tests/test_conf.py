"""Every file under conf/ is valid, and all but the student's load without torch, ray, a network or a GPU."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from datamodules.conf import read_conf
from datamodules.tasks import Task
from lightning_modules.sentences import read_sentences
from lightning_modules.settings import TeacherSettings
from rllib_envs.refinement_settings import RefinementSettings
from rllib_envs.settings import PpoSettings, SacSettings
from scripts.fit_student import main as fit_student
from sweeps.audit_settings import PromptList
from sweeps.settings import SweepConfig, TrialConfig
from sweeps.space import trials_of

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
TYPES: dict[str, type] = {
    "audits": PromptList,
    "tasks": Task,
    "teacher": TeacherSettings,
    "sac": SacSettings,
    "ppo": PpoSettings,
    "refinement": RefinementSettings,
    "trials": TrialConfig,
    "sweeps": SweepConfig,
}
HEAVY = {"torch", "ray", "pytorch_lightning", "open_clip", "mlflow", "mujoco", "matplotlib"}
SENTENCES = CONF / "teacher" / "captions.yaml"


def settings_files() -> list[Path]:
    """The files that hold one settings dataclass each; the folder says which."""
    return sorted(path for folder in TYPES for path in (CONF / folder).glob("*.yaml") if path != SENTENCES)


def name_of(path: Path) -> str:
    return path.relative_to(CONF).as_posix()


def parse(path: Path) -> Any:
    return read_conf(TYPES[path.parent.name], path)


@pytest.mark.parametrize("path", settings_files(), ids=name_of)
def test_file_holds_valid_settings(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert isinstance(parse(path), TYPES[path.parent.name])


@pytest.mark.parametrize("path", sorted((CONF / "tasks").glob("*.yaml")), ids=name_of)
def test_task_is_named_after_its_file(path: Path) -> None:
    assert parse(path).name == path.stem


@pytest.mark.parametrize("path", sorted((CONF / "audits").glob("*.yaml")), ids=name_of)
def test_audit_has_eight_candidates_or_more_controls_and_its_tasks_own_prompts(path: Path) -> None:
    candidates, own = parse(path).candidates, parse(CONF / "tasks" / path.name).prompts
    assert len(candidates) >= 8
    assert {each.control for each in candidates} == {True, False}
    assert (own.goal, own.baseline) in [(each.goal, each.baseline) for each in candidates]


@pytest.mark.parametrize("path", sorted((CONF / "sweeps").glob("*.yaml")), ids=name_of)
def test_sweep_is_named_after_its_file_and_all_its_trials_are_valid(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    sweep = parse(path)
    trials = trials_of(sweep)
    assert sweep.name == path.stem
    assert len({trial.name for trial in trials}) == len(trials)
    assert len(trials) > 1 or sweep.search is not None


def test_captions_are_valid_in_both_parts() -> None:
    train, held_out = read_sentences(SENTENCES), read_sentences(SENTENCES, held_out=True)
    assert train != held_out


@pytest.mark.parametrize("path", sorted((CONF / "student").glob("*.yaml")), ids=name_of)
def test_student_file_holds_valid_settings(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:  # prints the whole configuration and ends before any work
        fit_student(["fit", f"--config={path}", "--data.labels=runs/x/labels", "--print_config"])
    assert ended.value.code in (0, None), capsys.readouterr().err


def test_every_folder_of_conf_is_tested() -> None:
    assert {path.name for path in CONF.iterdir()} <= {*TYPES, "student"}


def test_settings_load_without_torch_and_ray() -> None:
    code = (
        "import sys; from tests.test_conf import parse, settings_files\n"
        "for path in settings_files(): parse(path)\n"
        f"sys.exit(', '.join({HEAVY} & set(sys.modules)))"
    )
    outcome = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert outcome.stderr.strip() == ""
