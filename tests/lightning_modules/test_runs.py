"""Runs against a real sqlite store, read back with MLflow's own client."""

import json
import time
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import psutil
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from datamodules.errors import SettingsError
from datamodules.manifest import read_manifest
from datamodules.records import decode_frame, encode_frame
from lightning_modules import run_spool, system_metrics
from lightning_modules.runs import PARAMETER_CHARACTERS, Run
from tests.lightning_modules.servers import free_port, server
from tests.lightning_modules.students import frame_of, write_labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def store(folder: Path) -> str:  # making an sqlite store takes seconds, so the tests share one
    return f"sqlite:///{folder}/mlflow.db"


def test_a_run_holds_its_curve_parameters_and_files(store: str, folder: Path, tmp_path: Path) -> None:
    figure = tmp_path / "note.txt"
    figure.write_text("kept")
    with Run(store, "curves", "first") as run:
        run.log_settings({"sac": {"gamma": 0.99}})
        run.log_metrics({"eval/true_return": 10.0}, step=0)
        run.log_metrics({"eval/true_return": 500.0}, step=1000)
        run.log_file(figure, "notes")
        run.log_image("curve", b"png bytes")
    client = mlflow.MlflowClient(tracking_uri=store)
    read = client.get_run(run.run_id)
    assert read.info.status == "FINISHED"
    assert read.info.run_name == "first"
    assert read.data.params == {"sac.gamma": "0.99"}
    history = client.get_metric_history(run.run_id, "eval/true_return")
    assert [(point.step, point.value) for point in history] == [(0, 10.0), (1000, 500.0)]
    assert (folder / "mlartifacts/curves" / run.run_id / "artifacts/notes/note.txt").read_text() == "kept"
    assert (folder / "mlartifacts/curves" / run.run_id / "artifacts/figures/curve.png").exists()


