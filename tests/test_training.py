"""Training: a killed run resumes to the same weights, bit for bit; frozen parts stay frozen; NaN is named."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from proda_lib.batch import map_tensors
from proda_lib.datasets.registry import Split, load_splits
from proda_lib.errors import CheckpointError, DataError, RecipeError, TrainingError
from proda_lib.evaluation.protocols import PaperProtocol
from proda_lib.models.config import ModelConfig
from proda_lib.models.proda import ProDA
from proda_lib.paths import project_root
from proda_lib.training import data, loop, provenance, runs, stages
from proda_lib.training.checkpoint import read_checkpoint
from proda_lib.training.outcome import fit_and_score, make_fabric
from proda_lib.training.recipe import NETWORK_NAMES, PROFILES, command, make_recipe, read_recipe

TINY = {"train_videos": 10, "test_videos": 4, "pretrain_epochs": 2, "batch_videos": 4}


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("PRODA_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def weights(run: runs.Run) -> dict[str, torch.Tensor]:
    return load_file(run.folder / "fold0" / "model" / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


SCRIPT = textwrap.dedent("""
    import time
    from proda_lib.training import loop, runs
    from proda_lib.training.recipe import make_recipe
    loop.SAVE_EVERY, loop.SAVE_SHARE, loop.LOOK_EVERY = 0.0, 1e9, 2  # a checkpoint after every other step
    step = loop.learning_rate
    loop.learning_rate = lambda *a: (time.sleep(0.05), step(*a))[1]
    runs.get(make_recipe("smoke", **{changes}))
""")


@pytest.mark.parametrize("how, stage", [
    (signal.SIGKILL, "pretrain"), (signal.SIGINT, "pretrain"), (signal.SIGKILL, "self"),
])  # fmt: skip
def test_killed_run_resumes_to_the_same_weights(store, monkeypatch, how, stage):
    monkeypatch.setattr(loop, "LOOK_EVERY", 2)
    changes = TINY if stage == "pretrain" else {**TINY, "pretrain_epochs": 1, "posttrain_epochs": 2, "questions": "a_m"}
    recipe = make_recipe("smoke", **changes)
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}  # the last digits depend on it
    process = subprocess.Popen([sys.executable, "-c", SCRIPT.format(changes=changes)], env=environment,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    checkpoint = store / runs.run_name(recipe) / "fold0" / f"{stage}.safetensors"
    for _ in range(6000):
        if checkpoint.exists() and (state := read_checkpoint(checkpoint, recipe.hash("world-" + version()))[0])["step"]:
            break
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.05)
    else:
        pytest.fail(f"{stage} did not begin")
    process.send_signal(how)
    process.wait(timeout=60)
    assert not (store / runs.run_name(recipe) / "record.json").exists()
    assert state["epoch"] < 2 and state["stage"] == stage
    resumed = runs.get(recipe)
    resumed_weights = weights(resumed)
    for path in (store / runs.run_name(recipe)).rglob("*"):
        if path.is_file():
            path.unlink()
    whole = runs.get(recipe)
    assert same(resumed_weights, weights(whole)) and timeless(resumed.curves) == timeless(whole.curves)


@pytest.mark.parametrize("how, times", [(signal.SIGTERM, 1), (signal.SIGINT, 2)])
def test_a_signal_to_all_processes_leaves_a_checkpoint(store, tmp_path, how, times):
    """Ctrl-C and a scheduler's SIGTERM reach the workers of the loader too. A second one ends everything at once."""
    began = tmp_path / "began"
    script = textwrap.dedent(f"""
        import multiprocessing, pathlib, time
        from proda_lib.training import loop, outcome, runs
        from proda_lib.training.recipe import make_recipe
        train, step = outcome.train, loop.learning_rate
        outcome.train = lambda *given, **named: train(*given, **{{**named, "workers": 2}})

        def slow(*given):
            pathlib.Path({str(began)!r}).write_text(str(len(multiprocessing.active_children())))
            time.sleep({0.2 if times == 1 else 30.0})  # a second signal ends the sleep
            return step(*given)

        loop.learning_rate = slow
        runs.get(make_recipe("smoke", **{TINY}))
    """)
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True, text=True,
                               stderr=subprocess.PIPE)  # fmt: skip
    while not began.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    for _ in range(times):
        os.killpg(process.pid, how)
        time.sleep(2)  # two that are not yet seen would count as one
    said = process.communicate(timeout=60)[1]
    recipe = make_recipe("smoke", **TINY)
    checkpoint = store / runs.run_name(recipe) / "fold0" / "pretrain.safetensors"
    assert process.returncode and "KeyboardInterrupt" in said and "killed by signal" not in said
    assert began.read_text() == "2", "so many workers were asked for"
    assert checkpoint.exists() == (times == 1)
    if times == 1:
        assert read_checkpoint(checkpoint, recipe.hash("world-" + version()))[0]["step"] > 0


