"""Curves of several folds: each fold has an epoch that it kept, and a line of its own."""

import dataclasses

import pytest
from matplotlib import pyplot

from proda_lib.evaluation.grid import Recorded
from proda_lib.pages import reference_profile
from proda_lib.plotting import training
from proda_lib.training.recipe import make_recipe
from proda_lib.training.runs import Run

#: The score after each epoch, by stage and fold. The mean over the folds is best after epoch 3, then after epoch 2.
SCORES = {"pretrain": ([10.0, 60.0, 40.0], [50.0, 20.0, 45.0]), "posttrain": ([70.0, 60.0], [55.0, 80.0])}
ANSWERS = {"pretrain": ("a_s", "a_u", "a_t"), "posttrain": ("a_t", "a_m")}


def curves(*folds: int) -> list[dict]:
    """As in a run's record: the folds one after the other. mAP of every answer is the score; losses tell the fold."""
    return [
        {"fold": fold, "stage": stage, "epoch": epoch, "score": score,
         **{f"val_{name}": score for name in ANSWERS[stage]},
         "trace": {"epoch": [epoch - 0.5, epoch], **{name: [fold + 1.0, fold + 2.0] for name in ANSWERS[stage]}}}
        for fold in folds for stage, scores in SCORES.items() for epoch, score in enumerate(scores[fold], 1)
    ]  # fmt: skip


def found(*folds: int) -> Recorded:
    videos = [{"train": 9, "test": 3}] * len(folds)
    about = {"recipe": dataclasses.asdict(make_recipe("smoke")), "videos": videos, "data": "world-1"}
    return Recorded({"DPM": [Run({**about, "curves": curves(*folds)}, None)]})


def dotted(axes) -> list[float]:
    return [line.get_xdata()[0] for line in axes.get_lines() if line.get_linestyle() == ":"]


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


def test_each_fold_kept_its_own_epoch():
    both = curves(0, 1)
    assert [row["epoch"] for row in training.kept(both, "pretrain")] == [2, 1]
    assert [row["epoch"] for row in training.kept(both, "posttrain")] == [1, 2]
    assert training.kept(both, "self") == []
    equal = [{"stage": "pretrain", "epoch": epoch, "score": 5.0} for epoch in (1, 2)]
    assert [row["epoch"] for row in training.kept(equal, "pretrain")] == [1], "training keeps the first"


@pytest.mark.parametrize(("folds", "first", "second"), [((0,), 60, 70), ((1,), 50, 80), ((0, 1), 55, 75)])
def test_the_table_has_the_mean_of_what_the_folds_kept(folds, first, second):
    cells = reference_profile.validation_table(found(*folds), "DPM").frame["validation mAP"]
    assert [cell.values for cell in cells] == [(first,)] * 3 + [(second,)] * 2


@pytest.mark.parametrize(
    ("folds", "epochs", "told"),
    [((0,), [2, 3 + 1], "the one that was kept"), ((0, 1), [1, 2, 3 + 1, 3 + 2], "what each fold kept")],
)
def test_the_figure_of_both_stages_marks_what_each_fold_kept(folds, epochs, told):
    loss, score = training.two_stages(curves(*folds)).axes
    assert dotted(loss) == dotted(score) == epochs and told in score.get_xlabel()
    lines = [line.get_ydata().tolist() for line in loss.get_lines() if line.get_linestyle() == "-"]
    assert lines == [[terms * (fold + 1.0), terms * (fold + 2.0)] * length
                     for terms, length in ((3, 3), (2, 2)) for fold in folds]  # fmt: skip
    means = [line.get_ydata().tolist() for line in score.get_lines() if line.get_linestyle() == "-"]
    expected = {stage: [sum(scores[f][i] for f in folds) / len(folds) for i in range(len(scores[0]))]
                for stage, scores in SCORES.items()}  # fmt: skip
    assert means == [expected[stage] for stage in SCORES for _ in ANSWERS[stage]]


@pytest.mark.parametrize("folds", [(0,), (0, 1)])
def test_a_line_of_losses_never_goes_back(folds):
    first, second = reference_profile.learning_curves(found(*folds), "DPM").axes
    for ax, stage, epochs in ((first, "pretrain", 3), (second, "posttrain", 2)):
        assert len(ax.get_lines()) == len(ANSWERS[stage]) * len(folds)
        assert [text.get_text() for text in ax.get_legend().get_texts()] == list(ANSWERS[stage])
        for line in ax.get_lines():
            assert line.get_xdata().tolist() == [half / 2 for half in range(1, 2 * epochs + 1)]
    assert first.get_lines()[-1].get_ydata().tolist() == [folds[-1] + 1.0, folds[-1] + 2.0] * 3


def test_loss_terms_are_those_of_the_first_fold():
    (ax,) = training.loss_terms(curves(0, 1)).axes
    assert [line.get_ydata().tolist() for line in ax.get_lines()] == [[1.0, 2.0] * 3] * 3
