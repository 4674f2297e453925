from pathlib import Path


def test_demo_hands_its_arguments_on_and_says_where_to_look(medssl, replace_workflow, tmp_path: Path) -> None:
    calls: list = []
    replace_workflow("demo", run_demo=lambda out, **options: calls.append((out, options)))
    finished = medssl("demo", "--out", str(tmp_path), "--count", "6", "--epochs", "2")
    [(out, options)] = calls
    assert (out, options["count"], options["epochs"]) == (tmp_path, 6, 2)
    assert f"{tmp_path}/run/report.html" in finished.out