def timeless(curves: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in curves]


def test_neither_the_clock_nor_an_interrupt_changes_the_curves(store, monkeypatch):
    """Interrupted between two looks, which is where a checkpoint is written at once."""
    monkeypatch.setattr(loop, "LOOK_EVERY", 4)
    recipe, real, asked = make_recipe("smoke", **TINY), loop.learning_rate, []

    def interrupting(step, total, warmup):  # asked for each group of parameters; a second signal would act at once
        asked.append(step)
        if asked.count(5) == 1 and step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return real(step, total, warmup)

    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(loop, "SAVE_SHARE", 1e9)
    monkeypatch.setattr(loop, "learning_rate", interrupting)
    with pytest.raises(KeyboardInterrupt):
        runs.get(recipe)
    checkpoint = next((store / runs.run_name(recipe)).glob("fold0/pretrain.safetensors"))
    state = read_checkpoint(checkpoint, recipe.hash("world-" + version()))[0]
    assert (state["epoch"], state["step"], state["looked"][0]) == (0, 6, 4)
    monkeypatch.setattr(loop, "learning_rate", real)
    resumed = timeless(runs.get(recipe).curves)
    (store / runs.run_name(recipe) / "record.json").unlink()
    monkeypatch.setattr(loop, "SAVE_EVERY", 1e9)
    assert timeless(runs.get(recipe).curves) == resumed


@pytest.mark.parametrize("share", [1e9, 1e-9])
def test_checkpoints_take_no_more_than_their_share_of_the_time(store, monkeypatch, share):
    """After each epoch, and at every look, or only at the first look of a stage: by then none has taken any time."""
    for name, value in {"SAVE_EVERY": 0.0, "SAVE_SHARE": share, "LOOK_EVERY": 1}.items():
        monkeypatch.setattr(loop, name, value)
    real, calls = loop.save_checkpoint, []
    monkeypatch.setattr(loop, "save_checkpoint", lambda *given: (calls.append(given), real(*given)))
    curves = runs.get(make_recipe("smoke", **TINY)).curves
    looks, stages = sum(len(row["trace"]["epoch"]) for row in curves), len({row["stage"] for row in curves})
    assert looks > 10 and len(calls) == len(curves) + (looks if share > 1 else stages)


@pytest.mark.parametrize("epochs", [1, 2])
def test_an_interrupt_during_validation_stops_the_run_and_its_time_counts(store, monkeypatch, epochs):
    recipe, clock = make_recipe("smoke", **{**TINY, "pretrain_epochs": epochs}), time.monotonic
    real = PaperProtocol.summary

    def interrupting(self):
        monkeypatch.setattr(PaperProtocol, "summary", real)
        monkeypatch.setattr(time, "monotonic", lambda: clock() + 1000)  # a long validation
        os.kill(os.getpid(), signal.SIGINT)
        return real(self)

    monkeypatch.setattr(PaperProtocol, "summary", interrupting)
    with pytest.raises(KeyboardInterrupt):
        runs.get(recipe)
    folder = store / runs.run_name(recipe) / "fold0"
    state = read_checkpoint(folder / "pretrain.safetensors", recipe.hash("world-" + version()))[0]
    assert (state["epoch"], state["step"]) == (1, 0) and not (folder / "posttrain.safetensors").exists()
    monkeypatch.setattr(time, "monotonic", clock)
    resumed = runs.get(recipe)
    assert 1000 < resumed.curves[0]["seconds"] < 1100 and resumed.record["seconds"] > 1000
    (store / runs.run_name(recipe) / "record.json").unlink()
    assert timeless(runs.get(recipe).curves) == timeless(resumed.curves)


