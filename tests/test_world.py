import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest

from proda_lib.datasets import world_actions, world_plan
from proda_lib.datasets.world import (
    ACTIONS,
    VOCABULARY,
    WorldConfig,
    held_out_pairs,
    make_video,
    make_videos,
    scene_weights,
)
from proda_lib.errors import RecipeError
from proda_lib.vocabulary import ATTENTION_RELATIONS, SPATIAL_RELATIONS

ARRAYS = ("classes", "boxes", "present", "edges", "relations", "times", "segment_labels", "segments", "carriers",
          "features", "frame_features")  # fmt: skip
CHANNEL_OF_RELATION = np.array([0] * len(ATTENTION_RELATIONS) + [1] * len(SPATIAL_RELATIONS) + [2] * 17)


@pytest.fixture(scope="module")
def videos():
    """Every graph is validated when it is made."""
    return make_videos(WorldConfig(), "train", 1500)


def same(one, other, names=ARRAYS):
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def test_any_video_can_be_made_alone(videos):
    assert same(make_video(WorldConfig(), 17), videos[17])
    with_features = make_videos(WorldConfig(features=True), "test", 3)
    assert same(make_video(WorldConfig(features=True), 2, "test"), with_features[2])


def test_a_video_in_which_no_action_is_allowed():
    made = make_videos(WorldConfig(scene_bias=1.0, held_out=0.9), "train", 60)
    empty = [graph for graph in made if not len(graph.segments)]
    assert empty and all(graph.carriers.shape[2] == 0 and graph.labels.shape == (0,) for graph in empty)


def test_seed_split_and_index_make_different_videos():
    made = [make_video(WorldConfig(seed=seed), index, split)
            for seed, split, index in itertools.product((0, 1), ("train", "val", "test"), (0, 1))]  # fmt: skip
    assert len({graph.video for graph in made}) == len({graph.duration for graph in made}) == len(made)


def test_vocabulary():
    assert len(ACTIONS) >= 100 and len(set(VOCABULARY.actions)) == len(ACTIONS)
    verbs = Counter(action.object for action in ACTIONS).values()
    assert sum(count >= 3 for count in verbs) >= 15
    for object_name, (_, _, named) in world_actions.OBJECTS.items():
        assert object_name in VOCABULARY.objects and len(named.split()) == len(set(named.split()))


def test_number_of_labels_follows_charades(videos):
    counts = np.bincount([len(graph.labels) for graph in videos], minlength=17)[1:]
    assert counts.sum() == len(videos) and len(counts) == 16
    expected = np.array(world_plan.LABEL_COUNTS) / sum(world_plan.LABEL_COUNTS)
    assert np.abs(counts / len(videos) - expected).max() < 0.03


def test_sixteen_labels_fit(monkeypatch):
    monkeypatch.setattr(world_plan, "_LABEL_COUNT_STEPS", np.array([0.0] * 15 + [1.0]))
    for config in (WorldConfig(), WorldConfig(second_person=1.0)):
        assert {len(make_video(config, index).labels) for index in range(300)} == {16}


def test_an_action_covers_43_percent_of_its_video(videos):
    shares = np.concatenate([np.diff(graph.segments).ravel() / graph.duration for graph in videos])
    assert abs(shares.mean() - 0.43) < 0.02


def test_sizes_of_a_video(videos):
    assert all(24 <= graph.num_frames <= 40 and 20 <= graph.duration <= 40 for graph in videos)
    objects = np.array([graph.num_slots - 1 for graph in videos])
    assert objects.min() >= 1 and objects.max() <= 9 and 3.5 < objects.mean() < 5.5
    assert all(graph.classes[0] == 0 and len(set(graph.classes[1:])) == graph.num_slots - 1 for graph in videos)
    assert 1.5 < np.mean([graph.present[:, 1:].sum(1).mean() for graph in videos]) < 4
    complete = np.mean([graph.present[:, 1:].all() for graph in videos])
    assert complete < 0.05  # objects come and go, and are missed now and then