def test_a_series_of_pictures_is_kept_step_by_step(store: str, tmp_path: Path) -> None:
    with Run(store, "pictures", "series", spool=tmp_path / "mlflow.spool") as run:
        for step in (0, 1000):
            run.log_image("evaluation", encode_frame(frame_of(0, step // 1000)), step)
    client = mlflow.MlflowClient(tracking_uri=store)
    paths = [item.path for item in client.list_artifacts(run.run_id, "images")]
    whole = sorted(path for path in paths if path.endswith(".png"))  # MLflow keeps a smaller copy of each, too
    assert [path.split("+step+")[1].split("+")[0] for path in whole] == ["0", "1000"]
    for path, step in zip(whole, (0, 1), strict=True):
        kept = client.download_artifacts(run.run_id, path, str(tmp_path))
        np.testing.assert_array_equal(decode_frame(Path(kept).read_bytes()), frame_of(0, step))


def test_a_long_value_is_kept_whole_as_a_tag(store: str) -> None:
    prompt = "a pole " * PARAMETER_CHARACTERS
    with Run(store, "question", "long") as run:
        run.log_settings({"prompts.goal": prompt, "seed": 3})
    data = mlflow.MlflowClient(tracking_uri=store).get_run(run.run_id).data
    assert data.tags["prompts.goal"] == prompt
    assert data.params == {"seed": "3"}


def test_going_on_with_a_run_makes_no_second_one(store: str) -> None:
    with pytest.raises(RuntimeError, match="stopped"), Run(store, "resumed", "resumed") as run:
        raise RuntimeError("stopped")
    client = mlflow.MlflowClient(tracking_uri=store)
    assert client.get_run(run.run_id).info.status == "FAILED"
    with Run(store, "resumed", "resumed", run_id=run.run_id) as again:
        assert client.get_run(run.run_id).info.status == "RUNNING"
    assert again.run_id == run.run_id
    assert len(client.search_runs([run.experiment_id])) == 1


def test_a_server_that_does_not_answer_is_named_where_records_cannot_wait() -> None:
    with pytest.raises(SettingsError, match=r"http://127\.0\.0\.1:9'.*local store"):
        Run("http://127.0.0.1:9", "question", "lost").begin()


@pytest.mark.parametrize("uri", ["nowhere://store", "sqlite:///{folder}/no_database.db", "sqlite:////proc/none/x.db"])
def test_a_store_that_is_none_is_an_error_before_the_work_and_not_waited_for(uri: str, tmp_path: Path) -> None:
    (tmp_path / "no_database.db").write_text("this is no database")
    with pytest.raises(SettingsError, match=r"the MLflow store '.*cannot be used"):
        Run(uri.format(folder=tmp_path), "question", "none", spool=tmp_path / "mlflow.spool").begin()
    assert not (tmp_path / "mlflow.spool").exists() or not (tmp_path / "mlflow.spool").read_text()


@pytest.mark.slow
def test_a_server_that_goes_away_stops_nothing_and_gets_its_records_later(
    store: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_spool, "SECONDS_BETWEEN_TRIES", 0.0)
    port, spool, note = free_port(), tmp_path / "mlflow.spool", tmp_path / "note.txt"
    note.write_text("kept")
    with server(folder, port) as address:
        run = Run(address, "spooled", "spooled", spool=spool)
        run.begin()
        run.log_metrics({"eval/true_return": 1.0}, step=0)
        assert not spool.exists()
    with run:
        run.log_metrics({"eval/true_return": 2.0}, step=100)
        run.set_tags({"task": "cartpole"})
        run.log_settings({"sac": {"gamma": 0.9}})
        run.log_file(note, "notes")
        run.log_image("curve", b"png bytes")
    waiting = [json.loads(line)["call"] for line in spool.read_text().splitlines()]
    kept = ["begin", "metrics", "tag", "parameters", "file", "image", "end"]
    assert [call for call in waiting if call != "system"] == kept
    with server(folder, port) as address:
        with Run(address, "spooled", "spooled", run.run_id, spool=spool):
            assert not spool.exists()
        client = mlflow.MlflowClient(tracking_uri=address)
        history = client.get_metric_history(run.run_id, "eval/true_return")
        assert [(point.step, point.value) for point in history] == [(0, 1.0), (100, 2.0)]
        read = client.get_run(run.run_id)
        assert (read.data.tags["task"], read.data.params, read.info.status) == (
            "cartpole",
            {"sac.gamma": "0.9"},
            "FINISHED",
        )
        assert {item.path for item in client.list_artifacts(run.run_id)} == {"notes", "figures"}


def test_a_run_tells_how_busy_its_machine_is_by_the_second(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_metrics, "SECONDS_BETWEEN_SAMPLES", 1.0)
    with Run(store, "machine", "busy") as run:
        time.sleep(1.5)
    client = mlflow.MlflowClient(tracking_uri=store)
    with Run(store, "machine", "busy", run.run_id):
        time.sleep(0.5)  # and the last of its samples is taken
    used = client.get_metric_history(run.run_id, "system/system_memory_usage_percentage")
    assert len(used) >= 3
    memory = psutil.virtual_memory()
    assert all(abs(point.value - 100 * memory.used / memory.total) < 20 for point in used)
    start = client.get_run(run.run_id).info.start_time
    assert [point.step for point in used] == [(point.timestamp - start) // 1000 for point in used]
    assert used[-1].step > used[0].step  # a run that is gone on with does not begin anew
    load = client.get_metric_history(run.run_id, "system/cpu_utilization_percentage")
    assert all(0 <= point.value <= 100 for point in load)


@pytest.mark.slow
def test_a_run_that_begins_while_the_server_is_away_is_made_when_it_is_there(
    store: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run_spool, "SECONDS_BETWEEN_TRIES", 0.0)
    port, made, begun_at = free_port(), list[str](), time.time()
    run = Run(f"http://127.0.0.1:{port}", "late", "late", spool=tmp_path / "out/mlflow.spool", on_begin=made.append)
    run.begin()
    run.log_metrics({"eval/true_return": 1.0}, step=0)
    assert (run.run_id, made, run.deliver()) == (None, [], tmp_path / "out/mlflow.spool")
    assert caplog.text.count("MLflow does not answer") == 1
    before_the_server = time.time()
    with server(folder, port) as address:
        run.log_metrics({"eval/true_return": 2.0}, step=100)
        assert run.deliver() is None
        run.end("FINISHED")
        [found] = mlflow.MlflowClient(tracking_uri=address).search_runs([run.experiment_id])
        assert made == [run.run_id] == [found.info.run_id]
        assert (found.info.run_name, found.info.status) == ("late", "FINISHED")
        assert begun_at <= found.info.start_time / 1000 + 0.001 <= before_the_server
        history = mlflow.MlflowClient(tracking_uri=address).get_metric_history(run.run_id, "eval/true_return")
        assert [(point.step, point.value) for point in history] == [(0, 1.0), (100, 2.0)]


def test_what_a_killed_process_could_not_deliver_is_delivered_by_the_next(store: str, tmp_path: Path) -> None:
    spool, made = tmp_path / "mlflow.spool", list[str]()
    spool.write_text(
        '{"call": "begin", "time": 1000}\n{"call": "metrics", "values": {"loss": 0.5}, "time": 2000, "step": 7}\n'
    )
    with Run(store, "left", "left", spool=spool, on_begin=made.append) as run:
        pass
    [found] = mlflow.MlflowClient(tracking_uri=store).search_runs([run.experiment_id])
    assert (made, found.info.start_time, found.info.status) == ([found.info.run_id], 1000, "FINISHED")
    own = {name: value for name, value in found.data.metrics.items() if not name.startswith("system/")}
    assert own == {"loss": 0.5}


def test_what_a_machine_did_before_a_kill_keeps_its_seconds(store: str, tmp_path: Path) -> None:
    with Run(store, "left", "known") as run:
        pass
    client, spool = mlflow.MlflowClient(tracking_uri=store), tmp_path / "mlflow.spool"
    at = client.get_run(run.run_id).info.start_time + 5000
    spool.write_text(json.dumps({"call": "system", "values": {"system/load": 0.5}, "time": at}) + "\n")
    with Run(store, "left", "known", run.run_id, spool=spool):
        pass
    assert [point.step for point in client.get_metric_history(run.run_id, "system/load")] == [5]


def test_labelled_data_is_an_input_of_the_run_once_with_its_digest(store: str, tmp_path: Path) -> None:
    manifest = read_manifest(write_labels(tmp_path / "labels", episodes=2, steps=3))
    with Run(store, "data", "data") as run:
        for _ in range(2):
            run.log_data(str(tmp_path / "labels"), manifest)
    [data] = mlflow.MlflowClient(tracking_uri=store).get_run(run.run_id).inputs.dataset_inputs
    assert data.dataset.name == "cartpole_swingup"
    assert data.dataset.digest == manifest.digest[:36]
    assert json.loads(data.dataset.profile) == {
        **{"samples": 6, "digest": manifest.digest, "teacher_queries": 0, "teacher": "tiny/known"}
    }
    assert json.loads(data.dataset.source) == {"uri": str(tmp_path / "labels")}


def test_a_record_that_the_store_refuses_is_an_error_once(store: str, tmp_path: Path) -> None:
    spool = tmp_path / "mlflow.spool"
    with Run(store, "refused", "refused", spool=spool) as run:
        with pytest.raises(MlflowException, match="no/such//tag"):
            run.set_tags({"no/such//tag": "x"})
        run.log_metrics({"final/score": 1.0})
    assert not spool.exists()


def test_a_record_torn_by_a_kill_is_left_out_and_those_around_it_arrive(store: str, tmp_path: Path) -> None:
    with Run(store, "torn", "torn") as run:
        pass
    spool = tmp_path / "mlflow.spool"
    spool.write_text('{"call": "tag", "key": "first", "value": "1"}\n{"call": "tag", "key": "tor')
    with Run(store, "torn", "torn", run.run_id, spool=spool) as again:
        again.set_tags({"last": "3"})
    tags = mlflow.MlflowClient(tracking_uri=store).get_run(run.run_id).data.tags
    assert {key: tags[key] for key in tags if key in ("first", "tor", "torn", "last")} == {"first": "1", "last": "3"}
    assert not spool.exists()


def test_settings_that_changed_before_a_run_is_gone_on_with_become_tags(store: str) -> None:
    with Run(store, "changed", "changed") as run:
        run.log_settings({"gamma": 0.9, "seed": 1})
    with Run(store, "changed", "changed", run.run_id) as again:
        again.log_settings({"gamma": 0.5, "seed": 1, "tau": 0.1})
    data = mlflow.MlflowClient(tracking_uri=store).get_run(run.run_id).data
    assert data.params == {"gamma": "0.9", "seed": "1", "tau": "0.1"}
    assert data.tags["gamma"] == "0.5"
    assert "seed" not in data.tags


@pytest.mark.slow
def test_a_server_that_answers_too_late_makes_one_run(
    store: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, asked = mlflow.MlflowClient.create_run, list[str]()

    def too_late(self: mlflow.MlflowClient, *args: Any, **kwargs: Any) -> Any:
        made = create(self, *args, **kwargs)
        asked.append(made.info.run_id)
        if len(asked) == 1:
            raise MlflowException("timed out", error_code=TEMPORARILY_UNAVAILABLE)
        return made

    monkeypatch.setattr(mlflow.MlflowClient, "create_run", too_late)
    monkeypatch.setattr(run_spool, "SECONDS_BETWEEN_TRIES", 0.0)
    with server(folder, free_port()) as address:
        with Run(address, "slow", "slow", spool=tmp_path / "mlflow.spool") as run:
            assert run.run_id is None
            run.log_metrics({"loss": 1.0})
        found = mlflow.MlflowClient(tracking_uri=address).search_runs([run.experiment_id])
    assert [each.info.run_id for each in found] == [run.run_id] == asked


def test_a_child_knows_its_parent(store: str) -> None:
    with Run(store, "family", "parent") as parent, Run(store, "family", "child", parent=parent.run_id) as child:
        pass
    tags = mlflow.MlflowClient(tracking_uri=store).get_run(child.run_id).data.tags
    assert tags["mlflow.parentRunId"] == parent.run_id