def version() -> str:
    from proda_lib.datasets.world import WORLD_VERSION

    return WORLD_VERSION


def test_second_stage_trains_heads_only_and_records_are_complete(store):
    recipe = make_recipe("smoke", **{**TINY, "pretrain_epochs": 1})
    run = runs.get(recipe)
    trained = weights(run)
    first = dataclasses.replace(recipe, posttrain_epochs=1, posttrain_lr=0.05)
    other = weights(runs.get(first))
    moved = {name.split(".")[0] for name in trained if not torch.equal(trained[name], other[name])}
    assert moved == {"readout_t", "readout_m"}
    record = json.loads((run.folder / "record.json").read_text())
    assert read_recipe(record["recipe"]) == recipe and record["name"] == runs.run_name(recipe)
    assert {"versions", "commit", "hardware", "seconds", "metrics", "curves", "data"} <= record.keys()
    assert not list(run.folder.glob("fold0/*.safetensors")), "checkpoints are removed when the run is done"
    assert runs.get(recipe).record == record, "a finished run is read, not repeated"
    assert [r.name for r in runs.list_runs()] == sorted(r.name for r in (run, runs.get(first)))


def test_sutm_and_reinit_and_released(store):
    run = runs.get(make_recipe("smoke", **{**TINY, "pretrain_epochs": 1}, preset="released", head_m="reinit",
                               posttrain_heads="sutm", absent_singles=True))  # fmt: skip
    assert {"a_s", "a_t", "a_m", "a_u"} <= run.curves[-1].keys()
    assert "graph" in run.curves[0]


def test_nan_stops_with_the_name_of_the_term(store, monkeypatch):
    monkeypatch.setattr(loop, "LOOK_EVERY", 1)
    real = loop.Stage.__init__

    def poisoned(self, *args, **kwargs):
        real(self, *args, **kwargs)
        losses = self.losses
        self.losses = lambda *a: {**(t := losses(*a)), "rec": t["rec"] * float("nan")}

    monkeypatch.setattr(loop.Stage, "__init__", poisoned)
    with pytest.raises(TrainingError, match="loss terms rec: found not finite"):
        runs.get(make_recipe("smoke", **TINY))


def test_checkpoint_of_another_recipe_is_refused(store):
    recipe = make_recipe("smoke", **TINY)
    folder = store / runs.run_name(recipe) / "fold0"
    folder.mkdir(parents=True)
    (folder / "pretrain.safetensors").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="pretrain.safetensors"):
        runs.get(recipe)


def test_every_pair_once_in_an_epoch_and_order_depends_on_seed_and_epoch_only():
    recipe = make_recipe("smoke", train_videos=7)
    graphs = load_splits("world", 7, 1)[0].train

    def rows(epoch: int, start: int = 0) -> list:
        loader, _ = data.epoch_loader(graphs, recipe, epoch, start)
        return [
            (r.batch.videos[v], tuple(np.flatnonzero(s)))
            for r in loader
            for v, s in zip(r.row_video, r.sap.numpy(), strict=True)
        ]

    first = rows(0)
    assert len(first) == sum(2 * len(g.labels) + 1 for g in graphs)
    assert first == rows(0) != rows(1)
    assert rows(0, start=1) == first[-len(rows(0, start=1)) :]
    for graph in graphs:
        lengths = sorted(len(s) for name, s in first if name == graph.video)
        L = len(graph.labels)
        assert lengths == sorted([*range(1, L + 1), *[16] * (L + 1)])


