from pathlib import Path

import pytest

from medssl.config import presets
from medssl.errors import ConfigError


def test_the_presets_of_the_source_tree_are_found() -> None:
    assert {"laptop", "one_gpu", "many_gpus", "test"} <= set(presets.preset_names())


def test_an_installed_package_brings_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "only.yaml").write_text("# The only one.\nencoder: {}\n")
    monkeypatch.setattr(presets, "files", lambda package: tmp_path)
    assert presets.preset_names() == ["only"]
    assert presets.preset_purpose("only") == "The only one."


def test_an_unknown_preset_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"latop is not a preset; did you mean laptop\?"):
        presets.preset_text("latop")


def test_an_unknown_preset_like_no_other_is_told_with_all() -> None:
    with pytest.raises(ConfigError, match=r"the presets are .*laptop.*\."):
        presets.preset_text("xyzzy")
