from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import field_validator

from medssl.config.load import dump_yaml, load_config, validate_section
from medssl.config.schema import PretrainConfig, Section
from medssl.errors import ConfigError


@pytest.fixture
def write(tmp_path: Path):
    def write_config(text: str) -> Path:
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return path

    return write_config


def test_no_source_means_the_defaults() -> None:
    assert load_config(None) == PretrainConfig()


def test_a_preset_goes_by_its_name() -> None:
    assert load_config("test").encoder.size == "tiny"


def test_a_file_may_name_a_part_only(write) -> None:
    config = load_config(write("training: {epochs: 3}"))
    assert config.training.epochs == 3
    assert config.training.batch_size == PretrainConfig().training.batch_size


def test_a_number_that_yaml_takes_for_text_is_a_number(write) -> None:
    assert load_config(write("optimiser: {learning_rate: 1e-3}")).optimiser.learning_rate == 1e-3


def test_a_section_without_lines_has_its_defaults(write) -> None:
    assert load_config(write("training:\ntasks:\n  rotation:\n")).tasks == {"rotation": {}}


def test_overrides_are_applied_in_order() -> None:
    config = load_config("test", ["training.epochs=5", "training.epochs=7", "data.spacing_mm=[1, 1, 2.5]"])
    assert config.training.epochs == 7
    assert config.data.spacing_mm == (1, 1, 2.5)


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("optimiser.clip_norm=null", lambda config: config.optimiser.clip_norm is None),
        ("crop_size=24", lambda config: config.crop_size == (24, 24, 24)),
        ("speed.device=cuda:1", lambda config: config.speed.device == "cuda:1"),
        ("training.shuffle_targets=true", lambda config: config.training.shuffle_targets),
        (" training.seed = 3", lambda config: config.training.seed == 3),
    ],
)
def test_the_value_of_an_override_is_yaml(override: str, read) -> None:
    assert read(load_config("test", [override]))


def test_an_override_of_one_task_leaves_the_others_on() -> None:
    tasks = load_config(None, ["tasks.rotation.weight=2"]).tasks
    assert tasks == {"rotation": {"weight": 2}, "inpainting": {}, "position": {}}


def test_an_override_reaches_a_task_without_settings(write) -> None:
    tasks = load_config(write("tasks: {rotation: }"), ["tasks.rotation.weight=2"]).tasks
    assert tasks == {"rotation": {"weight": 2}}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("training: {epoch: 3}", "training.epoch is not a setting; the nearest is training.epochs."),
        ("epochs: 3", "epochs is not a setting; the nearest is training.epochs."),
        ("speed: {xyzzy: 3}", "speed.xyzzy is not a setting; choose from device, precision, "
                              "channels_last, compile, loader_threads."),
        ("training: {epochs: -3}", "training.epochs must be a whole number above 0, not -3."),
        ("training: {epochs: 2.5}", "training.epochs must be a whole number above 0, not 2.5."),
        ("training: {epochs: }", "training.epochs must be a whole number above 0, not null."),
        ("data: {spacing_mm: [1, 2]}",
         "data.spacing_mm must be a list of three numbers above 0 or auto, not [1, 2]."),
        ("data: {spacing_mm: [1, 2, 0]}",
         "data.spacing_mm must be a list of three numbers above 0 or auto, not [1, 2, 0]."),
        ("encoder: {size: smal}", 'encoder.size must be tiny, small, base or large, not "smal".'),
        ("encoder: 3", "encoder must be a mapping of settings, not 3."),
        ("tasks: {rotation: 3}", "tasks.rotation must be a mapping of settings, not 3."),
        ("- training", 'expected `section:` lines at the top level, not ["training"].'),
        ("1: 2", 'expected `section:` lines at the top level, not {"1": 2}.'),
        ("", "the file is empty; `medssl config copy laptop FILE` writes a full one."),
        ("training: {epoch: 3, seed: -1, batch_size: 0}",
         "training.epoch is not a setting; the nearest is training.epochs (and 2 more)."),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_with_file_field_and_what_was_expected(
    write, text: str, problem: str
) -> None:
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path}: {problem}"


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("training.epochs", "write an override as field=value, not 'training.epochs'."),
        ("=3", "write an override as field=value, not '=3'."),
        ("training..epochs=3", "write an override as field=value, not 'training..epochs=3'."),
        ("training.epochs.x=3", 'training.epochs must be a whole number above 0, not {"x": 3}.'),
        ("training.epoch=3", "training.epoch is not a setting; the nearest is training.epochs."),
    ],
)
def test_a_wrong_override_is_told_as_such(override: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("test", [override])
    assert str(caught.value) == f"command line: {problem}"


def test_a_wrong_override_value_names_its_field() -> None:
    with pytest.raises(ConfigError, match=r"^command line, training\.epochs: this is not plain YAML"):
        load_config("test", ["training.epochs=[1,"])


def test_a_source_that_is_nothing_names_the_nearest_preset() -> None:
    with pytest.raises(
        ConfigError, match=r"^latop is neither a config file nor a preset; did you mean laptop\?$"
    ):
        load_config("latop")


def test_a_folder_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        load_config(tmp_path)


@settings(max_examples=40)
@given(
    spacing=st.just("auto") | st.tuples(*[st.floats(0.01, 20)] * 3),
    learning_rate=st.floats(1e-12, 10),
    clip_norm=st.none() | st.floats(1e-3, 1e3),
    weight=st.floats(0, 10),
    device=st.sampled_from(["auto", "cpu", "cuda:0", "null", "1", "yes"]),
    channels_last=st.sampled_from([True, False, "auto"]),
)
def test_a_resolved_config_is_itself_a_config(
    tmp_path_factory: pytest.TempPathFactory, spacing, learning_rate, clip_norm, weight, device, channels_last
) -> None:
    config = PretrainConfig.model_validate(
        {
            "data": {"spacing_mm": spacing},
            "tasks": {"rotation": {"weight": weight, "note": "1e-3"}},
            "optimiser": {"learning_rate": learning_rate, "clip_norm": clip_norm},
            "speed": {"device": device, "channels_last": channels_last},
        }
    )
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    path.write_text(dump_yaml(config))
    assert load_config(path) == config


class Shape(Section):
    kind: Literal["cubes", "slabs"]
    side: int = 4

    @field_validator("side")
    @classmethod
    def _even(cls, side: int) -> int:
        if side % 2:
            raise ValueError("must be even.")
        return side


def test_a_section_of_its_own_is_checked_alike() -> None:
    assert validate_section(Shape, {"kind": "slabs"}, where="tasks.x").side == 4
    with pytest.raises(
        ConfigError, match=r"^tasks\.x: kin is not a setting; the nearest is kind \(and 1 more\)\.$"
    ):
        validate_section(Shape, {"kin": "slabs"}, where="tasks.x")


def test_a_missing_setting_is_told_with_what_it_takes() -> None:
    with pytest.raises(ConfigError, match=r"^tasks\.x: kind is needed, cubes or slabs\.$"):
        validate_section(Shape, {}, where="tasks.x")


def test_a_rule_of_the_section_speaks_for_itself() -> None:
    with pytest.raises(ConfigError, match=r"^tasks\.x: side: must be even\.$"):
        validate_section(Shape, {"kind": "cubes", "side": 3}, where="tasks.x")