def test_a_batch_is_pinned_whole(monkeypatch):
    """And only where it is asked for: a machine without a GPU has no such memory."""
    recipe, pinned = make_recipe("smoke", train_videos=4), []
    rows = next(iter(data.epoch_loader(load_splits("world", 4, 1)[0].train, recipe, 0)[0]))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: (pinned.append(tensor), tensor.clone())[1])
    copy = rows.pin_memory()
    tensors = []
    map_tensors(rows, lambda tensor: (tensors.append(tensor), tensor)[1])
    assert {id(tensor) for tensor in pinned} == {id(tensor) for tensor in tensors} and len(pinned) > 15
    assert copy.row_video == rows.row_video and torch.equal(copy.batch.edges, rows.batch.edges)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_batches_are_of_nearly_equal_size(accumulate):
    graphs = load_splits("world", 9, 1)[0].train
    recipe = make_recipe("smoke", batch_videos=6, accumulate=accumulate)
    loader, steps = data.epoch_loader(graphs, recipe, 0)
    visits = len(data.EpochRows(graphs, recipe, 0))
    sizes = [len(r.batch) for r in loader]
    assert steps == round(visits / 6) and len(sizes) == steps * accumulate and sum(sizes) == visits
    assert max(sizes) - min(sizes) <= 1 + (accumulate > 1)


def test_more_parts_than_videos_in_a_batch_are_refused():
    graphs = load_splits("world", 4, 1)[0].train
    with pytest.raises(RecipeError, match="batch_videos: found 2 videos in a batch, expected one for each of 1 proc"):
        data.epoch_loader(graphs, make_recipe("smoke", batch_videos=2, accumulate=3), 0)


def test_accumulated_gradients_are_those_of_the_whole_batch(store):
    """One step on one batch of 8 videos, with a norm that looks at no other video.

    AdamW's first step is lr · sign(gradient), so only gradients that are zero but for rounding may differ.
    """
    changes = {**TINY, "train_videos": 9, "batch_videos": 8, "specs_per_video": 99, "norm": "layer",
               "pretrain_epochs": 1, "posttrain_epochs": 0, "model": "no_prompt", "dropout": 0.0}  # fmt: skip
    whole, parts = (runs.get(make_recipe("smoke", **changes, accumulate=a)) for a in (1, 2))
    assert parts.curves[0]["a_t"] == pytest.approx(whole.curves[0]["a_t"], abs=1e-6)
    pairs = [(weights(whole)[name], value) for name, value in weights(parts).items()]
    differ = torch.cat([((a - b).abs() > 1e-4).flatten() for a, b in pairs])
    assert differ.float().mean() < 0.01


def test_recomputing_changes_no_result(store):
    """Dropout included: the random state is put back before a block runs again."""
    changes = {**TINY, "pretrain_epochs": 1, "dropout": 0.1}
    kept, again = (weights(runs.get(make_recipe("smoke", **changes, recompute=r))) for r in (False, True))
    assert same(kept, again)


def test_the_trace_of_an_epoch_averages_to_its_mean(store, monkeypatch):
    monkeypatch.setattr(loop, "LOOK_EVERY", 2)
    for row in runs.get(make_recipe("smoke", **TINY)).curves:
        trace = row["trace"]
        ends = np.array(trace["epoch"]) - (row["epoch"] - 1)
        assert ends[-1] == 1 and (np.diff(ends) > 0).all()
        for name in set(trace) - {"epoch"}:
            assert np.average(trace[name], weights=np.diff(ends, prepend=0)) == pytest.approx(row[name])


