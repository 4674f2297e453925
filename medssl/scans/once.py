"""Do work on files once: what lies in the store is taken from there, the rest is made, in parallel."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from medssl.errors import MedsslError, ScanError
from medssl.progress import Progress
from medssl.scans.file_memory import FileMemory, Signature
from medssl.scans.processes import Died, run_jobs
from medssl.scans.sources import source_hash, source_signature

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Task(Protocol[R_co]):
    """Something to make of one file; small enough to be sent to another process."""

    @property
    def path(self) -> Path:
        """Return the file."""

    @property
    def name(self) -> str:
        """Return what to call it beside a progress bar."""

    def find(self, content_hash: str) -> R_co | None:
        """Return what lies in the store for a file of this content, or None."""

    def prepare(self) -> Any:
        """Read the file and return what there is to store.

        Raises:
            ScanError: With the reason why that cannot be.
        """

    def write(self, content_hash: str, prepared: Any) -> R_co:
        """Store what `prepare` returned.

        Raises:
            MedsslError: If the store cannot be written to.
        """


@dataclass(frozen=True, slots=True)
class Job(Generic[R]):
    """A task that remains to be done.

    Attributes:
        index: Its place in the input.
        task: What to do.
        signature: Of its file when the run began.
        content_hash: Of its file, where it is known already.
    """

    index: int
    task: Task[R]
    signature: Signature
    content_hash: str | None


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """What became of a task.

    Attributes:
        result: What is in the store now.
        content_hash: Of its file.
    """

    result: R
    content_hash: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Stands for the result of a task that failed, for the reason given in one sentence."""

    reason: str


def do_once(
    tasks: Sequence[Task[R]], *, folder: Path, processes: int, description: str, progress: Progress
) -> list[R | Failed]:
    """Do each task whose result does not lie in the store; whatever fails, the others go on.

    Args:
        tasks: What to do.
        folder: Of the store, which remembers the content of files that did not change.
        processes: How many run at once; 0 runs the tasks here, one after the other.
        description: Beside the progress bar.
        progress: Gets a bar with the name of each task.

    Returns:
        A result for each task, in their order.

    Raises:
        MedsslError: If the store cannot be written to, or no process can be started.
    """
    hashes = FileMemory(folder / "source_hashes.jsonl")
    results: dict[int, R | Failed] = {}
    jobs: list[Job[R]] = []
    signatures = [_signature(task.path) for task in tasks]
    known = hashes.look_up_all(zip((task.path for task in tasks), signatures, strict=True))
    for index, (task, signature, content_hash) in enumerate(zip(tasks, signatures, known, strict=True)):
        if signature is None:
            results[index] = Failed("It is no longer there, or can no longer be reached.")
        elif (found := task.find(content_hash) if content_hash else None) is not None:
            results[index] = found
        else:
            jobs.append(Job(index, task, signature, content_hash))
    with progress.track(description, total=len(tasks), done=len(results)) as advance:
        for job, outcome in run_jobs(_do, jobs, processes=processes):
            if isinstance(outcome, Done):
                hashes.remember(job.task.path, job.signature, outcome.content_hash)
                results[job.index] = outcome.result
            elif isinstance(outcome, Died):
                results[job.index] = Failed(
                    "The process that prepared it was ended by the system, most likely for want of memory."
                )
            else:
                results[job.index] = outcome
            advance(detail=job.task.name)
    return [results[index] for index in range(len(tasks))]


def _signature(path: Path) -> Signature | None:
    """Return the signature of a file, or None where there is none any more."""
    try:
        return source_signature(path)
    except (OSError, ScanError):
        return None


def _do(job: Job[R]) -> Done[R] | Failed:
    try:
        return _find_or_make(job)
    except ScanError as error:
        reason = str(error)
    except MedsslError:  # the store's fault, not the file's
        raise
    except MemoryError:
        reason = "Preparing it needs more memory than there is."
    except Exception as error:
        reason = f"Preparing it failed ({type(error).__name__}: {error})."
    return Failed(reason)


def _find_or_make(job: Job[R]) -> Done[R]:
    task = job.task
    hashed = job.content_hash or source_hash(task.path)
    result = task.find(hashed)
    if result is None:
        prepared = task.prepare()
        if source_signature(task.path) != job.signature:
            raise ScanError("It changed while it was being read; run again when it is complete.")
        result = task.write(hashed, prepared)
    return Done(result, hashed)