def test_every_present_edge_has_relations_as_action_genome_annotates_them(videos):
    for graph in videos[:200]:
        noted = graph.relations[graph.edge_present]
        per_channel = np.stack([noted[:, CHANNEL_OF_RELATION == channel].sum(1) for channel in range(3)])
        assert (per_channel[0] == 1).all()
        assert set(np.unique(per_channel[1:])) <= {1, 2}
        there, back = graph.edges[:, ::2], graph.edges[:, 1::2]
        np.testing.assert_array_equal(there, back[::-1])
        np.testing.assert_array_equal(graph.relations[:, ::2], graph.relations[:, 1::2])


def test_carriers_are_the_edges_of_the_object_while_the_segment_runs(videos):
    for graph in videos[:200]:
        for k, (action, (start, end)) in enumerate(zip(graph.segment_labels, graph.segments, strict=True)):
            ours = graph.classes[graph.edges.max(0)] == ACTIONS[action].object
            on = (start <= graph.times) & (graph.times <= end)
            np.testing.assert_array_equal(graph.carriers[:, :, k], on[:, None] & ours & graph.edge_present)


def test_without_noise_the_carrying_relations_spell_the_action():
    quiet = WorldConfig(relation_noise=0.0, extra_relations=0.0, missing=0.0)
    read = total = 0
    for graph in make_videos(quiet, "train", 200):
        for k, number in enumerate(graph.segment_labels):
            action = ACTIONS[number]
            frames, edges = np.nonzero(graph.carriers[:, :, k])
            noted = graph.relations[frames[edges == edges[0]], edges[0]]
            noted &= CHANNEL_OF_RELATION == world_actions.CHANNELS.index(action.channel)
            order = tuple(relation for relation, _ in itertools.groupby(noted.argmax(1)))
            read, total = read + (order in action.words), total + 1
    assert read / total > 0.97  # a phase can fall between two frames


def test_sentences_spell_their_actions_and_no_other():
    for object_class, channel in itertools.product(range(len(VOCABULARY.objects)), world_actions.CHANNELS):
        mine = [n for n, a in enumerate(ACTIONS) if a.object == object_class and a.channel == channel]
        for actions in ((), *itertools.combinations(mine, 1), *itertools.combinations(mine, 2)):
            found = world_actions.sentences(object_class, channel, frozenset(actions))
            assert found
            for sentence in found:
                assert world_actions.spelled(object_class, channel, sentence.relations) == set(actions)
                assert set(sentence.actions) == set(actions)


def test_actions_of_a_kit_share_their_relations():
    for action in ACTIONS:
        relations = {VOCABULARY.relations[r] for r in action.words[0]}
        assert len(relations) == 3 and relations == set(world_actions.KITS[action.kit][0].split())
    words = Counter((action.object, word) for action in ACTIONS for word in action.words)
    assert max(words.values()) == 1


def test_relation_histograms_do_not_tell_an_action_from_its_reverse():
    """Mean share of each relation of the kit while the object is seen: the same for A B C and for C B A."""
    videos = make_videos(WorldConfig(), "train", 3000)
    shares: dict[tuple[str, bool], list] = {}
    for graph in videos:
        tracks = Counter((ACTIONS[n].object, ACTIONS[n].channel) for n in graph.segment_labels)
        for action in (ACTIONS[n] for n in graph.segment_labels):
            kit = [VOCABULARY.relations.index(name) for name in world_actions.KITS[action.kit][0].split()]
            if len(action.words) == 1 and tracks[action.object, action.channel] == 1:
                edge = 2 * (graph.classes.tolist().index(action.object, 1) - 1)
                seen = graph.relations[graph.edge_present[:, edge], edge][:, kit].mean(0)
                shares.setdefault((action.kit, list(action.words[0]) == kit), []).append(seen)
    for kit in ("lift", "walk", "gaze", "drink", "sit"):
        one, other = (np.array(shares[kit, forward]) for forward in (True, False))
        assert min(len(one), len(other)) > 80
        error = np.sqrt(one.var(0) / len(one) + other.var(0) / len(other))
        assert (np.abs(one.mean(0) - other.mean(0)) < 4 * error).all()


