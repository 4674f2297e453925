import pytest

from medssl.pretext.task import CueReport
from medssl.report.verdict import judge

ROTATION = CueReport("accuracy", 1 / 24, 0.17, higher_is_better=True, cues="")
INPAINTING = CueReport("mae", 0.12, 0.06, higher_is_better=False, cues="")


@pytest.mark.parametrize(
    ("cue", "value", "level"),
    [
        (ROTATION, 0.61, "good"),
        (ROTATION, 0.18, "doubtful"),
        (ROTATION, 0.12, "doubtful"),
        (ROTATION, 0.05, "poor"),
        (ROTATION, 0.01, "poor"),
        (ROTATION, None, "unknown"),
        (INPAINTING, 0.05, "good"),
        (INPAINTING, 0.059, "doubtful"),
        (INPAINTING, 0.09, "doubtful"),
        (INPAINTING, 0.119, "poor"),
        (INPAINTING, 0.2, "poor"),
    ],
)
def test_the_level_follows_from_chance_and_trivial_cues(
    cue: CueReport, value: float | None, level: str
) -> None:
    assert judge("task", cue, value).level == level


def test_cues_that_do_worse_than_guessing_are_no_excuse() -> None:
    cue = CueReport("accuracy", 0.5, 0.4, higher_is_better=True, cues="")
    assert judge("turn", cue, 0.45).level == "poor"


def test_accuracy_is_told_in_per_cent() -> None:
    assert judge("rotation", ROTATION, 0.61).sentence == (
        "rotation: 61 % right on validation scans; guessing gives 4 %, trivial cues 17 %: "
        "more than trivial cues explain, so it looks at anatomy."
    )


def test_an_error_is_told_by_its_name() -> None:
    sentence = judge("inpainting", INPAINTING, 0.05).sentence
    assert sentence.startswith(
        "inpainting: mean absolute error 0.05 on validation scans; guessing gives 0.12,"
    )
