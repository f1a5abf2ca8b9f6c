"""One trial: TrialConfig -> TrialResult. The only place where the stages are composed.

collect -> label -> fit -> train -> evaluate -> report, each in its own folder below `out`. `trial.json` records what
every finished stage was made from; a trial that is started again skips those and goes on with the rest.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from datamodules.locks import try_lock
from datamodules.manifest import read_manifest
from datamodules.progress import ProgressDisplay, Report
from datamodules.records import encode_frame
from datamodules.results import write_result
from datamodules.tasks import Task
from lightning_modules.fit import check_fit, fit_student
from lightning_modules.labelling import label_frames
from lightning_modules.reward_function import check_spread_penalty
from lightning_modules.run_spool import SPOOL
from lightning_modules.runs import Run
from lightning_modules.settings import TeacherSettings
from lightning_modules.teacher import ClipTeacher, check_prompts, fetch_weights
from rllib_envs.collect import collect_frames
from rllib_envs.evaluate import evaluate_agent, random_policy_returns
from rllib_envs.evaluations import EVALUATIONS, read_evaluations
from rllib_envs.gl import require_gl
from rllib_envs.refinement_check import check_strategy
from rllib_envs.scores import normalised_score
from rllib_envs.settings import learning_settings
from rllib_envs.simulators import make_simulator
from rllib_envs.train import train_agent
from sweeps.costs import cost_metrics
from sweeps.figures import figures_of_trial
from sweeps.journal import Journal, Made, Stage
from sweeps.learning_speed import area_under_curve
from sweeps.report import write_report
from sweeps.settings import EVALUATION_SEED, TrialConfig
from sweeps.shared_stages import POLL_SECONDS, SharedStage, shared_numbers, shared_stages
from sweeps.statistics import mean_with_interval
from sweeps.student_page import write_student_page
from sweeps.trial_files import RESULT

LOCK = "trial.lock"
SHOWN_FIDELITY = ("pearson", "spearman_pooled", "spearman_within_episode")
AGENT_FIGURES = (
    "steps",
    "updates",
    "steps_per_second",
    "costs",
    "cost_shares",
    "reward_latency",
    "peak_memory_gib",
    "peak_gpu_memory_gib",
)
UNITS = {
    "collect": "frames",
    "label": "frames",
    "fit": "batches",
    "train": "steps",
    "evaluate": "episodes",
    "report": "pages",
}


Progress = Callable[[float, float], None]
"""Called with the share of a trial's last stage that is done, 0 to 1, and the figure that it has reached."""


def run_trial(
    config: TrialConfig,
    command: str,
    check: Callable[[], None] = lambda: None,
    progress: Progress = lambda share, value: None,
) -> Path:
    """Run a trial, or go on with one that was stopped.

    Args:
        config: every setting of every stage.
        command: the command that reproduces the trial, kept in the result and on the page.
        check: called over and over while it runs; what it raises stops the trial, which can be gone on with later.
        progress: called at each evaluation of the agent, or after each epoch of a fit that is the last stage.

    Returns:
        The path of `result.json`; `report.html` lies beside it.

    Raises:
        SuiteError: a mistake in the settings, found before any work starts.
    """
    stages = stages_of(config, progress)
    check_trial(config, {stage.name for stage in Journal(config.out).unfinished(stages)})
    with _alone(config.out, check):
        return _run_stages(config, stages, command, check)


def _run_stages(config: TrialConfig, stages: Sequence[Stage], command: str, check: Callable[[], None]) -> Path:
    journal = Journal(config.out)
    unfinished = journal.unfinished(stages)
    if unfinished:
        (config.out / RESULT).unlink(missing_ok=True)  # of what is done again now
    tracking = config.tracking
    name = config.out.name if tracking.parent else f"{config.task.name} {config.reward} seed {config.seed}"
    shared = shared_stages(config.shared, config.out, stages)

    def begun(run_id: str) -> None:
        journal.run_id = run_id

    with (
        Run(
            tracking.uri,
            tracking.experiment,
            name,
            journal.run_id,
            parent=tracking.parent,
            spool=config.out / SPOOL,
            on_begin=begun,
        ) as run,
        ProgressDisplay({stage.name: UNITS[stage.name] for stage in stages} | {"report": UNITS["report"]}) as display,
    ):
        _describe(run, config, command)
        for stage in stages:
            if stage not in unfinished:
                display.done_before(stage.name, f"done before, in {journal.seconds()[stage.name]:.0f} s")
                continue
            with display.running(stage.name) as report:
                journal.begin(stage)
                made = _make(stage, shared.get(stage.name), config.out, checked(report, check), run)
                journal.finish(stage, made.figures, made.seconds, made.shared)
        with display.running("report") as report:
            path = _conclude(config, journal, run, command)
            report(1, 1, "")
    return path


