"""The study of a search: its trials, in a journal that many processes and hosts may write to."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.distributions import FloatDistribution
from optuna.exceptions import OptunaError
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState, create_trial

from evoconn_cli.config.search import Search
from evoconn_cli.errors import GridError, first_line
from evoconn_cli.search.samplers import (
    GENERATION,
    ReplayedCmaEs,
    distributions_of,
    import_cmaes,
    make_pruner,
    make_sampler,
)

JOURNAL = "study.jsonl"
"""Name of the journal in the directory of a grid."""

_DIGITS = 6
"""Significant digits of drawn numbers, so that they can be read and typed again."""

_DAMAGE = LookupError, ValueError, TypeError, AttributeError, AssertionError, ArithmeticError, RuntimeError, OptunaError
"""What Optuna and its samplers raise about a journal that another program has written to."""

_FOR_IMPORTANCE = 4
"""Complete trials from which on the importance of keys is estimated."""


class Trial(NamedTuple):
    """A trial as the study knows it.

    Attributes:
        number: Number of the trial, from 0.
        values: Values by key of the space.
        reports: Evaluation fitness by environment steps, as the pruner compared it.
        fitness: Final fitness, or the last compared one of a pruned trial; None if unknown.
        state: State of the trial.
    """

    number: int
    values: Mapping[str, Any]
    reports: Mapping[int, float]
    fitness: float | None
    state: TrialState

    @property
    def is_open(self) -> bool:
        """Whether its result is not known yet."""
        return self.state is TrialState.RUNNING

    @property
    def is_complete(self) -> bool:
        """Whether all of its runs were trained to their end."""
        return self.state is TrialState.COMPLETE

    @property
    def is_pruned(self) -> bool:
        """Whether the pruner has ended it."""
        return self.state is TrialState.PRUNED


class Study:
    """The study of one set, task and point of the axes. Nothing is written before the first trial.

    Args:
        journal: File of the journal, which several studies share.
        name: Name of the study in the journal.
        search: Keys of the search.
        every: Environment steps between two reports.
        most_steps: Most environment steps that a run can take.
    """

    def __init__(self, journal: Path, name: str, search: Search, *, every: int, most_steps: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        if search.sampler == "cmaes":
            import_cmaes()
        self._journal = journal.absolute()
        self._name = name
        self._search = search
        self._space = distributions_of(search)
        self._pruner = make_pruner(search, every, most_steps)
        self._opened: optuna.Study | None = None
        self._storage: JournalStorage | None = None

    def trials(self) -> list[Trial]:
        """Returns all trials by number.

        Raises:
            GridError: The journal cannot be read; so too in the methods below, or cannot be written.
        """
        with self._journal_errors():
            return [_as_trial(one) for one in self._frozen()]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from deciding anything about the search meanwhile; all changes are made in it."""
        with self._journal_errors():
            self._journal.parent.mkdir(parents=True, exist_ok=True)
            _drop_cut_line(self._journal)
            lock = JournalFileOpenLock(f"{self._journal}.decide")
            lock.acquire()
        try:
            yield
        finally:
            with suppress(RuntimeError):  # this process was suspended for so long that another one took the lock
                lock.release()

    def ask(self) -> Trial:
        """Returns a new trial, which is written in one line: a process that is killed leaves all of it or nothing."""
        with self._journal_errors():
            study = self._open(make=True)
            known = self._frozen()
            sampler = make_sampler(self._search, len(known))
            rehearsal = optuna.create_study(direction="maximize", sampler=sampler)
            for one in known:
                rehearsal.add_trial(self._in_space(one))
            asked = rehearsal.ask(self._space)
            values = {key: self._rounded(key, value) for key, value in asked.params.items()}
            drawn_from = {GENERATION: sampler.generation} if isinstance(sampler, ReplayedCmaEs) else {}
            running = TrialState.RUNNING
            study.add_trial(
                create_trial(state=running, params=values, distributions=self._space, user_attrs=drawn_from)
            )
            return _as_trial(self._frozen()[-1])

    def report(self, number: int, steps: int, fitness: float) -> bool:
        """Records the fitness of a trial after some environment steps; returns whether that ends the trial."""
        with self._journal_errors():
            study, storage = self._open(make=True), self._storage
            assert storage is not None
            id = storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(self._name), number)
            storage.set_trial_intermediate_value(id, steps, fitness)
            is_hopeless = self._pruner.prune(study, storage.get_trial(id))
            if is_hopeless:
                study.tell(number, state=TrialState.PRUNED)
            return is_hopeless

    def tell(self, number: int, fitness: float | None) -> None:
        """Records the final fitness of a trial; None if it has failed."""
        with self._journal_errors():
            state = TrialState.FAIL if fitness is None else TrialState.COMPLETE
            self._open(make=True).tell(number, fitness, state)

    def prune(self, number: int) -> None:
        """Records that a trial is pruned, with the fitness that was compared last."""
        with self._journal_errors():
            self._open(make=True).tell(number, state=TrialState.PRUNED)

    def importance(self) -> dict[str, float]:
        """Returns the share of each key in being among the best tenth of the trials, largest first; empty if too few.

        Source: PED-ANOVA (Watanabe et al., IJCAI 2023).
        """
        with self._journal_errors(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            known = [self._in_space(one) for one in self._frozen()]
            complete = [one for one in known if one.state is TrialState.COMPLETE]
            if len(complete) < _FOR_IMPORTANCE or len({one.value for one in complete}) < 2:
                return {}
            study = optuna.create_study(direction="maximize")
            study.add_trials(complete)
            return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())

    def _open(self, *, make: bool) -> Any:
        """Returns the study of Optuna; None if there is none yet and it is not to be made."""
        if self._opened is not None:
            return self._opened
        if not make and not self._journal.exists():
            return None
        lock = JournalFileOpenLock(str(self._journal))
        self._storage = JournalStorage(JournalFileBackend(str(self._journal), lock_obj=lock))
        is_new = self._name not in optuna.get_all_study_names(self._storage)
        if is_new and not make:
            return None
        if is_new:
            optuna.create_study(storage=self._storage, study_name=self._name, direction="maximize", load_if_exists=True)
        never_asked = optuna.samplers.RandomSampler(0)
        self._opened = optuna.load_study(
            storage=self._storage, study_name=self._name, sampler=never_asked, pruner=self._pruner
        )
        return self._opened

    def _frozen(self) -> list[FrozenTrial]:
        study = self._open(make=False)
        return [] if study is None else study.get_trials(deepcopy=False)

    def _in_space(self, trial: FrozenTrial) -> FrozenTrial:
        """Returns a trial with the present distributions; a failed one if its values are not in them any more."""
        is_known = trial.params.keys() == self._space.keys() and all(
            value in self._search.space[key] for key, value in trial.params.items()
        )
        if not is_known:
            return create_trial(state=TrialState.FAIL)
        return create_trial(
            state=trial.state,
            value=trial.value,
            params=trial.params,
            distributions=self._space,
            intermediate_values=trial.intermediate_values,
            user_attrs=trial.user_attrs,
        )

    def _rounded(self, key: str, value: Any) -> Any:
        distribution = self._space[key]
        if not isinstance(distribution, FloatDistribution):
            return value
        return min(max(float(f"{value:.{_DIGITS}g}"), distribution.low), distribution.high)

    @contextmanager
    def _journal_errors(self) -> Iterator[None]:
        if self._journal.is_symlink():  # it may lead out of a stranger's grid to any file of the user
            raise GridError(f"{self._journal} is a symbolic link, and none is followed. Put the file in its place.")
        try:
            yield
        except OSError as error:
            raise GridError(f"the search cannot use {self._journal}: {error.strerror or error}.") from None
        except _DAMAGE as error:
            raise GridError(
                f"{self._journal} is damaged: {first_line(error)}. Move it away to begin the search again; cells that "
                "were trained stay, and are not trained twice."
            ) from error


def _as_trial(trial: FrozenTrial) -> Trial:
    return Trial(trial.number, trial.params, trial.intermediate_values, trial.value, trial.state)


def _drop_cut_line(journal: Path) -> None:
    """Removes the end of a journal whose last line was cut off, as on a full disk; the next line would be lost."""
    if not journal.exists() or _is_whole(journal):
        return
    lock = JournalFileOpenLock(str(journal))
    lock.acquire()
    try:
        if not _is_whole(journal):  # another process was writing
            with journal.open("r+b") as file:
                file.truncate(file.read().rfind(b"\n") + 1)
    finally:
        lock.release()


def _is_whole(journal: Path) -> bool:
    """Returns whether the last line of a journal has its end."""
    with journal.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read() in (b"", b"\n")
