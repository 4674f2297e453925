from pathlib import Path

from medssl.report.metrics import read_metrics


def test_a_curve_leaves_out_gaps_and_what_is_not_finite(metrics_csv: Path) -> None:
    metrics = read_metrics(metrics_csv)
    assert metrics.curve("val/rotation/accuracy").epochs == (2.0,)
    assert metrics.curve("embeddings/effective_rank").values == (7.5,)
    assert metrics.curve("train/loss").last == 2.0


def test_a_column_that_is_missing_is_an_empty_curve(metrics_csv: Path) -> None:
    curve = read_metrics(metrics_csv).curve("val/position/accuracy")
    assert curve.values == ()
    assert curve.last is None


def test_tasks_and_their_measures_come_from_the_columns(metrics_csv: Path) -> None:
    metrics = read_metrics(metrics_csv)
    assert metrics.tasks() == ["rotation", "inpainting"]
    assert metrics.measures("rotation") == ["loss", "accuracy"]
    assert metrics.measures("inpainting") == ["loss", "mae", "ssim"]


def test_a_run_without_metrics_has_none(tmp_path: Path) -> None:
    metrics = read_metrics(tmp_path / "metrics.csv")
    assert metrics.tasks() == []
    assert metrics.curve("train/loss").values == ()
