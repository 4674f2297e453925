"""What a task's figures mean, in words a clinician can act on."""

from dataclasses import dataclass
from typing import Literal

from medssl.pretext.task import CueReport
from medssl.report.metrics import is_share, measure_words

CLEAR_GAIN = 0.05
"""Share of a reference's error that must be gone before the network counts as better: less is noise in the
few hundred validation crops of a usual run."""


@dataclass(frozen=True)
class Verdict:
    """The judgement of one task.

    Attributes:
        sentence: The figure beside chance and trivial cues, and what follows from it.
        level: "good" when beyond trivial cues, "doubtful" when only beyond chance, otherwise "poor";
            "unknown" without a validation figure.
    """

    sentence: str
    level: Literal["good", "doubtful", "poor", "unknown"]


def judge(task: str, cue: CueReport, value: float | None) -> Verdict:
    """Compare a task's key metric on validation scans with chance and trivial cues.

    Args:
        task: Its name.
        cue: The probe's report. A metric of which more is better lies in [0, 1], one of which less is
            better is an error above 0.
        value: The network's figure for ``cue.metric``, or None if it was never validated.
    """
    if value is None:
        return Verdict(f"{task}: never validated, so nothing can be said about it.", "unknown")
    figures = (
        f"{task}: {_reading(cue, value)} on validation scans; guessing gives {show(cue, cue.chance)}, "
        f"trivial cues {show(cue, cue.trivial)}"
    )
    if _is_clearly_better(cue, value, cue.chance) and _is_clearly_better(cue, value, cue.trivial):
        return Verdict(f"{figures}: more than trivial cues explain, so it looks at anatomy.", "good")
    if _is_clearly_better(cue, value, cue.chance):
        return Verdict(f"{figures}: no more than trivial cues explain, so it may ignore anatomy.", "doubtful")
    return Verdict(f"{figures}: no better than guessing, so it has not learned this.", "poor")


def show(cue: CueReport, value: float) -> str:
    """Return a value of the cue's metric as people read it."""
    return f"{100 * value:.0f} %" if is_share(cue.metric) else f"{value:.3g}"


def _reading(cue: CueReport, value: float) -> str:
    return (
        f"{show(cue, value)} right"
        if is_share(cue.metric)
        else f"{measure_words(cue.metric)} {show(cue, value)}"
    )


def _is_clearly_better(cue: CueReport, value: float, reference: float) -> bool:
    error, reference_error = (1 - value, 1 - reference) if cue.higher_is_better else (value, reference)
    return error < (1 - CLEAR_GAIN) * reference_error
