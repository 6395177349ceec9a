"""Whatever is in a file, only errors of the library come out of its readers."""

import contextlib
import csv
import json
import pickle
import warnings
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from proda_lib.datasets.charades import read_charades
from proda_lib.datasets.safe_pickle import safe_load
from proda_lib.errors import DataError
from proda_lib.graph import load_graphs
from proda_lib.training import runs
from stress.fuzz import fuzz
from stress.readers import READERS

QUICK = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
KEYS = st.text(max_size=8) | st.integers(-(2**63) + 1, 2**63 - 1) | st.booleans() | st.none()
ATOMS = KEYS | st.integers(-(10**40), 10**40) | st.floats(allow_nan=False) | st.binary(max_size=40)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5) | st.tuples(inner, inner)
    | st.sets(KEYS, max_size=4) | st.frozensets(KEYS, max_size=4),
    max_leaves=30,
)  # fmt: skip


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_damaged_files(reader):
    counts, bad = fuzz(reader, seed=0, inputs=range(10))
    assert not bad and counts["refused"] > 0


@QUICK
@given(value=VALUES, protocol=st.integers(0, 5))
def test_plain_values_come_back_as_they_were(tmp_path, value, protocol):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value, protocol))
    assert repr(safe_load(tmp_path / "a.pkl")) == repr(pickle.loads((tmp_path / "a.pkl").read_bytes()))


@QUICK
@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path, content):
    (tmp_path / "a.pkl").write_bytes(content)
    try:
        safe_load(tmp_path / "a.pkl")
    except DataError as error:
        assert error.source.endswith("a.pkl")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@QUICK
@given(infos=JSON | st.lists(st.fixed_dictionaries(dict.fromkeys(("video", "duration", "scene", "vocabulary"), JSON))),
       vocabularies=JSON)  # fmt: skip
def test_any_metadata_of_a_file_of_graphs(tmp_path, infos, vocabularies):
    metadata = {"graphs": json.dumps(infos), "vocabularies": json.dumps(vocabularies)}
    save_file({"0/times": np.zeros(1), "0/boxes": np.zeros((1, 1, 4))}, tmp_path / "a", metadata)
    with contextlib.suppress(DataError):
        load_graphs(tmp_path / "a")


@QUICK
@given(record=JSON | st.fixed_dictionaries({"name": JSON, "recipe": JSON, "metrics": JSON, "curves": JSON}),
       recipe=st.dictionaries(st.sampled_from(("seed", "model", "width", "missing", "preset")), JSON))  # fmt: skip
def test_any_record_of_a_run(tmp_path, record, recipe):
    if isinstance(record, dict) and "recipe" in record and recipe:
        record = {**record, "recipe": recipe}
    (tmp_path / "a").mkdir(exist_ok=True)
    (tmp_path / "a" / "record.json").write_text(json.dumps(record))
    with mock.patch.object(runs, "runs_root", lambda: tmp_path):
        try:
            run = runs.named("a")
        except DataError as error:
            assert error.source.endswith("record.json")
        else:
            assert isinstance(run.metrics, dict) and isinstance(run.curves, list) and run.recipe.profile


FIELD = (
    st.text(max_size=12) | st.floats().map(str) | st.sampled_from(("c000 1 2", "c002 0 1e9;c001 3 2", "Kitchen", "nan"))
)


@QUICK
@given(rows=st.lists(st.lists(FIELD, min_size=3, max_size=5), max_size=4))
def test_any_rows_of_a_csv(tmp_path, rows):
    with open(tmp_path / "a.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "scene", "actions", "length"), *rows])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read_charades(tmp_path / "a.csv", ["a", "b", "c"])
        except DataError as error:
            assert error.source.endswith("a.csv")


@QUICK
@given(value=VALUES, cut=st.floats(0, 1, exclude_max=True), protocol=st.integers(0, 5))
def test_a_cut_pickle_is_refused(tmp_path, value, cut, protocol):
    content = pickle.dumps(value, protocol)
    (tmp_path / "a.pkl").write_bytes(content[: int(cut * len(content))])
    with pytest.raises(DataError):
        safe_load(tmp_path / "a.pkl")
