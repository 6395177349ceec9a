"""Settings that go together: the sizes of the profiles, and what the released code does differently.

========= ================================ ==================================================================
profile   meant for                        command
========= ================================ ==================================================================
smoke     tests, seconds                   ``proda train --dataset world --profile smoke``
quick     a newcomer on 2 cores, minutes   ``proda train --dataset world --profile quick``
reference what the book shows              ``proda train --dataset world --profile reference``
paper     the defaults of Recipe, one GPU  ``proda train --dataset action_genome --profile paper --device cuda``
========= ================================ ==================================================================
"""

from __future__ import annotations

#: What each profile changes. Same code, other numbers.
PROFILES: dict[str, dict] = {
    "smoke": {
        "train_videos": 24, "test_videos": 12, "width": 16, "heads": 2, "layers": 1, "depth": 1, "candidates": 3,
        "batch_videos": 8, "pretrain_epochs": 1, "posttrain_epochs": 1, "pretrain_lr": 2e-3, "posttrain_lr": 1e-3,
        "warmup": 0.2, "scan": False,
    },
    "quick": {
        "train_videos": 200, "test_videos": 80, "width": 32, "heads": 2, "layers": 1, "depth": 1, "candidates": 5,
        "pretrain_epochs": 3, "posttrain_epochs": 1, "pretrain_lr": 2e-3, "posttrain_lr": 1e-3, "warmup": 0.2,
        "scan": False,
    },
    "reference": {
        "train_videos": 2000, "test_videos": 500, "width": 128, "heads": 4, "layers": 1, "depth": 1, "candidates": 5,
        "dropout": 0.0, "feature_scale": 0.4, "pretrain_epochs": 1, "posttrain_epochs": 1, "pretrain_lr": 2e-3,
        "posttrain_lr": 2e-3, "warmup": 0.1,
    },
    "paper": {},
}  # fmt: skip

#: CAD-120 is small (75 training videos, or some 400 clips, a fold): more epochs.
_CAD120: dict[str, dict] = {
    "smoke": {"frames": 4},
    "quick": {"frames": 8, "pretrain_epochs": 6, "posttrain_epochs": 2},
    "reference": {"frames": 8, "width": 32, "batch_videos": 8, "pretrain_epochs": 8, "posttrain_epochs": 2,
                  "dropout": 0.1, "feature_scale": 1.0, "warmup": 0.15},
    "paper": {"pretrain_epochs": 60, "posttrain_epochs": 20},
}  # fmt: skip
#: A clip has one label, so it has few specifications, and an epoch few steps.
_CLIPS = {**_CAD120, "reference": {**_CAD120["reference"], "pretrain_epochs": 16, "posttrain_epochs": 8}}

#: What a data set changes in a profile.
DATASET_PROFILES: dict[str, dict[str, dict]] = {"cad120": _CAD120, "cad120_clips": _CLIPS}

#: The released code, where it departs from the text; the settings are :class:`~proda_lib.training.recipe.Recipe`'s. Its
#: batches of random (video, specification) pairs are ``specs_per_video=1`` and stay out of this, for a step then costs
#: another encoder pass for each pair.
RELEASED: dict = {
    "window": True,
    "norm": "vgnorm_released",
    "wiring": "released",
    "fusion_mlp": True,
    "message_norm": True,
    "graph_supervision": True,
    "absent_row": True,
    "redraw": False,
    "long_videos": "drop",
    "batch_loss": True,
    "falling_margins": True,
    "balance_u": True,
    "warmup": 0.1,
    "head_m": "reinit",
}
