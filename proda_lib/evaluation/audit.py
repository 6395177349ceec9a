"""What the questions give away on Charades' real labels, measured without a video (section 3.2, appendix C).

The specifications of the paper's protocol are built from the labels of the test videos. Three controls that are given
the SAP and nothing else answer them: class frequency, which does not even look at the SAP, the frequency rule, and a
trained network (:mod:`proda_lib.evaluation.prompt_only`). Only the csv files of Charades are needed. Videos with 1 to
:data:`MAX_LABELS` labels count, which are those of tables 6 and 7.

``results/charades_audit.json`` keeps the measured values, and no annotation; ``python workflow/charades_audit.py``
makes it anew.
"""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from proda_lib.datasets.charades import read_classes, read_rows
from proda_lib.datasets.install import CHARADES_CLASSES, CHARADES_CSVS, charades_folder
from proda_lib.errors import DataError
from proda_lib.evaluation.prompt_only import (
    BATCH_ROWS,
    LEARNING_RATE,
    Answers,
    Labelled,
    LabelledVideo,
    ask_prompt_only,
    class_frequency,
    frequency_answers,
    multi_hots,
    network_answers,
    rule_answers,
    train_prompt_only,
)
from proda_lib.evaluation.protocols import PARTITIONS, none_questions, partition_questions, recognition, self_questions
from proda_lib.evaluation.robustness import robustness
from proda_lib.files import read_json, sha256, write_json
from proda_lib.paths import data_root, results_root
from proda_lib.specification import one_hot, specification_length
from proda_lib.training import provenance
from proda_lib.training.recipe import Recipe, make_recipe
from proda_lib.vocabulary import Vocabulary

#: Videos with more labels are left out, as in tables 6 and 7; so are videos without labels.
MAX_LABELS = 16
CONTROLS = ("frequency", "rule", "trained")
#: Epochs of the trained network on Charades, whose epoch has some 100,000 rows: three seeds take minutes of one thread.
EPOCHS = 10


@dataclasses.dataclass(frozen=True)
class CharadesLabels:
    """Labels of Charades' videos. ``counts``: per part, how many rows the csv has and how many are used."""

    train: list[LabelledVideo]
    test: list[LabelledVideo]
    counts: dict[str, dict[str, int]]
    checksums: dict[str, str]


def read_labels(folder: Path | None = None) -> CharadesLabels:
    """Labels of the videos with 1 to :data:`MAX_LABELS` distinct actions, those of reversed intervals included.

    Args:
        folder: where the csv files and the class list lie; by default where they are installed (``data/README.md``).

    Raises:
        DataError: the files are not there or broken.
    """
    folder = folder or charades_folder(data_root())
    if folder is None:
        raise DataError(data_root(), CHARADES_CSVS[0], "nothing", "Charades' annotation files, see data/README.md")
    vocabulary = Vocabulary("Charades", (), (), read_classes(folder / CHARADES_CLASSES))
    parts, counts = [], {}
    for part, name in zip(("train", "test"), CHARADES_CSVS, strict=True):
        rows = read_rows(folder / name, len(vocabulary.actions), columns=("id", "actions", "length"))
        videos = [LabelledVideo(row.id, vocabulary, np.unique(row.actions)) for row in rows]
        used = [video for video in videos if 1 <= len(video.labels) <= MAX_LABELS]
        without = sum(not len(video.labels) for video in videos)
        counts[part] = {"rows": len(videos), "used": len(used), "without labels": without,
                        f"more than {MAX_LABELS} labels": len(videos) - len(used) - without}  # fmt: skip
        parts.append(used)
    files = (*CHARADES_CSVS, CHARADES_CLASSES)
    checksums = {name: sha256(folder / name) for name in files}
    return CharadesLabels(*parts, counts, checksums)


def audit_recipe(seed: int) -> Recipe:
    """Specifications as the paper has them (K = 16) over the 157 classes of Charades."""
    return make_recipe("paper", dataset="action_genome", model="prompt_only", seed=seed)


