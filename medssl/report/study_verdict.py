"""What a study found, in plain sentences: gains, losses, and what could not be shown."""

from collections.abc import Iterator, Sequence

from medssl.findings import Arm, Difference, Interval, StudySummary
from medssl.report.verdict import Verdict

FEW_SEEDS = 5


def judge_study(summary: StudySummary) -> list[Verdict]:
    """Say at which label budgets each arm differs from the one it is compared with.

    A difference counts as shown where its 95 % interval excludes zero.

    Returns:
        For each arm: gains ("good"), budgets without a gain ("doubtful"), losses ("poor"), then what its
        labels are worth and what a correction leaves; and how much evidence there is, once where it is the
        same for all ("unknown", as these are no judgement).
    """
    compared = [arm for arm in summary.arms if arm.differences]
    if not compared:
        return [
            Verdict(
                f"No arm shares a label budget with {summary.against}, so nothing can be compared.", "unknown"
            )
        ]
    verdicts = [verdict for arm in compared for verdict in _judge_arm(summary, arm)]
    # What holds for several arms is said once, at the end.
    return list(reversed(dict.fromkeys(reversed(verdicts))))


def gain_of(summary: StudySummary, interval: Interval) -> int:
    """Return 1 if an interval of a difference shows a gain, -1 if a loss, 0 if it includes zero."""
    direction = int(interval.lower > 0) - int(interval.upper < 0)
    return direction if summary.higher_is_better else -direction


def _judge_arm(summary: StudySummary, arm: Arm) -> Iterator[Verdict]:
    gained, unclear, lost = (
        [difference for difference in arm.differences if gain_of(summary, difference.interval) == gain]
        for gain in (1, 0, -1)
    )
    if gained:
        yield Verdict(f"{arm.name} is better than {summary.against} at {_list(summary, gained)}.", "good")
    if unclear:
        yield Verdict(
            f"No gain of {arm.name} over {summary.against} could be shown at {_list(summary, unclear)}.",
            "doubtful",
        )
    if lost:
        yield Verdict(f"{arm.name} is worse than {summary.against} at {_list(summary, lost)}.", "poor")
    if remarks := " ".join([*_worth(summary, arm), *_correction(summary, arm)]):
        yield Verdict(remarks, "unknown")
    yield Verdict(" ".join(_evidence(arm)), "unknown")


def _list(summary: StudySummary, differences: Sequence[Difference]) -> str:
    first, *others = differences
    words = [
        f"{summary.budget_words(first.label_budget)} labels (difference in {summary.metric_words} "
        f"{first.interval.show(signed=True)})"
    ]
    words += [
        f"{summary.budget_words(other.label_budget)} ({other.interval.show(signed=True)})" for other in others
    ]
    return _and(words)


def _worth(summary: StudySummary, arm: Arm) -> Iterator[str]:
    """Say what the labels of an arm are worth, short of the largest budget."""
    largest = summary.budgets[-1]
    few = [
        (point, match)
        for point, match in zip(arm.points, arm.matches, strict=True)
        if point.label_budget < largest
    ]
    if not few:
        return
    yield (
        f"For what {_and([str(point.label_budget) for point, _ in few])} labels do with {arm.name}, "
        f"{summary.against} needs {_and([match.show() for _, match in few])}."
    )
    shares = [percent(point.share_of_best) for point, _ in few if point.share_of_best]
    if shares:
        yield f"That is {_and(shares)} of the best score at {summary.budget_words(largest)} labels."


def _evidence(arm: Arm) -> Iterator[str]:
    seeds = {difference.n_seeds for difference in arm.differences}
    cases = {difference.n_cases for difference in arm.differences}
    subjects = {difference.n_subjects for difference in arm.differences}
    yield (
        f"This rests on {_range(seeds)} {'seed' if seeds == {1} else 'seeds'} and {_range(cases)} test cases "
        f"of {_range(subjects)} subjects; 95 % intervals are from a bootstrap over seeds and subjects."
    )
    if min(seeds) == 1:
        yield "Where there is one seed, they allow for other test subjects, not for other labelled scans."
    elif min(seeds) < FEW_SEEDS:
        yield "So few seeds make intervals too narrow where trainings differ much."


def _correction(summary: StudySummary, arm: Arm) -> Iterator[str]:
    """Say what is left of an arm's differences when it is allowed for that there are several in the study."""
    count = sum(len(one.differences) for one in summary.arms)
    if count == 1:
        return
    clear = [
        summary.budget_words(difference.label_budget)
        for difference in arm.differences
        if gain_of(summary, difference.corrected)
    ]
    if not clear:
        left = f"no difference of {arm.name} stays clear"
    elif len(clear) == 1:
        left = f"the difference of {arm.name} at {clear[0]} labels stays clear"
    else:
        left = f"the differences of {arm.name} at {_and(clear)} labels stay clear"
    yield f"Corrected for looking at {count} differences (Bonferroni), {left} of zero."


def percent(share: Interval) -> str:
    """Return a share as people read it: ``97.2 % [96.0, 98.1]``."""
    return f"{100 * share.estimate:.1f} % [{100 * share.lower:.1f}, {100 * share.upper:.1f}]"


def _range(numbers: set[int]) -> str:
    return str(*numbers) if len(numbers) == 1 else f"{min(numbers)} to {max(numbers)}"


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
