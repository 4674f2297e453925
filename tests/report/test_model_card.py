import re
from pathlib import Path

import pytest

from medssl.networks.build import build_encoder
from medssl.networks.weights import save_encoder
from medssl.pretext.task import CueReport
from medssl.report.model_card import write_model_card

PROVENANCE = {
    "architecture": {"name": "residual_unet", "size": "tiny"},
    "spacing_mm": [1.0, 1.0, 2.5],
    "crop_size": [16, 16, 16],
    "data_fingerprint": {"scans": 22, "subjects": 20, "modalities": {"mr": 22}},
    "tasks": {"rotation": {"weight": 1.0}},
    "versions": {"medssl": "0.1.0"},
}


@pytest.fixture
def card(tmp_path: Path, cues: dict[str, CueReport]) -> str:
    path = tmp_path / "MODEL_CARD.md"
    write_model_card(
        path, provenance=PROVENANCE, metrics={"val/rotation/accuracy": 0.61, "epoch": 2}, cues=cues
    )
    return path.read_text()


def test_it_tells_what_the_weights_were_made_from(card: str) -> None:
    assert "## Data\n\n- scans: 22\n- subjects: 20\n- modalities:\n  - mr: 22\n" in card
    assert "- spacing mm: 1.0, 1.0, 2.5\n- crop size: 16, 16, 16\n" in card
    assert "## Versions\n\n- medssl: 0.1.0\n" in card


def test_figures_stand_beside_chance_and_trivial_cues(card: str) -> None:
    assert "| rotation | accuracy | 61 % | 17 % | 4 % |" in card
    assert "| inpainting | mean absolute error | not measured | 0.06 | 0.12 |" in card
    assert "- rotation: 61 % right on validation scans" in card


def test_its_snippet_loads_the_weights(card: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = build_encoder("residual_unet", "tiny", crop_size=(16, 16, 16), spacing_mm=(1.0, 1.0, 1.0))
    save_encoder(tmp_path / "encoder.safetensors", encoder, provenance={})
    monkeypatch.chdir(tmp_path)
    [snippet] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    names: dict = {}
    exec(snippet, names)
    assert names["embedding"].shape == (1, encoder.channels[-1])


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "MODEL_CARD.md"
    write_model_card(path, provenance={}, metrics={}, cues={})
    card = path.read_text()
    assert "## Data" not in card
    assert "No task was measured." in card
    assert "## Licence" in card