def test_the_terms_of_all_processes_are_fetched_at_once(tmp_path, monkeypatch):
    """One message and one wait, whatever the number of terms, and the same sums to the last bit."""
    sent = []
    monkeypatch.setattr(loop, "all_sum", lambda x: sent.append(x) or 2 * x)
    terms = {name: torch.tensor(value, dtype=torch.double) for name, value in (("a_s", 1 / 3), ("dis", 1e-17))}
    stage, at = loop.Stage("pretrain", 1, 0.0, [], None, None), loop.Standing(tmp_path / "c", sums=terms)
    assert loop.fetch(stage, at) == {"a_s": 2 / 3, "dis": 2e-17} and len(sent) == 1
    assert loop.fetch(stage, loop.Standing(tmp_path / "c")) == {} and len(sent) == 1


def test_validation_split_is_by_video():
    graphs = load_splits("world", 30, 1)[0].train
    kept, held = data.split_validation(graphs, seed=3)
    chosen = sorted(np.random.default_rng([3, 77]).permutation(30)[:3])
    assert held == [graphs[i] for i in chosen] and kept == [g for g in graphs if g not in held]
    with pytest.raises(RecipeError, match="select: found 'validation' and 1 video to train on, expected at least 2"):
        data.split_validation(graphs[:1], seed=3)


def test_clips_of_a_video_stay_together():
    graphs = load_splits("world", 30, 1)[0].train
    clips = [dataclasses.replace(g, video=f"subject/video{i % 10}#{i // 10}") for i, g in enumerate(graphs)]
    kept, held = data.split_validation(clips, seed=3)
    assert len({g.video.split("#")[0] for g in held}) == 1 and len(held) == 3 and len(kept) == 27
    assert not {g.video.split("#")[0] for g in kept} & {g.video.split("#")[0] for g in held}
    assert kept + held == sorted(kept, key=clips.index) + sorted(held, key=clips.index)


@pytest.mark.parametrize("setting", ["absent_row", "absent_singles"])
def test_a_video_with_all_labels_has_no_question_about_an_absent_one(setting):
    graphs = load_splits("world", 2, 1)[0].train
    C = len(graphs[0].vocabulary.actions)
    graphs[0] = dataclasses.replace(graphs[0], labels=np.arange(C))
    recipe = make_recipe("smoke", specs_per_video=1, batch_videos=2, **{setting: True})
    counts = [2 * C + 1, 2 * len(graphs[1].labels) + 2]
    rows = data.EpochRows(graphs, recipe, 0)
    assert [sum(video == i for video, _ in rows.items) for i in (0, 1)] == counts
    assert all(len(saps) == 1 for _, saps in rows)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_progress_goes_from_0_at_the_first_step_to_1_at_the_last(store, monkeypatch, accumulate):
    """Step by step through each stage, also where a run was stopped and resumed."""
    seen: dict[str, list[float]] = {}
    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(loop, "SAVE_SHARE", 1e9)
    monkeypatch.setattr(loop, "LOOK_EVERY", 1)
    real = loop.Stage.__init__

    def watched(self, *args, **kwargs):
        real(self, *args, **kwargs)
        losses = self.losses

        def noted(model, rows, progress):
            if self.name == "pretrain" and len(seen.get("pretrain", [])) == 3 * accumulate and not stopped:
                stopped.append(True)
                raise InterruptedError
            seen.setdefault(self.name, []).append(progress)
            return losses(model, rows, progress)

        self.losses = noted

    stopped: list[bool] = []
    monkeypatch.setattr(loop.Stage, "__init__", watched)
    recipe = make_recipe("smoke", **TINY, accumulate=accumulate)
    with pytest.raises(InterruptedError):
        runs.get(recipe)
    runs.get(recipe)
    for name in ("pretrain", "posttrain"):
        steps = len(seen[name]) // accumulate
        assert steps > 2
        np.testing.assert_allclose(seen[name], np.repeat(np.linspace(0, 1, steps), accumulate))


