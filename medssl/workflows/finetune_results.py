"""What a fine-tuning run leaves behind: test scores, figures, the report and the model card."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medssl.atomic import atomic_path
from medssl.finetune.classification import Classification
from medssl.finetune.predictor import Predictor, load_predictor
from medssl.finetune.segmentation import Segmentation
from medssl.progress import Progress
from medssl.report.finetune import Section, write_finetune_report
from medssl.report.finetune_verdict import MainScore, Selection, judge_test, tell_origin
from medssl.report.model_card import write_finetuned_card
from medssl.report.verdict import Verdict
from medssl.scans.cases import PreparedCase
from medssl.scans.manifest import read_skipped, read_table, write_table
from medssl.training.devices import choose_device
from medssl.training.run_folder import RunFolder
from medssl.training.settings import StepSettings
from medssl.workflows.describe_model import goal_words, plain_goal
from medssl.workflows.finetune_pictures import draw_explanations, draw_segmentations
from medssl.workflows.finetune_scores import classification_section, segmentation_section, with_pictures
from medssl.workflows.score import Row, score_cases

TEST_SCORES = "test_scores.csv"

Results = list[tuple[MainScore, Section]]


def score_and_report(
    run: RunFolder,
    models: Sequence[Path],
    test: Sequence[PreparedCase],
    *,
    device: str,
    warnings: Sequence[str],
    progress: Progress,
) -> list[Row]:
    """Score the finished models of a run on its test cases, write its results, and return the scores.

    Args:
        run: Where all is written.
        models: Weights files, one a fold, each in the folder of its own training.
        test: Test cases, perhaps none.
        device: "auto", "cpu", "cuda" or "cuda:N".
        warnings: What needed attention while the run ran.
        progress: Who is told.
    """
    settings = StepSettings(str(choose_device(device)))
    predictor, network = load_predictor(models, settings=settings, flips=False)
    rows = score_cases(predictor, test, progress=progress) if test else []
    write_finetune_results(
        run,
        models=models,
        predictor=predictor,
        provenance=network.provenance,
        test=test,
        rows=rows,
        warnings=warnings,
        progress=progress,
    )
    return rows


def write_finetune_results(
    run: RunFolder,
    *,
    models: Sequence[Path],
    predictor: Predictor,
    provenance: Mapping[str, Any],
    test: Sequence[PreparedCase],
    rows: Sequence[Row],
    warnings: Sequence[str],
    progress: Progress,
) -> None:
    """Write ``test_scores.csv``, ``figures``, ``report.html`` and ``MODEL_CARD.md``, and tell the main score.

    Args:
        run: Of which split, skipped cases and metrics are read.
        models: Weights files, one a fold, each in the folder of its own training.
        predictor: These models together.
        provenance: Of the first of them.
        test: Test cases, perhaps none.
        rows: Their scores, from `medssl.workflows.score.score_cases`.
        warnings: What needed attention while it ran.
        progress: Gets bars, and the main score.
    """
    if rows:
        write_table(run.path / TEST_SCORES, list(dict.fromkeys(name for row in rows for name in row)), rows)
    results = _show_test(predictor, test, rows, progress=progress) if rows else []
    sections = [section for _, section in results]
    for picture in (picture for section in sections for picture in section.pictures):
        with atomic_path(run.figures / f"{picture.name}.png") as temporary:
            temporary.write_bytes(picture.png)
    trainings = [RunFolder(model.parent) for model in models]
    origin = tell_origin(goal_words(predictor.goal), provenance, _selections(run, trainings))
    judged = judge_test([main for main, _ in results])
    write_finetune_report(
        run.report,
        title=run.path.name,
        verdicts=[*(Verdict(sentence, "unknown") for sentence in origin), *judged],
        summary=_summary(predictor, provenance, run=run, trainings=trainings),
        sections=sections,
        metrics_csvs={one.path.name if len(trainings) > 1 else "": one.metrics for one in trainings},
        notes=warnings,
        skipped=read_skipped(run.skipped),
    )
    write_finetuned_card(
        run.model_card,
        provenance={**provenance, "goal": plain_goal(predictor.goal)},
        sentences=[*origin, *(verdict.sentence for verdict in judged)],
        scores={section.heading: section.scores for section in sections},
        n_models=len(models),
    )
    for verdict in judged:
        progress.say(verdict.sentence)


def _show_test(
    predictor: Predictor, test: Sequence[PreparedCase], rows: Sequence[Row], *, progress: Progress
) -> Results:
    """Return the main score and the section of each question to the model."""
    if isinstance(predictor.goal, Classification):
        return _show_answers(predictor, predictor.goal, test, rows, progress=progress)
    assert isinstance(predictor.goal, Segmentation)
    names = [predictor.goal.class_names[value] for value in predictor.goal.classes[1:]]
    main, section = segmentation_section(rows, names)
    pictures = draw_segmentations(predictor, test, rows, progress=progress)
    return [(main, with_pictures(section, pictures, []))]


def _show_answers(
    predictor: Predictor,
    goal: Classification,
    test: Sequence[PreparedCase],
    rows: Sequence[Row],
    *,
    progress: Progress,
) -> Results:
    results = []
    for number, target in enumerate(goal.targets, start=1):
        own = [row for row in rows if row["target"] == target.name]
        if not own:
            progress.warn(f"No test case has an answer to {target.name}, so nothing is known about it.")
            continue
        main, section = classification_section(own, target, number=number)
        pictures, notes = draw_explanations(predictor, test, own, target, number=number, progress=progress)
        results.append((main, with_pictures(section, pictures, notes)))
    return results


def _selections(run: RunFolder, trainings: Sequence[RunFolder]) -> list[Selection]:
    sides = [row["split"] for row in read_table(run.split)]
    selections = []
    for number, training in enumerate(trainings, start=1):
        status = training.read_status()
        best = (status.get("best") or {}).get("epoch")
        selections.append(
            Selection(
                train_cases=sides.count(f"fold {number} train"),
                val_cases=sides.count(f"fold {number} val"),
                epoch=best or status["epoch"],
                epochs=status["epoch"],
            )
        )
    return selections


def _summary(
    predictor: Predictor, provenance: Mapping[str, Any], *, run: RunFolder, trainings: Sequence[RunFolder]
) -> dict[str, Any]:
    sides = [row["split"] for row in read_table(run.split)]
    own = sides.count("fold 1 train") + sides.count("fold 1 val")
    encoder = predictor.models[0].encoder
    millions = sum(parameter.numel() for parameter in encoder.parameters()) / 1e6
    spacing = " x ".join(f"{mm:.3g}" for mm in provenance["spacing_mm"])
    seconds = sum(training.read_status()["seconds"] for training in trainings)
    return {
        "cases": f"{own} to learn from and choose by, {sides.count('test')} to test",
        "skipped": f"{len(read_skipped(run.skipped))} files",
        "encoder": f"{provenance['architecture']['name']}, {millions:.1f} M parameters",
        "crop": f"{' x '.join(map(str, predictor.crop_size))} voxels of {spacing} mm",
        "updates": f"{provenance['steps']} of {provenance['batch_size']} crops",
        "training time": f"{seconds / 60:.1f} minutes",
        "seed": provenance["seed"],
    }
