"""Where models, weights and tokenizers come from: mistakes are found before anything is loaded."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest

from datamodules.errors import DataError, MissingDependencyError, SettingsError, UnknownNameError
from lightning_modules.clip_source import ClipSource, find_clip
from lightning_modules.settings import TeacherSettings
from tests.lightning_modules.clips import SIGLIP_CONFIG, write_clip, write_siglip_folder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> TeacherSettings:
    return write_clip(tmp_path_factory.mktemp("teacher"), "source-test-clip")


def find(settings: TeacherSettings) -> ClipSource:
    return find_clip(*settings.clips[0])


def load(source: ClipSource) -> object:
    return source.load_model(source.fetch(), "cpu", "fp32")


def test_an_unknown_model_is_answered_with_the_closest_names() -> None:
    with pytest.raises(UnknownNameError, match="'ViT-B-32'"):
        find_clip("ViT-B32", "openai")


def test_an_unknown_tag_is_answered_with_the_closest_tags() -> None:
    with pytest.raises(UnknownNameError, match="laion2b_s34b_b79k"):
        find_clip("ViT-B-32", "laion2b_s34b")


@pytest.mark.parametrize(
    ("model", "tag"),
    [
        ("RN50", "openai"),
        ("ViT-B-32", "laion2b_s34b_b79k"),
        ("ViT-L-14", "laion2b_s32b_b82k"),
        ("ViT-H-14", "laion2b_s32b_b79k"),
        ("ViT-g-14", "laion2b_s34b_b88k"),
        ("ViT-bigG-14", "laion2b_s39b_b160k"),
        ("ViT-B-16-SigLIP", "webli"),
        ("ViT-B-16-SigLIP2", "webli"),
        ("MobileCLIP-S1", "datacompdr"),
        ("MobileCLIP2-S0", "dfndr2b"),
    ],
)
def test_every_family_is_known_by_name(model: str, tag: str) -> None:
    assert find_clip(model, tag).name == f"{model}/{tag}"


def test_missing_files_are_named(settings: TeacherSettings) -> None:
    with pytest.raises(MissingDependencyError, match=r"nowhere\.safetensors"):
        find_clip(str(settings.model), "nowhere.safetensors")
    with pytest.raises(MissingDependencyError, match=r"nowhere\.json"):
        find_clip("nowhere.json", str(settings.weights))


@pytest.mark.parametrize(
    ("content", "message"), [("{", "is not JSON"), ('{"embed_dim": 8}', "lacks text_cfg, vision_cfg")]
)
def test_files_that_are_no_model_configuration_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(SettingsError, match=message):
        find_clip(str(path), "openai")


def test_weights_of_another_architecture_are_refused(settings: TeacherSettings) -> None:
    with pytest.raises(DataError, match="does not load into ViT-S-32-alt"):
        load(find_clip("ViT-S-32-alt", str(settings.weights)))


def test_damaged_weights_are_refused(settings: TeacherSettings, tmp_path: Path) -> None:
    half = tmp_path / "half.safetensors"
    half.write_bytes(Path(str(settings.weights)).read_bytes()[:5000])
    with pytest.raises(DataError, match="file is whole"):
        load(find_clip(str(settings.model), str(half)))


def test_a_folder_brings_architecture_preprocessing_tokenizer_and_weights(tmp_path: Path) -> None:
    source = find(write_siglip_folder(tmp_path / "hub", "folder-test-siglip"))
    model = open_clip.create_model(f"local-dir:{tmp_path / 'hub'}", require_pretrained=True)
    loaded = load(source)
    assert isinstance(loaded, open_clip.CustomTextCLIP)
    assert loaded.visual.preprocess_cfg["resize_mode"] == "squash"
    assert loaded.visual.preprocess_cfg["mean"] == [0.5] * 3
    for name, weights in model.state_dict().items():
        assert (loaded.state_dict()[name] == weights).all()
    assert source.load_tokenizer()(["a pole"])[0, :4].tolist() == [3, 4, 1, 1]  # as the vocabulary in clips.py says
    assert source.name == "folder-test-siglip/hub"


def test_an_incomplete_folder_says_which_file_belongs_there(tmp_path: Path) -> None:
    settings = write_siglip_folder(tmp_path / "hub", "incomplete-test-siglip")
    (tmp_path / "hub" / "tokenizer.json").unlink()
    with pytest.raises(MissingDependencyError, match=r"holds no tokenizer that loads.*place .*tokenizer\.json"):
        find(settings).load_tokenizer()
    (tmp_path / "hub" / "open_clip_config.json").rename(tmp_path / "away.json")
    with pytest.raises(MissingDependencyError, match=r"holds no open_clip_config\.json"):
        find(settings)
    (tmp_path / "hub" / "open_clip_model.safetensors").unlink()
    with pytest.raises(MissingDependencyError, match=r"place one there as open_clip_model\.safetensors"):
        find(settings)


def test_a_folder_with_another_model_than_named_is_refused(tmp_path: Path) -> None:
    write_siglip_folder(tmp_path / "hub", "named-test-siglip")
    with pytest.raises(SettingsError, match="holds another model than 'ViT-B-16-SigLIP'"):
        find_clip("ViT-B-16-SigLIP", str(tmp_path / "hub"))


def test_a_tokenizer_without_transformers_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = find(write_siglip_folder(tmp_path / "hub", "bare-test-siglip"))
    monkeypatch.setitem(sys.modules, "transformers", None)  # what an import finds where it is not installed
    with pytest.raises(MissingDependencyError, match=r"needs transformers: install it with `pip install transformers`"):
        source.load_tokenizer()


def test_a_file_gets_the_preprocessing_that_all_tags_of_its_model_share(
    settings: TeacherSettings, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(settings.weights)
    with caplog.at_level(logging.WARNING):
        siglip, mobile = (ClipSource(model, path)._preprocessing() for model in ("ViT-B-16-SigLIP", "MobileCLIP-S1"))
        assert (siglip["mean"], siglip["resize_mode"]) == ((0.5, 0.5, 0.5), "squash")
        assert (mobile["std"], mobile["interpolation"]) == ((1.0, 1.0, 1.0), "bilinear")
        assert not caplog.records
        assert ClipSource("ViT-L-14", path)._preprocessing() == {}  # laion2b_s32b_b82k has another mean than openai
    assert "a folder with the file and its open_clip_config.json says it" in caplog.text


def test_the_activation_that_a_tag_was_trained_with_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ViT-B-32/openai needs QuickGELU, which the model of that name lacks; open_clip only warns."""
    settings = write_clip(tmp_path, "ViT-B-32-tiny", quick_gelu=False)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "ViT-B-32-tiny", {"openai": {"quick_gelu": True}})
    source = ClipSource("ViT-B-32-tiny", "openai")
    model = source.load_model(Path(str(settings.weights)), "cpu", "fp32")
    assert any(isinstance(module, open_clip.transformer.QuickGELU) for module in model.modules())


