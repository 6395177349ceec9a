"""The invented miniatures are read by the real readers, and come back as they were written."""

import numpy as np

from proda_lib.datasets import world
from proda_lib.datasets.action_genome import read_action_genome
from proda_lib.datasets.cad120 import clips, folds, read_cad120
from proda_lib.datasets.miniature import STORY, write_action_genome, write_cad120
from proda_lib.datasets.report import Report


def test_action_genome_layout_says_what_the_graphs_say(tmp_path):
    graphs = world.make_videos(world.WorldConfig(), "train", 3)
    write_action_genome(tmp_path, graphs)
    report = Report()
    read = read_action_genome(tmp_path / "annotations", [tmp_path / "Charades_v1_train.csv"],
                              tmp_path / "Charades_v1_classes.txt", tmp_path / "star_video_fps", "train",
                              report=report)  # fmt: skip
    assert [g.video for g in read] == [g.video for g in graphs]
    for found, graph in zip(read, graphs, strict=True):
        seen = np.flatnonzero(graph.present.any(0))
        order = seen[np.argsort(graph.classes[seen], kind="stable")]
        np.testing.assert_array_equal(found.classes, graph.classes[order])
        np.testing.assert_array_equal(found.present, graph.present[:, order])
        np.testing.assert_allclose(found.boxes, graph.boxes[:, order], atol=1e-5)
        np.testing.assert_array_equal(found.labels, graph.labels)
        np.testing.assert_allclose(found.segments, graph.segments, atol=0.011)
        for slot, old in enumerate(order[1:], 1):
            mine = np.flatnonzero((found.edges.T == [0, slot]).all(1))[0]
            theirs = np.flatnonzero((graph.edges.T == [0, old]).all(1))[0]
            np.testing.assert_array_equal(found.relations[:, mine], graph.relations[:, theirs])


def test_cad120_layout(tmp_path):
    write_cad120(tmp_path)
    graphs = read_cad120(tmp_path)
    assert len(graphs) == len(folds(tmp_path)) == 4
    assert len(clips(graphs)) == 4 * len(STORY)
    assert [graphs[0].vocabulary.actions[a] for a in graphs[0].segment_labels] == [name for name, _ in STORY]
