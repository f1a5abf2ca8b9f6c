"""The command as a user runs it: page, result.json and MLflow run; sentences added by the bundled teacher; mistakes."""

import json
from pathlib import Path

import mlflow
import pytest

from datamodules.conf import read_conf
from datamodules.manifest import read_manifest
from datamodules.results import read_json
from lightning_modules.labelling import label_frames
from lightning_modules.settings import TeacherSettings
from lightning_modules.teacher import ClipTeacher
from scripts.audit_reward import audit_reward
from scripts.command import run
from tests.data_sets import write_frames
from tests.sweeps.audits import write_audit_labels

CONF = Path(__file__).parents[2] / "conf"
LIST = """
alphas: [0, 0.5]
candidates:
  - {name: right, goal: [up], baseline: [sideways]}
  - {name: "opp/osite", goal: [down], alphas: [0], control: true}
"""


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_audit_labels(tmp_path / "labels")


def test_everything_lies_beside_the_labels_and_in_mlflow(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.yaml").write_text(LIST)
    store = f"sqlite:///{tmp_path}/mlflow.db"
    run(audit_reward, [f"--labels={labels}", f"--prompts={tmp_path}/list.yaml", "--seed=4", f"--tracking.uri={store}"])
    path = tmp_path / "audit" / "result.json"
    assert capsys.readouterr().out.splitlines()[-1] == str(path)
    result = read_json(path)
    assert (tmp_path / "audit" / "audit.html").is_file()
    assert {
        key: result[key] for key in ("task", "samples", "episodes", "seed", "teacher_queries", "sentences_added")
    } == {
        "task": "swing",
        "samples": 400,
        "episodes": 40,
        "seed": 4,
        "teacher_queries": 0,
        "sentences_added": 0,
    }
    assert [[at["alpha"] for at in each["alphas"]] for each in result["candidates"]] == [[0, 0.5], [0]]
    assert [each["verdict"] for each in result["candidates"]] == ["good", "bad"]
    assert result["answer"]["candidate"] == "right"
    assert "seed 7" in result["coverage"]
    assert result["settings"]["prompts"]["alphas"] == [0, 0.5]

    recorded = mlflow.MlflowClient(tracking_uri=store).get_run(result["mlflow"]["run_id"])
    first = result["candidates"][0]
    assert result["mlflow"]["experiment"] == "audits"
    assert recorded.data.metrics["right/auroc"] == pytest.approx(first["alphas"][0]["auroc"])
    assert recorded.data.metrics["right/alpha"] == first["best_alpha"]
    assert recorded.data.tags["opp_osite/verdict"] == "bad"
    files = tmp_path / "mlartifacts" / "audits" / recorded.info.run_id / "artifacts"
    assert (files / "audit.html").read_bytes() == (tmp_path / "audit" / "audit.html").read_bytes()


def test_without_a_list_the_tasks_own_prompts_are_audited(labels: Path, tmp_path: Path) -> None:
    result = read_json(run(audit_reward, [f"--labels={labels}", f"--out={tmp_path}/mine", "--tracking=null"]))
    (task,) = result["candidates"]
    assert (task["name"], task["goal"], task["baseline"]) == ("task", ["up"], ["sideways"])
    assert [at["alpha"] for at in task["alphas"]] == [0, 0.25, 0.5, 0.75, 1]
    assert "mlflow" not in result


def test_new_sentences_are_added_without_a_teacher_query(tmp_path: Path) -> None:
    teacher = CONF / "teacher" / "bundled.yaml"
    labels = tmp_path / "labels"
    label_frames(write_frames(tmp_path / "frames"), ClipTeacher(read_conf(TeacherSettings, teacher)), labels)
    (tmp_path / "list.yaml").write_text(
        json.dumps({"candidates": [{"name": "new", "goal": ["a stick"], "baseline": ["a cart"]}]})
    )
    given = [f"--labels={labels}", f"--prompts={tmp_path}/list.yaml", f"--teacher={teacher}", "--tracking=null"]
    first, second = read_json(run(audit_reward, given)), read_json(run(audit_reward, given))
    assert (first["sentences_added"], second["sentences_added"]) == (2, 0)
    assert first["teacher_queries"] == 0
    assert {"a stick", "a cart"} <= read_manifest(labels).prompts.keys()
    assert read_manifest(labels).teacher_queries == 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels=nowhere"], "holds no finished data set"),
        (["--labels={labels}", "--seed=-1"], "seed is -1"),
        (["--labels={labels}", "--tracking.uri=sqlite:////proc/none/mlflow.db"], "the MLflow store 'sqlite"),
        (["--labels={labels}", "--prompts={folder}/unknown.yaml"], "no text embedding of 'a stick'"),
        (["--labels={labels}", "--prompts={folder}/bare.yaml"], "'bare' has no baseline, and alpha 1 needs one"),
    ],
)
def test_a_mistake_is_one_message_and_leaves_nothing(
    labels: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "unknown.yaml").write_text("candidates: [{name: new, goal: [a stick], baseline: [up]}]")
    (tmp_path / "bare.yaml").write_text("candidates: [{name: bare, goal: [up]}]")
    with pytest.raises(SystemExit) as ended:
        run(audit_reward, [argument.format(labels=labels, folder=tmp_path) for argument in arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "audit").exists()