@contextmanager
def _alone(trial: Path, check: Callable[[], None]) -> Iterator[None]:
    """Wait until no other process works in the trial's folder, and keep others out."""
    trial.mkdir(parents=True, exist_ok=True)
    waited = False
    while (lock := try_lock(trial / LOCK)) is None:
        if not waited:
            print(f"another process works on {trial}: waiting for its end", file=sys.stderr, flush=True)
            waited = True
        check()
        time.sleep(POLL_SECONDS)
    with lock:
        yield


def checked(report: Report, check: Callable[[], None]) -> Report:
    """A report that calls `check` first."""

    def report_and_check(done: int, total: int, note: str = "") -> None:
        check()
        report(done, total, note)

    return report_and_check


def _make(stage: Stage, shared: SharedStage | None, trial: Path, report: Report, run: Run) -> Made:
    if shared is not None:
        return shared.make(
            stage, trial, lambda: stage.work(report, run), lambda: report(0, 1, "another trial is doing the same")
        )
    start = time.monotonic()
    figures = stage.work(report, run)
    return Made(figures, time.monotonic() - start)


def check_trial(config: TrialConfig, unfinished: set[str]) -> None:
    """Find every mistake that can be found without work: GL, simulator, camera, prompts, teacher, student.

    A teacher's weights are downloaded here, so that a machine without a network is known before the first frame.

    Raises:
        SuiteError: what was given, what is allowed, and what to do next.
    """
    require_gl()
    make_simulator(config.task).close()
    asking = {"label"}
    if config.reward == "teacher" or config.judge or config.refinement:
        asking |= {"train", "evaluate"}
    if asking & unfinished:
        check_prompts(config.teacher, (*config.task.prompts.goal, *config.task.prompts.baseline))
        fetch_weights(config.teacher)
    if "fit" in unfinished:
        members = check_fit(config.student, config.task.render.frame_pixels, config.fit)
        check_spread_penalty(config.spread_penalty, members, config.student)
        if config.refinement:
            check_strategy(config.refinement, members)


