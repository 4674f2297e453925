from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from medssl.findings import ReliabilityBin, StudySummary
from medssl.report.reliability_figure import draw_reliability, reliability_figure
from medssl.report.study_figure import draw_study, study_figure


def test_the_png_fits_a_page(study: StudySummary, tmp_path: Path) -> None:
    draw_study(study, tmp_path / "study.png")
    height, width, _ = imread(tmp_path / "study.png").shape
    assert (width, height) == pytest.approx((1000, 900), abs=20)


def test_curves_stand_above_differences(study: StudySummary) -> None:
    curves, differences = study_figure(study).axes
    lines = {line.get_label(): line.get_ydata() for line in curves.get_lines()}
    assert {name: list(np.asarray(values)) for name, values in lines.items()} == {
        "scratch": [0.70, 0.80, 0.90],
        "pretrained": [0.75, 0.81, 0.88],
    }
    (bars,) = differences.containers
    assert list(bars.lines[0].get_ydata()) == pytest.approx([0.05, 0.01, -0.02])
    ends = [segment[:, 1] for segment in bars.lines[2][0].get_segments()]
    assert np.array(ends) == pytest.approx(np.array([[0.03, 0.07], [-0.01, 0.03], [-0.03, -0.01]]))
    assert "above 0: better" in differences.get_ylabel()


def test_budgets_are_ticks_in_doublings(study: StudySummary) -> None:
    axes = study_figure(study).axes[-1]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "8", "all (180)"]
    assert axes.get_xticks() == pytest.approx(np.log2([2, 8, 180]))


def test_arms_differ_without_colour(study: StudySummary) -> None:
    arms = tuple(replace(study.arms[1], name=f"arm {index}") for index in range(6))
    lines = study_figure(replace(study, arms=(study.arms[0], *arms))).axes[0].get_lines()
    assert len({line.get_marker() for line in lines}) == 7


def test_one_arm_alone_is_a_curve(study: StudySummary) -> None:
    assert len(study_figure(replace(study, arms=study.arms[:1])).axes) == 1


def test_of_distances_below_zero_is_better(study: StudySummary) -> None:
    assert "below 0: better" in study_figure(replace(study, metric="hd95_mm")).axes[1].get_ylabel()


def test_reliability_shows_frequencies_over_probabilities(tmp_path: Path) -> None:
    bins = [ReliabilityBin(0.0, 0.5, 7, 0.2, 0.3), ReliabilityBin(0.5, 1.0, 3, 0.9, 0.8)]
    figure = reliability_figure(bins, calibration_error=0.1)
    upper, lower = figure.axes
    assert upper.get_lines()[1].get_xydata().tolist() == [[0.2, 0.3], [0.9, 0.8]]
    assert [bar.get_height() for bar in lower.patches] == [7, 3]
    assert "0.100" in upper.get_title()
    draw_reliability(bins, tmp_path / "reliability.png", calibration_error=0.1)
    assert imread(tmp_path / "reliability.png").shape[0] > 300
