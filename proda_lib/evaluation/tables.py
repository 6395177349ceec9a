"""Which runs a page needs, by row: the pages, the grid and the tests read the same lists."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from proda_lib.datasets.cad120_files import ACTIONS as CAD120_ACTIONS
from proda_lib.training.recipe import RELEASED, Recipe, make_recipe

#: Rows of a table: name → one recipe per seed.
Rows = dict[str, list[Recipe]]


def _rows(profile: str, seeds: Sequence[int], rows: dict[str, dict]) -> Rows:
    return {name: [make_recipe(profile, seed=seed, **changes) for seed in seeds] for name, changes in rows.items()}


def table03(profile: str, seeds: Sequence[int], dataset: str = "world") -> Rows:
    """Table 3, the prompt: SimplePrompt and DPM, with the prompt-free and the prompt-only controls."""
    rows = {
        "SimplePrompt": {"prompt": "simple"},
        "DPM": {},
        "no_prompt": {"model": "no_prompt"},
        "prompt_only": {"model": "prompt_only"},
    }
    return _rows(profile, seeds, {name: {"dataset": dataset, **row} for name, row in rows.items()})


#: "reference" is sized for a whole grid of runs; what the world can show needs more different videos than that.
_MANY_VIDEOS = {"train_videos": 16000, "test_videos": 300, "width": 64, "batch_videos": 32, "warmup": 0.15,
                "feature_scale": 1.0}  # fmt: skip


def world_controls(profile: str, seeds: Sequence[int] = (0,)) -> Rows:
    """What makes SSG-World a benchmark: ``no_prompt`` whole, shuffled, without relations; simpler models; ProDA.

    In profile "reference" on 16,000 training videos: to use the order of the frames takes so many.
    """
    rows = {
        "no_prompt": {"model": "no_prompt"},
        "no_prompt, frames shuffled": {"model": "no_prompt", "shuffle_frames": True},
        "no_prompt, without relations": {"model": "no_prompt", "relations": False},
        "encoder_only": {"model": "encoder_only"},
        "logistic": {"model": "logistic"},
        "prompt_only": {"model": "prompt_only"},
        "ProDA": {},
    }
    many = _MANY_VIDEOS if profile == "reference" else {}
    return _rows(profile, seeds, {name: {**many, **row} for name, row in rows.items()})


def cad120(profile: str, seeds: Sequence[int], dataset: str = "cad120") -> Rows:
    """CAD-120: ProDA and ``no_prompt``, with and without relations, and the prompt-only controls (which see neither).

    ``dataset``: "cad120" or "cad120_clips".
    """
    rows: dict[str, dict] = {}
    for relations in (True, False):
        suffix = "" if relations else ", without relations"
        for model in ("proda", "no_prompt"):
            rows[model + suffix] = {"dataset": dataset, "model": model, "relations": relations}
    rows["prompt_only"] = {"dataset": dataset, "model": "prompt_only"}
    return _rows(profile, seeds, rows)


#: What a variant of the grid leaves out: C questions a video cost more than all the others together.
_VARIANT = {"scan": False}
#: What stands beside every variant.
_CONTROLS: dict[str, dict] = {"no_prompt": {"model": "no_prompt"}, "prompt_only": {"model": "prompt_only"}}


def _variants(profile: str, seeds: Sequence[int], dataset: str, rows: dict[str, dict]) -> Rows:
    """Changed ProDAs with the controls; a row without a change is ProDA as in table 3."""
    rows = {name: {**_VARIANT, **row} if row and "model" not in row else row for name, row in rows.items()}
    return _rows(profile, seeds, {name: {"dataset": dataset, **row} for name, row in {**rows, **_CONTROLS}.items()})


def table01(profile: str, seeds: Sequence[int], dataset: str = "world") -> Rows:
    """Table 1, recognition: ProDA and what else can be done with the same scene graphs."""
    models = ("encoder_only", "token_transformer", "frame_gcn", "gpnn", "relation_lstm")
    return _variants(profile, seeds, dataset, {"ProDA": {}, **{model: {"model": model} for model in models}})


#: Rows of table 4, the default last.
_NORMS: dict[str, dict] = {
    "LayerNorm": {"norm": "layer"},
    "BatchNorm": {"norm": "batch"},
    "GraphNorm": {"norm": "graph"},
    "VGNorm": {},
}


def table04(profile: str, seeds: Sequence[int], dataset: str = "world") -> Rows:
    """Tables 4 and 12: the normalisation after each VGPNN layer."""
    return _variants(profile, seeds, dataset, _NORMS)


def _detached(rows: dict[str, dict]) -> dict[str, dict]:
    """The same rows, where the reconstruction does not move its target F_o."""
    return {f"{name}, detached": {**row, "detach_target": True} for name, row in rows.items()}


def detached_norms(profile: str, seeds: Sequence[int], dataset: str = "world") -> Rows:
    """BatchNorm and VGNorm of table 4 both ways: the reconstruction moving its target F_o as it does, and not."""
    rows = {name: _NORMS[name] for name in ("BatchNorm", "VGNorm")}
    return _variants(profile, seeds, dataset, rows | _detached(rows))


#: Rows of table 5: terms of the loss; ⑤ is the default.
_LOSSES: dict[str, dict] = {
    "①": {"dis": False, "rec": False},
    "②": {"margin_dis": 0.0, "margin_rec": 0.0},
    "③": {"rec": False},
    "④": {"dis": False},
    "⑤": {},
    "⑥": {"model": "encoder_only"},
}


def table05(profile: str, seeds: Sequence[int], dataset: str = "world") -> Rows:
    """Tables 5 and 13: terms of the loss, rows ① to ⑥."""
    return _variants(profile, seeds, dataset, _LOSSES)


def detached_target(profile: str, seeds: Sequence[int], dataset: str = "world") -> Rows:
    """Row ① of table 5, and those with a reconstruction both ways: moving its target F_o as they do, and not.

    On SSG-World the term of rows ④ and ⑤ is 0 within its margin, so both ways are the same network there.
    """
    rows = {row: _LOSSES[row] for row in "②④⑤"}
    return _variants(profile, seeds, dataset, {"①": _LOSSES["①"], **rows, **_detached(rows)})


def robustness(profile: str, seeds: Sequence[int], dataset: str = "world") -> Rows:
    """Tables 6 and 7: a_s by number of labels, of ProDA and of the prompt-only controls."""
    return _rows(
        profile, seeds, {"DPM": {"dataset": dataset}, "prompt_only": {"dataset": dataset, "model": "prompt_only"}}
    )


#: Figures 3, 4, 8 to 11 and tables 8 and 9 look at the same two.
localization = robustness


def domain_shift(profile: str, seeds: Sequence[int]) -> Rows:
    """Tables 10 and 11: five scene splits of SSG-World, with the actions tied to scenes and, once, free of them."""
    models = {"ProDA": {**_VARIANT}, "no_prompt": {"model": "no_prompt"}, "prompt_only": {"model": "prompt_only"}}
    rows = {}
    for scenario in range(1, 6):
        for name, row in models.items():
            rows[f"{name}, scenario {scenario}"] = {**row, "scenario": scenario, "scene_bias": 0.9}
    for name, row in models.items():
        rows[f"{name}, scenario 1, actions free of scenes"] = {**row, "scenario": 1, "scene_bias": 0.0}
    return _rows(profile, seeds, rows)


def sweeps(profile: str, seeds: Sequence[int], dataset: str = "world") -> Rows:
    """Beyond the paper, one setting at a time: rows "setting: value", the default's value first.

    CAD-120 has few actions, so its K is max(2, C // 2) at most, and its sweep goes down from there. It also has few
    videos, and so few steps in an epoch of stage 2, which alone trains a_m: a sweep of its own.
    """
    largest = max(2, (len(CAD120_ACTIONS) - 1) // 2)  # "null" is no action of whole videos
    lengths = {"world": (4, 8, 32), "cad120": tuple(range(2, largest))}[dataset]
    values: dict[str, tuple[str, tuple]] = {
        "length of a specification, K": ("spec_length", lengths),
        "candidate prompts, T": ("candidates", (1, 2, 10)),
        "VGPNN layers": ("layers", (2, 3)),
        "prompt modules": ("branches", ("dual",)),
        "margins m1 = m2": ("margin", (0.0, 0.05, 0.1, 0.5, 1.0)),
        "replaced relations": ("relation_noise", (0.1, 0.3)),
        "missing boxes": ("missing", (0.1, 0.3)),
        "edges between all slots": ("full_edges", (True,)),
    }
    if dataset == "cad120":
        values["epochs of stage 2"] = ("posttrain_epochs", (8, 32))
    rows: dict[str, dict] = {}
    for label, (name, others) in values.items():
        names = ("margin_dis", "margin_rec") if name == "margin" else (name,)
        default = getattr(make_recipe(profile, dataset=dataset), names[0])
        if name == "spec_length" and dataset == "cad120":
            default = largest
        rows[f"{label}: {default}"] = {}
        rows |= {f"{label}: {value}": {**_VARIANT, **dict.fromkeys(names, value)} for value in others}
        # the control without a prompt has the same input and as many epochs in all; K changes the questions
        changed = {"relation_noise": "no_prompt", "missing": "no_prompt", "full_edges": "no_prompt",
                   "posttrain_epochs": "no_prompt", "spec_length": "prompt_only"}  # fmt: skip
        if model := changed.get(name):
            rows[f"{model}, {label}: {default}"] = {"model": model}
            rows |= {f"{model}, {label}: {value}": {"model": model, name: value} for value in others}
    return _rows(profile, seeds, {name: {"dataset": dataset, **row} for name, row in rows.items()})


def three_layers(profile: str, seeds: Sequence[int], dataset: str = "world") -> Rows:
    """The deepest parser of the sweeps: for parsing, layer by layer."""
    return _only(sweeps(profile, seeds, dataset), "VGPNN layers: 3")


def label_free(profile: str, seeds: Sequence[int], dataset: str = "world") -> Rows:
    """The audit of label-free ProDA: trained as in table 3, with single absent actions, and on its own questions.

    On CAD-120, where the reconstruction is at work, also with less of it: a target that it does not move, wide margins.
    """
    rows: dict[str, dict] = {
        "ProDA": {},
        "ProDA, absent singles": {"absent_singles": True},
        "ProDA, own questions": {"questions": "a_m"},
        "encoder_only": {"model": "encoder_only"},
    }
    if dataset == "cad120":
        rows["ProDA, target only read"] = {"detach_target": True, **_VARIANT}
        rows["ProDA, margins 1"] = {"margin_dis": 1.0, "margin_rec": 1.0, **_VARIANT}
    return _rows(profile, seeds, {name: {"dataset": dataset, **row} for name, row in {**rows, **_CONTROLS}.items()})


def selection(profile: str, seeds: Sequence[int], dataset: str = "world") -> Rows:
    """The best epoch by held-out training videos, and by the test videos themselves.

    Its page has CAD-120: on SSG-World a stage of profile "reference" has one epoch, so there is nothing to choose.
    """
    rows: dict[str, dict] = {"validation": {}, "test": {"select": "test", **_VARIANT}}
    return _rows(profile, seeds, {name: {"dataset": dataset, **row} for name, row in rows.items()})


def presets(profile: str, seeds: Sequence[int] = (0,), dataset: str = "world") -> Rows:
    """The paper's text and the released code, each with the prompt-only controls on its own specifications."""
    rows: dict[str, dict] = {
        "paper": {},
        "released": {"preset": "released"},
        "prompt_only, paper": {"model": "prompt_only"},
        # of the released settings this one alone; "redraw" and "long_videos" would change its training rows too
        "prompt_only, released": {"model": "prompt_only", "absent_row": True},
    }
    return _rows(profile, seeds, {name: {"dataset": dataset, **row} for name, row in rows.items()})


def differences(profile: str, seeds: Sequence[int] = (0,), dataset: str = "world") -> Rows:
    """The paper's text and each difference of the released code alone, with the controls.

    A difference has a row where it can matter: "redraw" where a stage has several epochs; "long_videos" where videos
    have more than K labels, which those of SSG-World have not (of CAD-120's 100, 24 have). Where the profile warms up
    anyway, the row "warmup" does not. "specs_per_video" fills batches of the same size with random pairs of video and
    specification. "posttrain_heads" is where the paper differs from itself: section 4.1 against appendix D.2.
    """
    base = make_recipe(profile, dataset=dataset)
    rows: dict[str, dict] = {"paper": {}, **{name: {name: value} for name, value in RELEASED.items()}}
    if base.warmup:
        rows["warmup"] = {"warmup": 0.0}
    if max(base.pretrain_epochs, base.posttrain_epochs) == 1:
        del rows["redraw"]
    if dataset == "world":
        del rows["long_videos"]
    rows["posttrain_heads"] = {"posttrain_heads": "sutm"}
    rows["specs_per_video"] = {"specs_per_video": 1, "batch_videos": base.batch_videos * base.specs_per_video}
    rows["prompt_only, absent_row"] = {"model": "prompt_only", "absent_row": True}
    return _variants(profile, seeds, dataset, rows)


#: Shares of the training videos, and where the weights of ProDA start: row names are "START, SHARE".
SHARES = (0.01, 0.05, 0.25, 1.0)
STARTS = ("from SSG-World", "from scratch")


def transfer(profile: str, seeds: Sequence[int], dataset: str = "cad120") -> Rows:
    """Learning curves: ProDA from the library's weights and from scratch, ``no_prompt``, and prompt-only, by share.

    All networks have the size of those weights. A smaller share gets more epochs, or it would get many times fewer
    steps.
    """
    size = {"width": 64, "heads": 4, "layers": 1, "depth": 1, "candidates": 5, "frames": 16}
    base = make_recipe(profile, dataset=dataset)
    rows: dict[str, dict] = {}
    for share, more in zip(SHARES, (8, 4, 2, 1), strict=True):
        epochs = {"pretrain_epochs": more * base.pretrain_epochs, "posttrain_epochs": more * base.posttrain_epochs}
        for name, start in zip(STARTS, ("world", ""), strict=True):
            rows[f"{name}, {share:.0%}"] = {**_VARIANT, **size, **epochs, "start": start, "train_share": share}
        rows[f"no_prompt, {share:.0%}"] = {**size, **epochs, "model": "no_prompt", "train_share": share}
        rows[f"prompt_only, {share:.0%}"] = {"model": "prompt_only", "train_share": share}
    return _rows(profile, seeds, {name: {"dataset": dataset, **row} for name, row in rows.items()})


def _only(rows: Rows, name: str) -> Rows:
    return {name: rows[name]}


#: Pages that look into the default run: what each block makes of a video, what a scan costs.
_OF_THE_DEFAULT = (
    *(f"model/{block}" for block in ("video_encoder", "dynamic_prompt", "vgpnn", "vgnorm", "readout_fusion", "losses")),
    "model/two_stage_training",
    "data/specifications",
    "engineering/performance",
)


def by_page(profile: str = "reference", seeds: Sequence[int] = (0, 1, 2)) -> dict[str, list[Recipe]]:
    """Every run that a page of the book shows, in the order in which they are worth making.

    What is committed as a record, and nothing else is. CAD-120 is small, so whatever makes sense on it has all seeds.
    Pages about one model take the first seed; so do the pages with many variants of SSG-World (sweeps, the five scene
    splits, the differences of the code), or the grid would take days; sweeps and differences have all seeds on CAD-120.
    """
    first = tuple(seeds)[:1]

    def both(table: Callable[..., Rows]) -> list[Rows]:
        return [table(profile, seeds), table(profile, seeds, "cad120")]

    default = [_only(table03(profile, first), "DPM")]

    pages: dict[str, list[Rows]] = {
        "data/world": [world_controls(profile, first)],
        "results/table03": both(table03),
        "results/cad120": [cad120(profile, seeds), cad120(profile, first, "cad120_clips")],
        "audit/label_free": [*both(label_free), *both(table05)],
        "results/table04": [*both(table04), detached_norms(profile, seeds, "cad120")],
        "results/table05": [*both(table05), detached_target(profile, seeds, "cad120")],
        "results/table06": both(robustness),
        "results/table08": both(localization),
        "figures/localization": default,
        "figures/separability": default,
        "figures/parsing": [
            _only(table03(profile, seeds), "DPM"),
            _only(table01(profile, seeds), "encoder_only"),
            three_layers(profile, first),
        ],
        "figures/explorer": default,
        "audit/prompt": [_only(table03(profile, seeds), "prompt_only"), _only(cad120(profile, seeds), "prompt_only")],
        "results/table01": both(table01),
        "results/table10": [domain_shift(profile, first)],
        "results/sweeps": [sweeps(profile, first), sweeps(profile, seeds, "cad120")],
        "results/transfer": [transfer(profile, seeds)],
        "audit/checklist": [table03(profile, seeds), cad120(profile, seeds), selection(profile, seeds, "cad120")],
        "paper_and_code": [presets(profile, first), differences(profile, first), differences(profile, seeds, "cad120")],
        **dict.fromkeys(_OF_THE_DEFAULT, default),
        "results/table02": [],  # it waits for its data
    }
    compared = (table01, table03, table04, table05, label_free)
    pages["intro"] = [*itertools.chain(*map(both, compared)), world_controls(profile, first), transfer(profile, seeds),
                      domain_shift(profile, first)]  # fmt: skip
    found = {page: list(dict.fromkeys(r for rows in tables for recipes in rows.values() for r in recipes))
             for page, tables in pages.items()}  # fmt: skip
    found["engineering/reference_profile"] = list(dict.fromkeys(itertools.chain(*found.values())))  # it sums them up
    return found