def stages_of(config: TrialConfig, progress: Progress = lambda share, value: None) -> list[Stage]:
    """The stages this trial's reward needs: only the student's reward needs frames, labels and a fit."""
    out, task = config.out, asdict(config.task)
    unseen = ("prompts", "success_reward", "score_range")  # no frame changes
    seen = {name: value for name, value in task.items() if name not in unseen}

    def collect(report: Report, run: Run) -> dict[str, Any]:
        return asdict(collect_frames(config.task, config.collect, out / "frames", config.seed, report))

    def label(report: Report, run: Run) -> dict[str, Any]:
        teacher = ClipTeacher(config.teacher)
        result = label_frames(out / "frames", teacher, out / "labels", sentences, report)
        return {**asdict(result), "teacher": {"name": teacher.name, "digest": teacher.digest}}

    def fit(report: Report, run: Run) -> dict[str, Any]:
        fitted = fit_student(
            config.student,
            out / "labels",
            out / "student",
            seed=config.seed,
            report=report,
            run=run,
            prompts=config.task.prompts,
            settings=config.fit,
            on_epoch=progress if config.last_stage == "fit" else None,
        )
        run.log_file(write_student_page(out / "student", [read_manifest(out / "labels")]), "student")
        return asdict(fitted)

    def train(report: Report, run: Run) -> dict[str, Any]:
        def log(evaluation: Mapping[str, Any]) -> None:
            kinds = [kind for kind in evaluation if kind.endswith("_returns")]
            means = {f"eval/{kind[:-1]}": float(np.mean(evaluation[kind])) for kind in kinds}
            run.log_metrics({**means, "eval/updates": evaluation["updates"]}, evaluation["steps"])
            share = min(1.0, evaluation["steps"] / learning_settings(config.sac, config.ppo).total_steps)
            progress(share, _worth(config.task, means["eval/true_return"]))

        return asdict(
            train_agent(
                config.task,
                config.reward,
                learning_settings(config.sac, config.ppo),
                out / "agent",
                seed=config.seed,
                student=out / "student" if config.reward == "student" else None,
                teacher=config.teacher if config.reward == "teacher" or config.refinement else None,
                judge=judge,
                spread_penalty=config.spread_penalty,
                refinement=config.refinement,
                labels=out / "labels" if config.refinement else None,
                report=report,
                on_evaluation=log,
                on_picture=lambda picture, steps: run.log_image("evaluation", encode_frame(picture), steps),
            )
        )

    def evaluate(report: Report, run: Run) -> dict[str, Any]:
        seeds = range(EVALUATION_SEED, EVALUATION_SEED + config.evaluation_episodes)
        chance = shared_numbers(
            config.shared,
            "random",
            {"task": seen, "first_seed": EVALUATION_SEED},
            lambda: random_policy_returns(config.task, EVALUATION_SEED),
            lambda: report(0, 1, "another trial plays the random policy"),
        )
        return asdict(evaluate_agent(out / "agent", seeds, out / "evaluation", report, teacher=judge, chance=chance))

    seed = {"seed": config.seed}
    varied = {"fit": config.fit} if config.fit else {}
    asked = {"teacher": _decisive(config.teacher)} if config.reward == "teacher" else {}
    sentences = (*config.task.prompts.goal, *config.task.prompts.baseline)
    judge = config.teacher if config.judge else None
    learning = {"sac": asdict(config.sac)} if config.ppo is None else {"ppo": asdict(config.ppo)}
    penalty = {"spread_penalty": config.spread_penalty} if config.spread_penalty else {}  # as trials of before have it
    judged_by = None if judge is None else _decisive(judge)
    learned = [
        Stage("collect", "frames", {"task": seen, "collect": asdict(config.collect), **seed}, collect),
        Stage("label", "labels", {"teacher": _decisive(config.teacher)}, label, sentences),
        Stage(
            "fit", "student", {"student": _recipe(config.student), "prompts": task["prompts"], **seed, **varied}, fit
        ),
    ]
    if config.last_stage == "fit":
        return learned
    return [
        *(learned if config.reward == "student" else []),
        Stage(
            "train",
            "agent",
            {
                "task": task,
                "reward": config.reward,
                **learning,
                "judge": judged_by,
                **asked,
                **penalty,
                **({"refinement": asdict(config.refinement)} if config.refinement else {}),
                **seed,
            },
            train,
        ),
        Stage("evaluate", "evaluation", {"episodes": config.evaluation_episodes, "teacher": judged_by}, evaluate),
    ]


def _describe(run: Run, config: TrialConfig, command: str) -> None:
    run.log_settings({name: value for name, value in _settings(config).items() if name != "tracking"})
    run.set_tags(
        {
            "task": config.task.name,
            "reward": config.reward,
            "prompts.goal": list(config.task.prompts.goal),  # tags, as the fit's: parameters would be cut
            "prompts.baseline": list(config.task.prompts.baseline),
            "prompts.alpha": config.task.prompts.alpha,
            "mlflow.note.content": f"One trial: `{command}`. Its page is the artifact `report.html`.",
        }
    )


def _settings(config: TrialConfig) -> dict[str, Any]:
    """All that count: of the two algorithms only the one by which the agent learns."""
    unused = "ppo" if config.ppo is None else "sac"
    return {name: value for name, value in asdict(config).items() if name != unused}