def test_held_out_pairs_never_occur_in_training():
    config = WorldConfig(held_out=0.3)
    pairs = {tuple(pair) for pair in held_out_pairs(config).tolist()}
    assert len(pairs) == round(0.3 * world_plan.HOME_SCENES * len(VOCABULARY.scenes) * len(ACTIONS) / 16)
    seen = {split: {(int(action), graph.scene) for graph in make_videos(config, split, 500) for action in graph.labels}
            for split in ("train", "val", "test")}  # fmt: skip
    assert not pairs & (seen["train"] | seen["val"])
    assert len(pairs & seen["test"]) > 50
    assert len(held_out_pairs(WorldConfig(held_out=0.0))) == 0


def test_scenes_correlate_with_actions_by_the_knob(videos):
    def at_home(config):
        home = scene_weights(dataclasses.replace(config, scene_bias=1.0), "test") > 0
        return np.mean([home[graph.scene, a] for graph in make_videos(config, "test", 200) for a in graph.labels])

    low, middle, high = (at_home(WorldConfig(scene_bias=bias)) for bias in (0.0, 0.5, 1.0))
    assert abs(low - 0.25) < 0.05 and low + 0.1 < middle < high - 0.1 and high == 1.0


def test_second_person(videos):
    personal = [number for number, action in enumerate(ACTIONS) if action.object == 0]
    assert not any(np.isin(graph.labels, personal).any() or (graph.classes[1:] == 0).any() for graph in videos)
    graphs = make_videos(WorldConfig(second_person=0.5), "train", 300)
    two = [graph for graph in graphs if (graph.classes == 0).sum() == 2]
    assert 0.4 < len(two) / len(graphs) < 0.6
    assert all(graph.classes[1] == 0 and graph.edges[:, 0].tolist() == [0, 1] for graph in two)
    assert np.mean([np.isin(graph.labels, personal).any() for graph in two]) > 0.5
    assert not any(np.isin(graph.labels, personal).any() for graph in graphs if graph not in two)


def test_boxes_follow_the_relations():
    """What is held is nearer to the person than what is not touched."""
    config = WorldConfig(relation_noise=0.0, extra_relations=0.0)
    distances = {"holding": [], "not_contacting": []}
    for graph in make_videos(config, "train", 100):
        centres = graph.boxes.reshape(graph.num_frames, graph.num_slots, 2, 2).mean(2)
        far = np.linalg.norm(centres[:, 1:] - centres[:, :1], axis=-1)
        for name, values in distances.items():
            values += far[graph.relations[:, ::2, VOCABULARY.relations.index(name)]].tolist()
    assert np.mean(distances["holding"]) < np.mean(distances["not_contacting"]) - 0.05


def test_features_change_nothing_else_and_show_class_and_state():
    graphs = make_videos(WorldConfig(features=True, missing=0.0), "train", 30)
    plain = make_videos(WorldConfig(missing=0.0), "train", 30)
    assert all(same(one, other, ARRAYS[:9]) for one, other in zip(graphs, plain, strict=True))
    graph = graphs[0]
    assert graph.features.shape == (graph.num_frames, graph.num_slots, 512) and graph.features.dtype == np.float32
    assert graph.frame_features.shape == (graph.num_frames, 512) and graph.frame_features.dtype == np.float32
    assert not graph.features[~graph.present].any()
    persons = [graph.features[:, 0].mean(0) for graph in graphs]
    others = [graph.features[:, 1][graph.present[:, 1]].mean(0) for graph in graphs]
    alike = np.corrcoef(persons + others)
    n = len(persons)
    assert alike[:n, :n][~np.eye(n, dtype=bool)].mean() > alike[:n, n:].mean() + 0.2


@pytest.mark.parametrize("knob", [{"missing": 1.5}, {"scene_bias": -0.1}, {"distractors": 9}, {"seed": -1}])
def test_impossible_knobs_are_refused(knob):
    with pytest.raises(RecipeError, match=next(iter(knob))) as caught:
        WorldConfig(**knob)
    assert "None" not in str(caught.value)


def test_unknown_split_is_refused():
    with pytest.raises(RecipeError, match="expected one of train, val, test"):
        make_video(WorldConfig(), 0, "dev")