@pytest.mark.parametrize("model", NETWORK_NAMES)
def test_everything_that_trains_has_a_gradient(store, monkeypatch, model):
    """Else a run on several devices stops. AdamW keeps a state of each parameter that ever had one."""
    made, real = [], loop.make_optimizer
    monkeypatch.setattr(loop, "make_optimizer", lambda *given: made.append(real(*given)) or made[-1])
    runs.get(make_recipe("smoke", **{**TINY, "pretrain_epochs": 1}, model=model))
    for optimizer in made:
        assert all(p in optimizer.state for group in optimizer.param_groups for p in group["params"])


def test_learning_rate_warms_up_and_decays():
    factors = [loop.learning_rate(step, 10, 2.0) for step in range(10)]
    assert factors[0] == 0.5 and max(factors) == 1.0 and factors[-1] == pytest.approx(1 / 8)
    assert [loop.learning_rate(step, 4, 0) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]


@pytest.mark.parametrize("norm", ["vgnorm", "vgnorm_released", "layer", "batch", "graph"])
def test_weight_decay_spares_norms_and_one_dimensional_parameters(norm):
    """In the order of the model; apart from the norm of the released code, which is 2-d, the rule is that of ndim."""
    model = ProDA(ModelConfig(actions=4, objects=3, relations=2, width=8, heads=2, layers=2, depth=1, norm=norm))
    decayed, spared = loop.make_optimizer([model], 1e-3, 0.1).param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    names = {id(p): name for name, p in model.named_parameters()}
    of_norm = [f"vgpnn.layers.{layer}.norm.{name}" for layer in (0, 1) for name in ("alpha", "gamma", "beta")]
    two = [name for name, p in model.named_parameters() if p.ndim >= 2]
    expected = [name for name in two if norm != "vgnorm_released" or name not in of_norm]
    assert [names[id(p)] for p in decayed["params"]] == expected
    assert [names[id(p)] for p in spared["params"]] == [name for name in names.values() if name not in expected]
    assert len(two) - len(expected) == (6 if norm == "vgnorm_released" else 0)


def test_recipes_hash_by_content_and_refuse_nonsense():
    for profile in PROFILES:
        assert make_recipe(profile).hash("d") == make_recipe(profile).hash("d") != make_recipe(profile).hash("e")
    assert make_recipe("smoke", seed=1).hash("d") != make_recipe("smoke").hash("d")
    for changes in ({"norm": "x"}, {"width": 31}, {"nonsense": 1}, {"dataset": "../mars"}):
        with pytest.raises(RecipeError):
            recipe = make_recipe("smoke", **changes)
            recipe.model_config(load_splits("world", 1, 1)[0].train[0].vocabulary)
    with pytest.raises(RecipeError, match="profile: found 'huge'"):
        make_recipe("huge")


@pytest.mark.parametrize("changes, expected", [
    ({"posttrain_epochs": 0}, r"found \(1, 0\), expected at least 1 each"),
    ({"pretrain_epochs": 0}, r"found \(0, 1\), expected at least 1 each"),
    ({"model": "no_prompt", "pretrain_epochs": 0, "posttrain_epochs": 0}, r"found \(0, 0\), expected none below 0"),
    ({"model": "no_prompt", "posttrain_epochs": -1}, r"found \(1, -1\), expected none below 0"),
])  # fmt: skip
def test_a_stage_without_an_epoch_is_refused(changes, expected):
    with pytest.raises(RecipeError, match=f"Recipe.pretrain_epochs, posttrain_epochs: {expected}"):
        make_recipe("smoke", **changes)
    assert make_recipe("smoke", model="no_prompt", posttrain_epochs=0).pretrain_epochs == 1


@pytest.mark.parametrize("model", ["prompt_only", "logistic"])
def test_a_control_that_picks_no_epoch_needs_no_validation_video(tmp_path, model):
    split = load_splits("world", 1, 4)[0]
    found, curves, _ = fit_and_score(make_recipe("smoke", model=model), "", split, tmp_path, "cpu")
    assert curves == [] and all(np.isfinite(scores).all() and len(scores) == 4 for scores in found.video.values())


