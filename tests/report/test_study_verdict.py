from dataclasses import replace

from medssl.findings import Difference, Interval, StudySummary
from medssl.report.study_verdict import judge_study


def with_differences(study: StudySummary, differences: tuple[Difference, ...]) -> StudySummary:
    scratch, pretrained = study.arms
    return replace(study, arms=(scratch, replace(pretrained, differences=differences)))


def test_gains_nulls_and_losses_each_have_their_sentence(study: StudySummary) -> None:
    gain, null, loss, *_ = judge_study(study)
    assert (gain.sentence, gain.level) == (
        "pretrained is better than scratch at 2 labels (difference in Dice +0.050 [0.030, 0.070]).",
        "good",
    )
    assert null.sentence == (
        "No gain of pretrained over scratch could be shown at 8 labels "
        "(difference in Dice +0.010 [-0.010, 0.030])."
    )
    assert (null.level, loss.level) == ("doubtful", "poor")
    assert "worse than scratch at all (180) labels" in loss.sentence


def test_it_says_what_labels_are_worth_and_on_what_it_rests(study: StudySummary) -> None:
    sentence = " ".join(verdict.sentence for verdict in judge_study(study)[-2:])
    assert (
        "For what 2 and 8 labels do with pretrained, scratch needs 5 [4, 7] and 9 [7, more than 180]."
        in sentence
    )
    assert "83.3 % [82.3, 84.3] and 90.0 % [89.0, 91.0] of the best score at all (180) labels" in sentence
    assert "3 seeds and 60 test cases of 58 subjects" in sentence
    assert "So few seeds" in sentence
    assert "Corrected for looking at 3 differences" in sentence
    assert "the difference of pretrained at 2 labels stays clear of zero" in sentence


def test_a_study_without_any_gain_claims_none(study: StudySummary) -> None:
    null = study.arms[1].differences[1]
    verdicts = judge_study(with_differences(study, (null, replace(null, label_budget=16))))
    assert [verdict.level for verdict in verdicts] == ["doubtful", "unknown", "unknown"]
    assert "at 8 labels (difference in Dice +0.010 [-0.010, 0.030]) and 16 (" in verdicts[0].sentence
    assert "no difference of pretrained stays clear of zero" in verdicts[1].sentence


def test_a_difference_of_exactly_nothing_is_no_gain(study: StudySummary) -> None:
    zero = replace(study.arms[1].differences[0], interval=Interval(0, 0, 0))
    assert judge_study(with_differences(study, (zero,)))[0].level == "doubtful"


def test_of_distances_less_is_better(study: StudySummary) -> None:
    gain, null, loss, *_ = judge_study(replace(study, metric="hd95_mm"))
    assert "better than scratch at all (180) labels" in gain.sentence
    assert "could be shown at 8" in null.sentence
    assert "worse than scratch at 2" in loss.sentence


def test_one_seed_is_called_so(study: StudySummary) -> None:
    single = replace(study.arms[1].differences[0], n_seeds=1)
    assert "not for other labelled scans" in judge_study(with_differences(study, (single,)))[-1].sentence


def test_nothing_to_compare_is_said(study: StudySummary) -> None:
    (verdict,) = judge_study(replace(study, arms=study.arms[:1]))
    assert "nothing can be compared" in verdict.sentence
