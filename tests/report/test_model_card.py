import re
from collections.abc import Callable
from pathlib import Path

import pytest

from medssl.finetune.model import FinetuneModel
from medssl.finetune.segmentation import Segmentation
from medssl.finetune.weights import MODEL, save_model
from medssl.networks.build import build_encoder
from medssl.networks.weights import save_encoder
from medssl.pretext.task import CueReport
from medssl.report.finetune import Table
from medssl.report.model_card import write_finetuned_card, write_model_card

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


FINETUNED = PROVENANCE | {
    "goal": {"0": "background", "1": "tumour"},
    "channel_names": ["t1", "t2"],
    "pretraining": None,
    "loaded": {},
}


@pytest.fixture
def write_finetuned(tmp_path: Path) -> Callable[..., str]:
    def write(scores: dict[str, Table]) -> str:
        path = tmp_path / "MODEL_CARD.md"
        write_finetuned_card(
            path, provenance=FINETUNED, sentences=["It does well."], scores=scores, n_models=1
        )
        return path.read_text()

    return write


def test_a_fine_tuned_card_shows_what_it_answers_and_how_well(write_finetuned: Callable[..., str]) -> None:
    table = Table("Means.", ("class", "Dice"), (("left|right", "0.9 [0.8, 1.0]"),))
    card = write_finetuned({"Test cases": table})
    assert "- It does well.\n" in card
    assert "## Answers\n\n- 0: background\n- 1: tumour\n" in card
    assert "| class | Dice |\n|---|---|\n| left\\|right | 0.9 [0.8, 1.0] |\n\nMeans." in card
    assert "## Pretraining" not in card
    assert "loaded" not in card
    assert "## Licence" in card


def test_a_fine_tuned_card_without_test_cases_says_so(write_finetuned: Callable[..., str]) -> None:
    assert "nothing is known about new patients" in write_finetuned({})


def test_the_snippet_of_a_fine_tuned_card_loads_the_weights(
    write_finetuned: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = build_encoder(
        "residual_unet", "tiny", in_channels=2, crop_size=(16, 16, 16), spacing_mm=(1.0, 1.0, 1.0)
    )
    goal = Segmentation({0: "background", 1: "tumour"})
    model = FinetuneModel(encoder, goal.make_head(encoder, is_linear=False), name=goal.name)
    save_model(tmp_path / MODEL, model, goal=goal, provenance={"is_linear": False})
    monkeypatch.chdir(tmp_path)
    [snippet] = re.findall(r"```python\n(.*?)```", write_finetuned({}), re.DOTALL)
    names: dict = {}
    exec(snippet, names)
    assert len(names["features"]) == len(encoder.channels)