@pytest.mark.parametrize("model", ["proda", "no_prompt"])
def test_videos_without_labels_can_pick_no_epoch(tmp_path, monkeypatch, model):
    """Said before anything is trained."""
    train = load_splits("world", 12, 1)[0].train
    held = {graph.video for graph in data.split_validation(train, 0)[1]}
    train = [dataclasses.replace(g, labels=g.labels[:0]) if g.video in held else g for g in train]
    monkeypatch.setattr(stages, "run_stage", None)
    recipe = make_recipe("smoke", model=model)
    with pytest.raises(DataError, match="world: validation videos, .*: found no label in any of 1, expected a label"):
        fit_and_score(recipe, "", Split(train, train), tmp_path, "cpu", make_fabric(recipe))


def test_the_setting_of_cublas_is_made_on_import_and_a_users_own_is_kept(monkeypatch):
    """A notebook may use the GPU before it trains, and cuBLAS would not look again."""
    code, name = "import os, proda_lib; print(os.environ['CUBLAS_WORKSPACE_CONFIG'])", "CUBLAS_WORKSPACE_CONFIG"
    for own, expected in (({}, ":4096:8"), ({name: ":16:8"}, ":16:8")):
        monkeypatch.delenv(name, raising=False)
        environment = {**os.environ, **own}
        assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip() == expected
    monkeypatch.setenv(name, ":16:8")
    with provenance.reproducible("cpu"):
        assert torch.are_deterministic_algorithms_enabled() and os.environ[name] == ":16:8"
    assert not torch.are_deterministic_algorithms_enabled() and os.environ[name] == ":16:8"


def test_paths_stay_inside(store):
    run = runs.get(make_recipe("smoke", **TINY, model="logistic"))
    text = (run.folder / "record.json").read_text()
    assert str(Path.home()) not in text and str(Path.cwd()) not in text


def test_a_run_is_scored_between_its_stages_and_can_be_scored_again(store):
    run = runs.get(make_recipe("smoke", **TINY))
    assert (run.folder / "fold0/pretrained/model.safetensors").exists()
    before, after = run.metrics["pretrain"]["both"], run.metrics["paper"]["both"]
    assert before["a_s"] == after["a_s"], "stage 2 leaves the a_s branch alone"
    assert before["a_t"] != after["a_t"], "stage 2 trains the head of a_t"
    record = json.loads((run.folder / "record.json").read_text())
    record["metrics"] = {"paper": {}}  # as if scored by an older library
    (run.folder / "record.json").write_text(json.dumps(record))
    again = runs.update(runs.named(run.name))
    assert again.metrics == run.metrics and again.record["seconds"] == run.record["seconds"]
    assert again.record["scored"]["commit"] == provenance.commit()


def test_a_committed_record_is_shown_and_says_what_makes_its_weights(store, proda):
    name = min((project_root() / "results/runs").glob("world-proda-*.json")).stem
    again = command(runs.named(name).recipe)
    code, out, _ = proda("runs", name)
    assert code == 0 and "a_m/map" in out
    assert f"the committed record; the run itself is not here, and is made by: {again}" in out
    for more in ((), ("--update",)):
        code, _, err = proda("evaluate", name, *more)
        assert code == 2 and f"found its committed record only, expected its folder, which this makes: {again}" in err
    code, _, err = proda("runs", "nope")
    assert code == 2 and "run: found 'nope', expected the name of a finished run" in err


def test_a_control_without_weights_cannot_be_scored_again(store):
    run = runs.get(make_recipe("smoke", **TINY, model="prompt_only"))
    with pytest.raises(CheckpointError, match="no weights"):
        runs.update(run)


@pytest.mark.parametrize("model", ["token_transformer", "frame_gcn", "gpnn", "relation_lstm"])
def test_baselines_train_as_the_controls_do(store, model):
    run = runs.get(make_recipe("smoke", **TINY, model=model))
    assert 0 < run.metrics["a_t"]["map"] <= 100 and runs.evaluate(run) == run.metrics
