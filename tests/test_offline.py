"""Nothing reaches the network unless it was asked to: the main path runs in a process that has none."""

import functools
import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
FORBID = textwrap.dedent("""
    import sys

    def watch(event, arguments):
        if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.bind", "urllib.Request"):
            print("NETWORK", event, arguments)
            raise ConnectionRefusedError("the network was asked for")

    sys.addaudithook(watch)  # sees every socket, whatever opens it
""")
MAIN_PATH = textwrap.dedent("""
    import contextlib, io
    from pathlib import Path

    from proda_lib.cli import app
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        app(["--help"])
    print("help")

    from proda_lib.training import runs
    from proda_lib.training.recipe import make_recipe
    run = runs.get(make_recipe("smoke", train_videos=3, test_videos=1, batch_videos=4, frames=4))
    assert runs.evaluate(run) == run.metrics
    print("train and evaluate")

    from proda_lib.datasets.own import read_own, write_own
    from stress.crashes import videos
    graph = videos(1)[0]
    write_own(graph, "own.json")
    assert read_own("own.json").video == graph.video
    print("own JSON")

    from proda_lib.explorer.page import explorer
    assert "<html" in explorer(run, [graph], offered=2).save("explorer.html").read_text()
    print("explorer")

    import numpy as np
    from proda_lib.features.clip import ClipEncoder
    encoder = ClipEncoder.load("random-tiny")
    assert encoder.encode([np.zeros((40, 50, 3), np.uint8)]).shape == (1, encoder.width)
    print("encoder")

    from PIL import Image
    from proda_lib.datasets.miniature import write_action_genome
    from proda_lib.datasets.prepare import prepare_charades
    write_action_genome("release", [graph.sample_frames(3)])
    for key in Path("release/annotations/frame_list.txt").read_text().split():
        (Path("release/frames") / key).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (48, 27)).save(Path("release/frames") / key)
    stores = prepare_charades("release", "release/frames", "out", "random-tiny", "train", say=lambda line: None)
    print("prepare")

    from proda_lib.datasets.store import GraphStore
    store = GraphStore(stores["train"])
    store.verify()
    assert np.asarray(store[0].features).any()
    print("store")

    from proda_lib.predict import Predictor
    from tests.predict_cases import EXAMPLE, write_film, write_model
    predictor, film = Predictor.load(write_model(Path("model"))), write_film(Path("clip.mp4"))
    for given in ({"graph": EXAMPLE}, {"detector": "random-tiny"}):
        assert predictor(film, actions="raise_cup", **given).save_report("report").is_file()
    print("predict")
""")


@functools.cache
def without_network() -> tuple[str, ...]:
    """A command before the command that takes the network away; empty where the system does not let us."""
    try:
        works = subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        works = False
    return ("unshare", "-rn") if works else ()


def run(code: str, folder: Path) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PRODA_RUNS": str(folder / "runs"), "OMP_NUM_THREADS": "1"}
    command = [*without_network(), sys.executable, "-c", FORBID + code]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_the_main_path_needs_no_network(tmp_path):
    done = run(MAIN_PATH, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.split("\n") == [
        "help", "train and evaluate", "own JSON", "explorer", "encoder", "prepare", "store", "predict", ""]  # fmt: skip


def test_a_request_would_be_seen(tmp_path):
    code = "from proda_lib.datasets.install import add_dataset; add_dataset('cad120', 'http://127.0.0.1:9/a.zip', '.')"
    done = run(code, tmp_path)
    assert done.returncode == 1 and "NETWORK" in done.stdout and "a.zip: download" in done.stderr
