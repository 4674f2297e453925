from pathlib import Path

import pytest
from matplotlib.figure import Figure

from medssl.pretext.task import CueReport
from medssl.report.curves import draw_curves, run_curves, task_curves, to_png
from medssl.report.metrics import Curve, read_metrics


def drawn(figure: Figure) -> dict[str, list[float]]:
    """Return the heights of each labelled line."""
    [axes] = figure.axes
    return {str(line.get_label()): [float(height) for height in line.get_ydata()] for line in axes.lines}


def test_the_key_measure_comes_first_with_chance_and_trivial_cues(
    metrics_csv: Path, cues: dict[str, CueReport]
) -> None:
    curves = task_curves(read_metrics(metrics_csv), "rotation", cues["rotation"])
    assert list(curves) == ["rotation: accuracy", "rotation: loss"]
    lines = drawn(curves["rotation: accuracy"])
    assert lines["train"] == [0.1, 0.5]
    assert lines["val"] == [0.61]
    assert lines["chance"] == pytest.approx([1 / 24] * 2)
    assert lines["trivial cues"] == [0.17] * 2
    assert set(drawn(curves["rotation: loss"])) == {"train"}


def test_accuracy_is_drawn_in_per_cent_from_0_up(metrics_csv: Path, cues: dict[str, CueReport]) -> None:
    curves = task_curves(read_metrics(metrics_csv), "rotation", cues["rotation"])
    [axes] = curves["rotation: accuracy"].axes
    assert axes.get_ylim()[0] == 0
    assert axes.yaxis.get_major_formatter()(0.5) == "50%"


def test_every_other_measure_has_a_curve_in_words(metrics_csv: Path, cues: dict[str, CueReport]) -> None:
    curves = task_curves(read_metrics(metrics_csv), "inpainting", cues["inpainting"])
    assert list(curves) == ["inpainting: mean absolute error", "inpainting: SSIM", "inpainting: loss"]
    assert "chance" not in drawn(curves["inpainting: SSIM"])


def test_a_task_that_was_not_probed_has_curves_without_references(metrics_csv: Path) -> None:
    curves = task_curves(read_metrics(metrics_csv), "rotation", None)
    assert set(drawn(curves["rotation: accuracy"])) == {"train", "val"}


def test_the_run_has_curves_of_what_was_measured(metrics_csv: Path) -> None:
    curves = run_curves(read_metrics(metrics_csv))
    assert list(curves) == [
        "loss, all tasks",
        "learning rate",
        "gradient norm",
        "effective rank of the embeddings",
    ]


def test_a_figure_becomes_a_png(metrics_csv: Path) -> None:
    [figure, *_] = run_curves(read_metrics(metrics_csv)).values()
    assert to_png(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize("epochs", [[1.0], [1.0, 2.0]])
def test_epochs_are_whole_numbers_also_after_one(epochs: list[float]) -> None:
    figure = draw_curves({"val": Curve(epochs, [0.4] * len(epochs))})
    [axes] = figure.axes
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == epochs
