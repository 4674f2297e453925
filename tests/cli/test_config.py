from pathlib import Path

from medssl.config.load import load_config
from medssl.config.presets import preset_names, preset_text


def test_list_gives_each_preset_and_its_purpose(medssl) -> None:
    lines = medssl("config", "list").out.splitlines()
    assert [line.split()[0] for line in lines] == preset_names()
    assert any("without a GPU" in line for line in lines)


def test_show_prints_the_preset_as_it_is(medssl) -> None:
    assert medssl("config", "show", "laptop").out == preset_text("laptop")


def test_show_of_an_unknown_preset_names_the_nearest(medssl) -> None:
    finished = medssl("config", "show", "latop")
    assert finished.exit_code == 2
    assert "did you mean laptop?" in finished.err


def test_a_copy_is_a_config_that_can_be_edited_and_used(medssl, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert medssl("config", "copy", "laptop", str(path)).exit_code == 0
    assert load_config(path) == load_config("laptop")


def test_copy_never_overwrites(medssl, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("mine")
    assert medssl("config", "copy", "laptop", str(path)).exit_code == 2
    assert path.read_text() == "mine"


def test_copy_into_no_folder_says_so(medssl, tmp_path: Path) -> None:
    finished = medssl("config", "copy", "laptop", str(tmp_path / "none" / "mine.yaml"))
    assert finished.exit_code == 2
    assert "There is no folder" in finished.err
