"""The ``proda`` command. Every sub-command is one library call; heavy modules are imported inside it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from proda_lib.errors import ProdaError

app = typer.Typer(help="ProDA: action recognition on scene graphs, reproduced and audited.", no_args_is_help=True,
                  add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)  # fmt: skip
data = typer.Typer(help="Put data sets under data/ and check them.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data, name="data")

DEVICE = typer.Option(help="cpu or cuda")
Root = Annotated[Path | None, typer.Option(help="Folder of the data sets; by default the project's data/.")]


def _version(asked: bool) -> None:
    if not asked:
        return
    from proda_lib import __version__
    from proda_lib.training.provenance import commit
    from proda_lib.training.recipe import NUMERICS

    checkout = f", commit {found}" if (found := commit()) else ""
    typer.echo(f"proda {__version__}, numerics {NUMERICS}{checkout}")
    raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is, and exit.")
    ] = False,
) -> None:
    """Options of the command itself."""


@app.command()
def train(
    dataset: Annotated[str, typer.Option(help="world, cad120, cad120_clips or action_genome")] = "world",
    profile: Annotated[str, typer.Option(help="smoke, quick, reference or paper")] = "quick",
    model: Annotated[str, typer.Option(help="proda, a control or a baseline; see Recipe.model")] = "proda",
    seed: int = 0,
    device: Annotated[str, DEVICE] = "cpu",
    devices: Annotated[int, typer.Option(help="Devices (processes) on each machine; they share every batch.")] = 1,
    num_nodes: Annotated[int, typer.Option(help="Machines, under torchrun or SLURM.")] = 1,
    set: Annotated[list[str], typer.Option(help="A setting of the recipe, NAME=VALUE; repeatable.")] = [],  # noqa: B006
) -> None:
    """Train and evaluate a recipe, or read its run if it is in the run store; prints metrics and the run's folder.

    \b
    Example:
      proda train --dataset cad120 --profile quick
      proda train --profile smoke --set prompt=simple --set width=32
      proda train --profile paper --device cuda --devices 4
      torchrun --nproc-per-node 4 --no-python proda train --profile paper --device cuda --devices 4
    """
    from proda_lib.devices import checked_device
    from proda_lib.distributed import rank
    from proda_lib.training import runs
    from proda_lib.training.recipe import make_recipe, parse_settings

    checked_device(device, "proda train")
    settings = {"dataset": dataset, "model": model, "seed": seed, **parse_settings(set)}
    run = runs.get(make_recipe(profile, **settings), device, devices, num_nodes)
    if rank() == 0:
        _show(run)


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(help="Name of a run.")],
    device: Annotated[str, DEVICE] = "cpu",
    update: Annotated[bool, typer.Option("--update", help="Replace the metrics in the run's record.")] = False,
) -> None:
    """Load a run's weights, score its test videos again, and print the metrics.

    \b
    Example:
      proda evaluate world-proda-0123456789ab
    """
    from proda_lib.training import runs

    found = runs.named(run)
    metrics = runs.update(found, device).metrics if update else runs.evaluate(found, device)
    for name, value in runs.flatten(metrics).items():
        typer.echo(f"{name:40}{value:8.2f}")


@app.command()
def predict(
    actions: Annotated[str, typer.Option(help="Names of actions to ask for, with commas between them.")],
    video: Annotated[Path | None, typer.Option(help="Video file, or folder of numbered pictures.")] = None,
    graph: Annotated[Path | None, typer.Option(help="Scene graph: JSON, see `proda data check-own`.")] = None,
    model: Annotated[str, typer.Option(help="A run, folder of a model, or shipped: the library's own.")] = "shipped",
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("report"),
    detector: Annotated[
        str | None, typer.Option(help="Without --graph: a detector of transformers [default: hustvl/yolos-tiny].")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Smallest score of a detection [default: 0.5].")] = None,
    rate: Annotated[float | None, typer.Option(help="Frames per second of a folder of pictures.")] = None,
    features: Annotated[str | None, typer.Option(help="CLIP model, for models that read visual features.")] = None,
    frames: Annotated[int | None, typer.Option(help="Frames that the model sees; by default all it takes.")] = None,
    device: Annotated[str, DEVICE] = "cpu",
    download: Annotated[bool, typer.Option("--download", help="Fetch detector and CLIP if they are not here.")] = False,
) -> None:
    """Ask a trained model whether actions are in a video of yours; prints the scores and writes a report.

    \b
    Example:
      proda predict --graph graph.json --actions "raising a cup,opening a door"
      proda predict --video clip.mp4 --graph graph.json --actions hold_book --out report/
      proda predict --video clip.mp4 --download --actions open_door
      proda predict --model cad120-proda-0123456789ab --graph graph.json --actions drink
    """
    from proda_lib.files import check_folder
    from proda_lib.predict import Predictor

    check_folder(out, "report")
    answer = Predictor.load(model, device)(video, graph, actions, detector=detector, features=features, frames=frames,
                                           rate=rate, download=download, threshold=threshold)  # fmt: skip
    typer.echo(answer.table())
    typer.echo(f"\n{answer.save_report(out)}")


@app.command("runs")
def list_runs(name: Annotated[str | None, typer.Argument(help="Show this run whole.")] = None) -> None:
    """List the finished runs, or show one; of a run that is not here, the record in results/runs.

    \b
    Example:
      proda runs
      proda runs world-proda-0123456789ab
    """
    from proda_lib.training import runs

    if name:
        _show(runs.named(name))
        return
    for run in runs.list_runs():
        recipe = run.recipe
        typer.echo(f"{run.name:44}{recipe.profile:10}seed {recipe.seed}  {run.record['seconds']:8.0f} s")


def _show(run) -> None:
    from proda_lib.training.recipe import command
    from proda_lib.training.runs import flatten

    for name, value in flatten(run.metrics).items():
        typer.echo(f"{name:40}{value:8.2f}")
    place = run.folder or f"the committed record; the run itself is not here, and is made by: {command(run.recipe)}"
    typer.echo(f"\n{run.name}: {run.record['seconds']:.0f} s on {run.record['hardware']['device']}\n{place}")


@data.command("add")
def data_add(
    name: Annotated[str, typer.Argument(help="cad120")],
    source: Annotated[str, typer.Option(help="Path of the release's archive, or an http(s) URL.")],
    accept_checksum: Annotated[bool, typer.Option("--accept-checksum", help="Take an unknown release.")] = False,
    root: Root = None,
) -> None:
    """Check an archive's SHA-256, unpack it and read it through; a second time changes nothing.

    \b
    Example:
      proda data add cad120 --source ~/Downloads/annotations.zip
    """
    from proda_lib.datasets.install import add_dataset

    add_dataset(name, source, root, accept_checksum, say=typer.echo)


@data.command("check")
def data_check(
    name: Annotated[str, typer.Argument(help="cad120, action_genome, charades, a prepared data set or its folder.")],
    root: Root = None,
) -> None:
    """List all faults of a data set, and how often each known quirk occurs. Exit code 1 if there are faults.

    \b
    Example:
      proda data check cad120
      proda data check data/charades_clip
    """
    from proda_lib.datasets.install import check_dataset

    report = check_dataset(name, root)
    for error in report.errors:
        typer.echo(f"fault: {error}")
    for quirk, count in sorted(report.quirks.items()):
        typer.echo(f"quirk: {count} x {quirk}")
    typer.echo(f"{name}: {len(report.errors) or 'no'} faults")
    if report.errors:
        raise typer.Exit(1)


@data.command("prepare")
def data_prepare(
    name: Annotated[str, typer.Argument(help="charades")],
    annotations: Annotated[Path, typer.Option(help="Folder of Action Genome's and Charades' official files.")],
    frames_or_videos: Annotated[Path, typer.Option(help="Folder with a VIDEO.mp4 each: frame folder or video file.")],
    out: Annotated[Path, typer.Option(help="Folder of the stores: OUT/train and OUT/test.")],
    features: Annotated[
        str, typer.Option(help="CLIP model by name or folder; random and random-tiny for trials.")
    ] = "openai/clip-vit-base-patch16",
    split: Annotated[str | None, typer.Option(help="train or test; by default both.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is missing; exit code 1 if so.")] = False,
    device: Annotated[str, DEVICE] = "cpu",
    download: Annotated[bool, typer.Option("--download", help="Fetch the CLIP model if it is not here.")] = False,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Leave out videos with broken frames.")] = False,
) -> None:
    """Encode Action Genome's frames and boxes with CLIP into packed stores. Stopped and started again, it goes on.

    \b
    Example:
      proda data prepare charades --annotations data/action_genome --frames-or-videos ~/Charades_v1_480 \\
        --out data/charades_clip --device cuda --download
    """
    from proda_lib.datasets.prepare import check_charades, prepare_charades

    if name != "charades":
        raise typer.BadParameter(f"found {name!r}, expected charades")
    if not dry_run:
        prepare_charades(annotations, frames_or_videos, out, features, split, device, download, skip_broken, typer.echo)
        return
    here = None if download else features  # what is to be fetched cannot be tried
    found = check_charades(annotations, frames_or_videos, split, out, here, device)
    for ready in found:
        for line in ready.lines():
            typer.echo(line)
    if not all(found):
        raise typer.Exit(1)


@data.command("check-own")
def data_check_own(file: Annotated[Path, typer.Argument(help="JSON file with one video's scene graph.")]) -> None:
    """List all faults of a scene graph of yours. Exit code 1 if there are any.

    \b
    Example:
      proda data check-own book/data/own_video.json
    """
    from proda_lib.datasets.own import check_own

    errors = check_own(file).errors
    for error in errors:
        typer.echo(f"fault: {error}")
    typer.echo(f"{file}: {len(errors) or 'no'} faults")
    if errors:
        raise typer.Exit(1)


@data.command("list")
def data_list(root: Root = None) -> None:
    """Say which data sets are there, and from which release.

    \b
    Example:
      proda data list
    """
    from proda_lib.datasets.install import list_datasets

    states = list_datasets(root)
    width = max(map(len, states)) + 1
    for name, state in states.items():
        typer.echo(f"{name:{width}}{state}")


def main() -> None:
    """Entry point: an error of the library is one message and exit code 2, without a traceback."""
    try:
        app()
    except ProdaError as error:
        typer.echo(f"proda: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