def label_free_maps(
    answers: Answers, train: Sequence[Labelled], test: Sequence[Labelled], recipe: Recipe
) -> dict[str, dict[str, float]]:
    """mAP (percent) of a control under the label-free protocols, of a_s and, where a protocol has it, of a_t.

    No label decides these questions, and a control's a_m, from which ``self`` takes its K best, is class frequency. So
    every video is asked the same, and is asked once for all. A class scores the same for all videos then, which ranks
    them as class frequency does.
    """
    frequency = torch.from_numpy(class_frequency(train, test[:1]))
    actions = frequency.shape[1]
    length = specification_length(actions, recipe.spec_length)
    asked = {
        "partition": [partition_questions(actions, length, i)(frequency)[1] for i in PARTITIONS],
        "self": [self_questions(length)(frequency)[1]],
        "scan": [one_hot(range(actions), actions)],
        "none": [none_questions(actions)(frequency)[1]],
    }
    found: dict[str, dict[str, list[float]]] = {}
    for protocol, questions in asked.items():
        for saps in questions:
            a_s, _, a_t = answers(saps)
            own = np.where(saps, a_s[:, :-1], -np.inf).max(0)  # a class that no question contains comes last
            scores = {"a_s": own} if protocol == "scan" else {"a_s": own, "a_t": a_t.mean(0)}
            for name, values in scores.items():
                value = recognition(np.tile(values, (len(test), 1)), test)
                found.setdefault(protocol, {}).setdefault(name, []).append(value)
    return {protocol: {name: float(np.mean(values)) for name, values in answer.items()}
            for protocol, answer in found.items()}  # fmt: skip


def controls(
    train: Sequence[Labelled], test: Sequence[Labelled], recipe: Recipe, epochs: int = EPOCHS
) -> dict[str, dict]:
    """Metrics (percent) of the three controls, "frequency", "rule" and "trained", under every protocol.

    Returns:
        As in the record of a "prompt_only" run: control → ``PaperProtocol.summary``, with :func:`label_free_maps` as
        "label_free" beside it; "frequency"/"map", mAP of class frequency over videos; and "robustness"/control, a_s
        by number of labels (:func:`proda_lib.evaluation.robustness.robustness`).
    """
    trained = network_answers(train_prompt_only(train, recipe, epochs))
    named = {"frequency": frequency_answers(train), "rule": rule_answers(train), "trained": trained}
    rows = {name: ask_prompt_only(answers, test, recipe) for name, answers in named.items()}
    found: dict[str, dict] = {
        name: {**rows[name].summary(), "label_free": label_free_maps(answers, train, test, recipe)}
        for name, answers in named.items()
    }
    found["frequency"]["map"] = recognition(class_frequency(train, test), test)
    found["robustness"] = {name: robustness(of_control) for name, of_control in rows.items()}
    return found


# --- the record -------------------------------------------------------------------------------------------------------


def _of_seed(labels: CharadesLabels, epochs: int, seed: int) -> dict[str, dict]:
    torch.set_num_threads(1)  # sums over several threads have other last digits
    with provenance.reproducible("cpu"):
        return controls(labels.train, labels.test, audit_recipe(seed), epochs)


def measure(labels: CharadesLabels, seeds: Sequence[int] = (0, 1, 2), epochs: int = EPOCHS, jobs: int = 1) -> dict:
    """The record of :func:`controls` for each seed: aggregate numbers only. Minutes a seed, one thread each.

    Args:
        jobs: seeds that are measured side by side, each in a process of its own.
    """
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        metrics = list(pool.map(functools.partial(_of_seed, labels, epochs), seeds))
    recipe = audit_recipe(seeds[0])
    hot = multi_hots(labels.test)
    return {
        "name": "charades-prompt_only",
        "data": {
            "checksums": labels.checksums,
            "videos": labels.counts,
            "test videos by number of labels": np.bincount(hot.sum(1), minlength=MAX_LABELS + 1)[1:].tolist(),
            "classes with positives": int(hot.any(0).sum()),
        },
        "protocol": {"absent_row": recipe.absent_row, "spec_length": recipe.spec_length, "empty": "skip"},
        "network": {"hidden": 1024, "epochs": epochs, "learning_rate": LEARNING_RATE, "batch_rows": BATCH_ROWS,
                    "weight_decay": recipe.weight_decay},
        "seeds": list(seeds),
        "metrics": metrics,
        "versions": provenance.versions(),
        "commit": provenance.commit(),
        "hardware": {**provenance.hardware("cpu"), "processes": jobs, "threads of each": 1},
        "started": started,
        "seconds": round(time.monotonic() - clock, 1),
    }  # fmt: skip


def record_path() -> Path:
    """Where the committed values of :func:`measure` lie."""
    return results_root() / "charades_audit.json"


def write_record(record: dict) -> Path:
    """Write a record of :func:`measure` to :func:`record_path`."""
    write_json(record_path(), record)
    return record_path()


def recorded() -> dict:
    """The committed record of :func:`measure`.

    Raises:
        DataError: the record is missing or damaged.
    """

    def check(record: dict) -> dict:
        for metrics in record["metrics"]:
            _ = [(metrics[name]["both"]["a_t"], metrics["robustness"][name]) for name in CONTROLS]
        return {**record, "seeds": record["seeds"], "data": record["data"], "network": record["network"]}

    return read_json(record_path(), check, "a record written by workflow/charades_audit.py")
