"""How large the terms of the loss were, from the traces of runs; where a_t and a_m part as the margins change."""

import dataclasses

import pytest

from proda_lib.evaluation.cells import Interval
from proda_lib.evaluation.grid import Recorded
from proda_lib.pages import ablations, label_free, sweeps
from proda_lib.training.recipe import make_recipe
from proda_lib.training.runs import Run

#: Stretches of 20, 5 and 15 of an epoch's 40 steps, then of 20 and 20.
CURVES = [
    {"stage": "pretrain", "epoch": 1, "trace": {"epoch": [0.5, 0.625, 1.0], "dis": [0.0, 0.8, 0.0], "a_u": [1, 1, 1]}},
    {"stage": "pretrain", "epoch": 2, "trace": {"epoch": [1.5, 2.0], "dis": [0.2, 0.0], "a_u": [2, 2]}},
    {"stage": "posttrain", "epoch": 1, "trace": {"epoch": [1.0], "a_t": [9.0]}},
]


def measured(*metrics: dict) -> list[Run]:
    """One run a seed, with these metrics."""
    recipes = [dataclasses.asdict(make_recipe("smoke", seed=seed)) for seed in range(len(metrics))]
    size = {"data": "1", "videos": [{"train": 8, "test": 4}]}
    return [Run({"metrics": ours, "recipe": recipe, **size}, None)
            for ours, recipe in zip(metrics, recipes, strict=True)]  # fmt: skip


def runs(*scores: tuple[float, float]) -> list[Run]:
    return measured(*({"paper": {"both": {"a_t": a_t}}, "a_m": {"map": a_m}} for a_t, a_m in scores))


def test_a_stretch_counts_as_many_times_as_it_has_steps():
    found = Recorded({"ours": [Run({"curves": CURVES}, None)], "later": []})
    table = ablations.active_terms(found, ["ours", "later"]).frame
    dis = (5 * 0.8 + 20 * 0.2) / 80
    assert table.loc["ours"].tolist() == [f"{dis:.4f} ({25 / 80:.1%})", "not in the loss", "1.500"]
    assert set(table.loc["later"]) == {"not run"}


def test_stretches_add_up_to_the_mean_of_the_epoch():
    epoch = {"epoch": 3, "trace": {"epoch": [2.25, 2.75, 3.0], "rec": [1.0, 0.0, 3.0]}}
    assert ablations._mean_and_share([epoch], "rec") == (pytest.approx(1.0), pytest.approx(0.5))


def test_a_shortcut_is_where_a_t_rises_and_a_m_falls_with_every_seed():
    found = {
        "0.2": runs((50, 30), (52, 31)),
        "0.0": runs((60, 20), (61, 22)),
        "0.5": runs((55, 29), (51, 30)),
        "1.0": [],
    }
    said = sweeps.margin_findings(Recorded({f"margins m1 = m2: {margin}": group for margin, group in found.items()}))
    assert said.splitlines() == [
        "- Margin 0 instead of 0.2: a_t +9.5 ± 0.7 points, a_m −9.5 ± 0.7.",
        "- Margin 0.5 instead of 0.2: a_t +2.0 ± 4.2 points, a_m −1.0 ± 0.0.",
        "- a_t above and a_m below, with every seed: 0.",
    ]
    assert "not" in sweeps.margin_findings(Recorded({"margins m1 = m2: 0.2": found["0.2"]})).lower()


def test_length_findings_set_a_t_beside_its_control_and_what_does_not_see_the_question():
    found = {"16": runs((50, 30), (52, 31)), "4": runs((60, 30), (64, 31)), "32": runs((45, 30), (44, 33)), "64": []}
    recorded = {f"length of a specification, K: {length}": group for length, group in found.items()}
    assert sweeps.length_findings(Recorded(recorded)) == (
        "K 32 instead of 4, in points: a_t −17.5 ± 3.5, a_m +1.0 ± 1.4."
    )
    for length, a_t in (("4", 58), ("32", 48)):
        control = measured({"trained": {"both": {"a_t": a_t}}})
        recorded[f"prompt_only, length of a specification, K: {length}"] = control
    assert "prompt-only −10.0, " in sweeps.length_findings(Recorded(recorded))
    assert "not" in sweeps.length_findings(Recorded({})).lower()