def _conclude(config: TrialConfig, journal: Journal, run: Run, command: str) -> Path:
    """Write `result.json` and the page, and log both; result.json is written twice, because the page takes time too.

    Only the second one has a total: it says that the trial is finished (trial_files.py).
    """
    start = time.monotonic()
    labels = config.out / "labels"
    if journal.figures("label"):
        run.log_data(str(labels), read_manifest(labels))  # a fit that another trial did has not named them here
    figures = _figures(config, journal, run, command)
    write_result(config.out, figures, _settings(config))
    page = write_report(config.out)
    run.log_file(page)
    for name, png in figures_of_trial(config.out).items():
        run.log_image(name, png)
    if (video := config.out / "evaluation" / "agent.mp4").exists():
        run.log_file(video, "video")
    figures["seconds"] |= {"report": round(time.monotonic() - start, 2)}
    figures["seconds"]["total"] = round(sum(figures["seconds"].values()), 2)
    run.log_metrics(
        {
            **_final_measures(figures),
            **{f"final/student_{name}": figures["student"][name] for name in SHOWN_FIDELITY if "student" in figures},
            "cost/teacher_queries": figures["teacher_queries"],
            **cost_metrics(figures.get("agent", {})),
            **{f"cost/{stage}_seconds": seconds for stage, seconds in figures["seconds"].items()},
        }
    )
    path = write_result(config.out, figures, _settings(config))
    run.log_file(path)
    return path


def _figures(config: TrialConfig, journal: Journal, run: Run, command: str) -> dict[str, Any]:
    label, fit, train, evaluate = (journal.figures(stage) for stage in ("label", "fit", "train", "evaluate"))
    generator = np.random.default_rng(config.seed)

    def summary(returns: list[float]) -> dict[str, Any]:
        return {**asdict(mean_with_interval(returns, generator)), "episodes": returns}

    figures = {
        "task": config.task.name,
        "seed": config.seed,
        "reward": config.reward,
        "prompts": asdict(config.task.prompts),
        "successes": evaluate.get("successes"),
        "overoptimisation": evaluate.get("overoptimisation"),
        "labelling_queries": label.get("total_teacher_queries", 0),
        "teacher_queries": label.get("total_teacher_queries", 0)
        + train.get("teacher_queries", 0)
        + evaluate.get("teacher_queries", 0),
        "seconds": journal.seconds(),
        "attempts": journal.attempts(),
        "shared": journal.shared(),
        "command": command,
        "mlflow": _place_of(run),
    }
    if refinement := train.get("refinement"):
        figures["refinement"], figures["query_budget"] = refinement, refinement["query_budget"]
    for name in ("true_return", "random_return", "learned_return", "score", "teacher_return"):
        if values := evaluate.get(f"{name}s"):
            figures[name] = summary(values)
    if train:
        figures["agent"] = {name: train[name] for name in AGENT_FIGURES if name in train}
    curve = read_evaluations(config.out / "agent" / EVALUATIONS)
    if len(curve) > 1:
        steps, heights = [each.steps for each in curve], [float(np.mean(each.true_returns)) for each in curve]
        figures["area_under_curve"] = area_under_curve(steps, heights)
    if label:
        figures["teacher"] = label["teacher"]
    if fit:
        figures["student"] = {**fit["fidelity"], "backbone": fit["backbone"], "parameters": fit["parameters"]}
    return figures


def _place_of(run: Run) -> dict[str, Any]:
    """Where the trial is recorded; `run_id` is None and `waiting` a file where the server has not been reached."""
    waiting = run.deliver()
    return {"tracking_uri": run.tracking_uri, "run_id": run.run_id, "waiting": waiting}


def _final_measures(figures: Mapping[str, Any]) -> dict[str, float]:
    """The evaluation's other figures as metrics; a trial is over-optimised where any gold return fell."""
    returns = ("true_return", "random_return", "score", "teacher_return")
    measures = {name: figures[name]["mean"] for name in returns if name in figures}
    if figures["successes"]:
        measures["success_rate"] = float(np.mean(figures["successes"]))
    if figures["overoptimisation"]:
        measures["overoptimised"] = float(any(figures["overoptimisation"].values()))
    if "area_under_curve" in figures:
        measures["area_under_curve"] = figures["area_under_curve"]
    return {f"final/{name}": value for name, value in measures.items()}


def _worth(task: Task, true_return: float) -> float:
    """The normalised score where the task has one."""
    score = normalised_score(task, true_return)
    return true_return if score is None else score


def _recipe(student: Path) -> Any:
    """What the student's file says: two files that say the same make the same student."""
    try:
        return yaml.safe_load(student.read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return str(student)  # where it is needed, `check_fit` says what is wrong with it


def _decisive(teacher: TeacherSettings) -> dict[str, Any]:
    """What decides the labels; batch size and device do not."""
    return {"clips": [list(clip) for clip in teacher.clips], "precision": teacher.precision}
