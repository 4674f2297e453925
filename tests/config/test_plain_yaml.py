from pathlib import Path

import pytest

from medssl.config import plain_yaml
from medssl.errors import ConfigError


def test_values_come_back_as_they_were_written() -> None:
    values = {"b": {"list": [1, 2.5, "x"], "none": None}, "a": True, "small": 1e-5}
    assert plain_yaml.parse(plain_yaml.dump(values), where="test") == values


def test_order_is_kept_and_lists_take_one_line() -> None:
    assert plain_yaml.dump({"z": [1, 2, 3], "a": {"b": 1}}) == "z: [1, 2, 3]\na:\n  b: 1\n"


def test_a_key_given_twice_is_an_error_at_any_depth() -> None:
    with pytest.raises(ConfigError, match=r"^run\.yaml: .*'seed' is given twice in line 3"):
        plain_yaml.parse("training:\n  seed: 1\n  seed: 2\n", where="run.yaml")


def test_merging_an_anchor_is_no_repetition() -> None:
    text = "base: &base {seed: 1, epochs: 2}\ntraining: {<<: *base, seed: 3}"
    assert plain_yaml.parse(text, where="test")["training"] == {"seed": 3, "epochs": 2}


def test_a_tag_runs_no_code(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    with pytest.raises(ConfigError, match="not plain YAML"):
        plain_yaml.parse(f"!!python/object/apply:os.mkdir [{proof}]", where="test")
    assert not proof.exists()


@pytest.mark.parametrize(
    "text", ["a: b: c", "[1, 2", "\x00", b"\xff\xfe\x00", "? {a: 1}\n: 2\n? [x]\n: 1", "a: *b"]
)
def test_what_is_no_yaml_is_told_in_one_line(text: str | bytes) -> None:
    with pytest.raises(ConfigError, match=r"^run\.yaml: this is not plain YAML \(.+\)\.$") as caught:
        plain_yaml.parse(text, where="run.yaml")
    assert "\n" not in str(caught.value)