@pytest.mark.slow
@pytest.mark.parametrize("without_network", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_without_a_network_the_message_says_at_once_which_files_to_place(
    tmp_path: Path, without_network: dict[str, str]
) -> None:
    """In a process of its own: the hub client reads its switches once, at import."""
    program = """
from datamodules.errors import MissingDependencyError
from lightning_modules.clip_source import find_clip
for work in (
    find_clip("ViT-B-32", "laion2b_s34b_b79k").fetch,
    find_clip("ViTamin-S", "datacomp1b").fetch,
    find_clip("ViT-B-16-SigLIP", "webli").load_tokenizer,
):
    try:
        work()
    except MissingDependencyError as error:
        print(error)
"""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"HF_HOME": str(tmp_path), "HOME": str(tmp_path), **without_network}
    outcome = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "Retrying" not in outcome.stderr
    clip, vitamin, siglip = outcome.stdout.splitlines()
    assert (
        "take open_clip_config.json and open_clip_model.safetensors (or open_clip_pytorch_model.bin) from "
        "https://huggingface.co/laion/CLIP-ViT-B-32-laion2B-s34B-b79K, copy them into one folder" in clip
    )
    assert "set `weights` to that folder" in clip
    assert "take pytorch_model.bin from https://huggingface.co/jienengchen/ViTamin-S, copy it" in vitamin
    assert (
        "take the tokenizer's files (tokenizer.json, tokenizer_config.json, special_tokens_map.json) from "
        "https://huggingface.co/timm/ViT-B-16-SigLIP, and open_clip_config.json and open_clip_model.safetensors"
        in siglip
    )


def test_what_hubs_write_in_open_clip_config_is_read(tmp_path: Path) -> None:
    write_siglip_folder(tmp_path / "hub", "hub-test-siglip")
    content = json.loads((tmp_path / "hub" / "open_clip_config.json").read_text())
    assert content["model_cfg"] == SIGLIP_CONFIG
    (tmp_path / "hub" / "open_clip_config.json").write_text("{}")
    with pytest.raises(SettingsError, match=r"open_clip_config\.json lacks embed_dim, text_cfg, vision_cfg"):
        find_clip(str(tmp_path / "hub" / "hub-test-siglip.json"), str(tmp_path / "hub"))
