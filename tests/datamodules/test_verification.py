"""Every kind of damage is named, each by its shard, and whole data sets are called whole."""

from dataclasses import replace
from pathlib import Path

import pytest

from datamodules.errors import DataError
from datamodules.manifest import read_manifest
from datamodules.records import encode
from datamodules.results import read_json
from datamodules.shards import Damage, write_shard
from datamodules.verification import verify_data, verify_place
from tests.data_sets import frame_of, sample_of, write_frames, write_labels
from tests.loopback import Loopback


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_labels(tmp_path / "labels")


def swap(first: Path, second: Path) -> None:
    contents = first.read_bytes(), second.read_bytes()
    second.write_bytes(contents[0])
    first.write_bytes(contents[1])


def rewrite(labels: Path, number: int, samples: list[tuple[str, dict[str, bytes]]]) -> None:
    """Another content for a shard, with a manifest that says so: whole, and wrong in itself."""
    manifest = read_manifest(labels)
    shard = write_shard(labels / manifest.shards[number].name, samples)
    replace(manifest, shards=(*manifest.shards[:number], shard, *manifest.shards[number + 1 :])).write(labels)


@pytest.mark.parametrize("write", [write_labels, write_frames])
def test_a_whole_data_set_is_called_whole(tmp_path: Path, write: object, capsys: pytest.CaptureFixture[str]) -> None:
    place = write(tmp_path / "data")  # type: ignore[operator]  # parametrized
    reports: list[tuple[int, int]] = []
    assert verify_data(place, lambda done, total, note: reports.append((done, total))).whole
    assert reports[-1] == (50, 50)
    assert verify_place(str(place), tmp_path / "out") == tmp_path / "out" / "result.json"
    assert capsys.readouterr().out == "all 7 shards whole, 50 samples decoded\n"
    assert read_json(tmp_path / "out" / "result.json")["samples"] == 50


def test_each_damage_is_named_with_its_kind(labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = sorted(labels.glob("*.tar"))
    swap(shards[0], shards[1])
    shards[2].write_bytes(shards[2].read_bytes()[:-512])
    shards[3].unlink()
    content = bytearray(shards[4].read_bytes())
    content[700] ^= 1
    shards[4].write_bytes(content)
    (labels / "shard-000099.tar").write_bytes(b"left over")
    found = verify_data(labels)
    assert found.damaged == (
        Damage("shard-000000.tar", "mixed up: it holds the content of shard-000001.tar"),
        Damage("shard-000001.tar", "mixed up: it holds the content of shard-000000.tar"),
        Damage("shard-000002.tar", f"{len(content) - 512:,} bytes instead of {len(content):,}"),
        Damage("shard-000003.tar", "missing"),
        Damage("shard-000004.tar", "its content changed (another sha256)"),
    )
    assert (found.unknown, found.broken) == (("shard-000099.tar",), ())
    with pytest.raises(DataError, match=r"5 of 7 shards damaged, 1 shards that the manifest does not know.*") as caught:
        verify_place(str(labels), tmp_path / "out")
    assert f"scripts.label_frames again with --out {labels}" in str(caught.value)
    output = capsys.readouterr().out
    assert all(f"shard-{number:06d}.tar" in output for number in (0, 1, 2, 3, 4, 99))
    assert len(read_json(tmp_path / "out" / "result.json")["damaged"]) == 5


def test_a_sample_that_is_there_twice_is_named(labels: Path) -> None:
    samples = [(sample_of(0, step, True).key, encode(sample_of(0, step, True))) for step in (1, 4)]
    rewrite(labels, 6, samples)
    broken = verify_data(labels).broken
    assert [damage.shard for damage in broken] == ["shard-000006.tar"] * 2
    assert broken[0].reason == "sample 000000-000001 is there twice, first in shard-000000.tar"


def test_samples_against_the_schema_are_named_each(labels: Path) -> None:
    wrong = {
        "000090-000000": encode(sample_of(90, 0)),  # not labelled
        "000090-000001": encode(replace(sample_of(90, 1, True), frame=frame_of(9, 1, 20))),
        "000090-000002": {**encode(sample_of(90, 2, True)), "frame.png": b"no picture"},
        "000090-000003": encode(replace(sample_of(90, 3, True), task="walker_walk")),
        "000090-000004": encode(sample_of(91, 4, True)),  # under another's key
    }
    rewrite(labels, 6, list(wrong.items()))
    found = verify_data(labels)
    assert found.damaged == ()
    expected = (
        "has no embedding.npy",
        "(20, 20, 3)",
        "not a readable PNG",
        "'walker_walk'",
        "belongs to 000091-000004",
    )
    for damage, key, reason in zip(found.broken, wrong, expected, strict=True):
        assert key in damage.reason
        assert reason in damage.reason


def test_a_manifest_that_counts_other_samples_is_named(labels: Path) -> None:
    manifest = read_manifest(labels)
    wrong = replace(manifest.shards[2], samples=9)
    replace(manifest, shards=(*manifest.shards[:2], wrong, *manifest.shards[3:])).write(labels)
    [broken] = verify_data(labels).broken
    assert "shard-000002.tar" in broken.shard
    assert "holds 8 samples, the manifest says 9" in broken.reason


def test_an_address_is_verified_as_a_folder_is(server: Loopback, tmp_path: Path) -> None:
    write_labels(tmp_path / "served" / "labels")
    place = f"{server.address}/labels"
    assert verify_data(place).whole
    server.shortened["shard-000001.tar"] = 1000
    server.broken_off["shard-000002.tar"] = 100
    (tmp_path / "served" / "labels" / "shard-000003.tar").unlink()
    (tmp_path / "served" / "labels" / "shard-000044.tar").write_bytes(b"left over")
    found = verify_data(place)
    assert [damage.shard for damage in found.damaged] == [f"shard-00000{number}.tar" for number in (1, 2, 3)]
    assert found.damaged[0].reason.startswith("1,000 bytes instead of")
    assert "tried 3 times" in found.damaged[1].reason
    assert found.damaged[2].reason == "missing"
    assert found.unknown == ("shard-000044.tar",)
