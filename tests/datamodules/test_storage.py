"""Files come whole from a folder or a web server, or not at all, with a message that says why."""

import sys
from pathlib import Path

import pytest

from datamodules.errors import DataError, MissingDependencyError
from datamodules.storage import ATTEMPTS, MissingFileError, address_of, is_address, list_files, read_file
from tests.loopback import Loopback

CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def served(server: Loopback, tmp_path: Path) -> Loopback:
    (tmp_path / "served" / "shard-000000.tar").write_bytes(CONTENT)
    return server


@pytest.mark.parametrize(
    ("place", "address"),
    [
        (Path("runs/x"), "runs/x/manifest.json"),
        ("runs/x/", "runs/x/manifest.json"),
        ("pipe:touch harm", "pipe:touch harm/manifest.json"),  # a folder's name
        ("https://host/x", "https://host/x/manifest.json"),
        ("https://host/x/", "https://host/x/manifest.json"),
        ("https://host/x?token=1", "https://host/x/manifest.json?token=1"),
        ("s3://bucket/x", "s3://bucket/x/manifest.json"),
    ],
)
def test_names_are_joined_to_folders_and_addresses(place: Path | str, address: str) -> None:
    assert address_of(place, "manifest.json") == address
    assert is_address(place) == ("://" in str(place))


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "..", ".hidden", "https://host/x", "", "pipe:x"])
@pytest.mark.parametrize("place", ["labels", "https://host/labels"])
def test_a_name_cannot_lead_out_of_its_place(place: str, name: str) -> None:
    with pytest.raises(DataError, match="not a plain file name"):
        read_file(place, name)


def test_a_folder_and_a_server_give_the_same_bytes(served: Loopback, tmp_path: Path) -> None:
    for place in (tmp_path / "served", str(tmp_path / "served"), served.address):
        assert read_file(place, "shard-000000.tar") == CONTENT
        assert list_files(place) == ["shard-000000.tar"]


def test_a_missing_file_is_told_from_a_missing_server(served: Loopback, tmp_path: Path) -> None:
    for place in (tmp_path / "served", tmp_path / "nowhere", served.address):
        with pytest.raises(MissingFileError, match=r"shard-000001\.tar does not exist"):
            read_file(place, "shard-000001.tar")
    assert served.requests["shard-000001.tar"] == 1  # an answer is not asked for again


def test_a_connection_that_breaks_off_is_tried_again(served: Loopback) -> None:
    served.broken_off["shard-000000.tar"] = ATTEMPTS - 1
    assert read_file(served.address, "shard-000000.tar") == CONTENT
    assert served.requests["shard-000000.tar"] == ATTEMPTS


def test_attempts_are_bounded(served: Loopback) -> None:
    served.broken_off["shard-000000.tar"] = 100
    with pytest.raises(DataError, match=r"shard-000000\.tar cannot be read .*tried 3 times.*the server up"):
        read_file(served.address, "shard-000000.tar")
    assert served.requests["shard-000000.tar"] == ATTEMPTS


def test_a_server_that_is_down_is_a_plain_error(served: Loopback) -> None:
    served.shutdown()
    served.server_close()
    with pytest.raises(DataError, match=r"cannot be read \(.*Connect.*tried 3 times"):
        read_file(served.address, "shard-000000.tar")
    assert list_files(served.address) is None


def test_s3_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingDependencyError, match=r"s3:// addresses cannot be read .*pip install s3fs"):
        read_file("s3://bucket/labels", "manifest.json")


def test_an_unknown_kind_of_address_is_a_plain_error() -> None:
    with pytest.raises(MissingDependencyError, match="htp:// addresses cannot be read"):
        read_file("htp://host/labels", "manifest.json")