def test_a_longer_stage_2_is_set_beside_the_control_without_a_prompt():
    found = {"epochs of stage 2: 2": runs((75, 60), (77, 64)), "epochs of stage 2: 8": runs((79, 75)),
             "epochs of stage 2: 32": []}  # fmt: skip
    assert sweeps.stage_2_findings(Recorded(found)).splitlines() == [
        "- 2 epochs of stage 2: a_t 76.0 ± 1.4, a_m 62.0 ± 2.8.",
        "- 8 epochs of stage 2: a_t 79.0, a_m 75.0.",
    ]
    found["prompt_only, length of a specification, K: 4"] = measured(*[{"trained": {"both": {"a_t": 74}}}] * 2)
    for epochs, levels in (("2", (78, 79)), ("8", (80,)), ("32", ())):
        found[f"no_prompt, epochs of stage 2: {epochs}"] = measured(*({"a_t": {"map": level}} for level in levels))
    assert sweeps.stage_2_findings(Recorded(found)).splitlines() == [
        "- 2 epochs of stage 2: a_t 76.0 ± 1.4 (+2.0 ± 1.4 from the trained prompt-only control), "
        "a_m 62.0 ± 2.8 (−16.5 ± 2.1 from no_prompt of as many epochs).",
        "- 8 epochs of stage 2: a_t 79.0 (+5.0 from the trained prompt-only control), "
        "a_m 75.0 (−5.0 from no_prompt of as many epochs).",
    ]
    assert "not" in sweeps.stage_2_findings(Recorded({})).lower()


def test_a_sweep_stands_beside_its_own_controls_or_those_of_the_default():
    found = {"K: 16": runs((50, 30)), "K: 4": runs((60, 30)), "layers: 1": runs((50, 30)), "layers: 2": runs((51, 31))}
    for row, level in {"prompt_only, K: 16": 40, "prompt_only, K: 4": 45}.items():
        found[row] = measured({"trained": {"both": {"a_t": level}}})
    for row, level in {"no_prompt, layers: 1": 29, "no_prompt, layers: 2": 33}.items():
        found[row] = measured({"a_t": {"map": level}})
    table = sweeps.sweep_table(Recorded(found)).frame["control"]
    assert [cell.mean for cell in table["prompt-only, a_t"]] == [40, 45, 40, 40]
    assert [cell.mean for cell in table["no_prompt"]] == [29, 29, 29, 33]
    found["no_prompt, layers: 2"] = []
    assert str(sweeps.sweep_table(Recorded(found)).frame["control", "no_prompt"].iloc[-1]) == "not run"


def test_controls_stand_in_every_column_that_they_answer():
    control = measured({"rule": {"both": {"a_t": 40, "a_u": 5}}, "trained": {"both": {"a_t": 45, "a_u": 8}}})
    found = {"ours": runs((50, 30)), "prompt_only": control, "no_prompt": measured({"a_t": {"map": 33}})}
    ours = ablations.ablation_table(Recorded(found), ["ours"], []).frame["ours"].map(str)
    assert ours.loc["prompt only, rule"].tolist() == ["40.0", "40.0", "–", "–", "5.0"]
    assert ours.loc["prompt only, trained"].tolist() == ["45.0", "45.0", "–", "–", "8.0"]
    assert ours.loc["no_prompt"].tolist() == ["–", "–", "33.0", "33.0", "–"]


def test_a_label_free_answer_is_above_only_with_every_seed_and_an_interval_without_0(monkeypatch):
    controls = {
        row: measured(*[{"a_t": {"map": level}}] * 2) for row, level in {"no_prompt": 30, "encoder_only": 32}.items()
    }
    found = Recorded({"ProDA": runs((50, 31), (50, 33)), **controls})
    for interval, word in ((None, "above"), (Interval(2, -1, 5), "not told apart from"), (Interval(2, 1, 5), "above"),
                           (Interval(2, -1, 5, "(1 of 2 seeds)"), "above")):  # fmt: skip
        monkeypatch.setattr("proda_lib.evaluation.paired.interval", lambda *a, interval=interval: interval)
        said = label_free._stands(found, "a_m", "a_m/map")
        assert f"a_m is {word} no_prompt and not told apart from the video encoder alone." in said
    assert label_free._stands(Recorded({}), "a_m", "a_m/map") == ""
