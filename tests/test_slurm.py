"""The grid on SLURM: the profile submits a run to a stand-in for ``sbatch`` that executes it on this machine."""

import os
import subprocess
import sys
from pathlib import Path

from proda_lib.evaluation import tables
from proda_lib.training import runs

ROOT = Path(__file__).parents[1]
#: Runs what --wrap holds in the background, answers with a job number, and keeps its state in a file.
SBATCH = """#!{python}
import os, subprocess, sys
state, arguments = os.environ["STANDIN_STATE"], sys.argv[1:]
number = 1 + len([name for name in os.listdir(state) if name.endswith(".job")])
open(f"{{state}}/calls", "a").write(" ".join(arguments) + "\\n")
wrapped = next((a[7:] for a in arguments if a.startswith("--wrap=")), arguments[-1])
job = f"{{state}}/{{number}}.job"
open(job, "w").write("RUNNING")
script = f"({{wrapped}}) > {{state}}/{{number}}.out 2>&1 && printf COMPLETED > {{job}} || printf FAILED > {{job}}"
environment = {{**os.environ, "SLURM_JOB_ID": str(number), "SLURM_CPUS_PER_TASK": "1"}}
quiet = {{"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}}
subprocess.Popen(["bash", "-c", script], start_new_session=True, env=environment, **quiet)
print(number)
"""
SACCT = """#!{python}
import os
state = os.environ["STANDIN_STATE"]
for name in sorted(os.listdir(state)):
    if name.endswith(".job"):
        print(name[:-4] + "|" + open(f"{{state}}/{{name}}").read())
"""
SRUN = """#!{python}
import os, sys
command = sys.argv[1:]
while command[0].startswith("-"):
    command.pop(0)
os.execvp(command[0], command)
"""


#: Notes what it was asked for, and refuses.
REFUSING = SBATCH.partition("wrapped =")[0] + "sys.exit('no such partition')\n"


def submit(folder: Path, sbatch: str, *config: str) -> tuple[subprocess.CompletedProcess, Path, str]:
    """Ask for one smoke run on SLURM: what snakemake said, the run's record, and how ``sbatch`` was called."""
    commands, state, store = (folder / name for name in ("bin", "state", "runs"))
    for place in (commands, state, store):
        place.mkdir()
    scripts = {"sbatch": sbatch, "sacct": SACCT, "squeue": SACCT, "srun": SRUN}
    scripts |= dict.fromkeys(("scancel", "sinfo", "scontrol", "sshare", "sacctmgr"), "#!/bin/sh\nexit 0\n")
    for name, text in scripts.items():
        (commands / name).write_text(text.format(python=sys.executable))
        (commands / name).chmod(0o755)
    record = store / runs.run_name(tables.table03("smoke", (0,))["SimplePrompt"][0]) / "record.json"
    environment = {**os.environ, "STANDIN_STATE": str(state), "PRODA_RUNS": str(store), "PRODA_ROOT": str(ROOT),
                   "PATH": f"{commands}:{os.environ['PATH']}"}  # fmt: skip
    call = [sys.executable, "-m", "snakemake", "--profile", "workflow/profiles/slurm",
            "--seconds-between-status-checks", "2", "--slurm-init-seconds-before-status-checks", "2",
            "--config", "profile=smoke", *config, "--", str(record)]  # fmt: skip
    options = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run(call, check=False, **options)
    return done, record, (state / "calls").read_text()


def test_a_run_goes_through_sbatch(tmp_path):
    done, record, submitted = submit(tmp_path, SBATCH)
    assert done.returncode == 0, done.stderr[-2000:]
    assert record.exists() and runs._read(record)["name"] == record.parent.name
    assert "--mem 6000" in submitted and "-t 240" in submitted and "-p main" in submitted
    assert "--cpus-per-task=1" in submitted and "--gpus" not in submitted


def test_on_a_gpu_a_run_asks_for_one_and_for_the_cores_of_its_loader(tmp_path):
    submitted = submit(tmp_path, REFUSING, "device=cuda")[2]
    assert "--gpus=1" in submitted and "--cpus-per-task=5" in submitted and "--mem 6000" in submitted
