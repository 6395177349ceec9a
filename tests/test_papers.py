"""The papers' numbers as data."""

import pytest

from proda_lib.errors import DataError
from proda_lib.evaluation import papers
from proda_lib.evaluation.papers import paper_table


def test_every_table_of_the_paper_is_there_as_numbers():
    for number in range(1, 14):
        table = paper_table(f"table{number:02d}")
        assert len(table) >= 3, number
    assert paper_table("table05")["②", "a_m"].mean == 8.03  # the row that everybody quotes


def test_what_stands_after_the_paper_s_plus_or_minus_is_kept():
    assert paper_table("table06")["4", "a_s"].deviation.values == (0.4,)
    assert paper_table("table03")["DPM", "a_t"].deviation.values == ()


HEADER = "table,row,column,value,spread,unit\n"


@pytest.mark.parametrize("content, words", [
    ("table,row,value\n", "header"),
    (HEADER + "1,a,b,1.0,%\n", "row 2: found 5 fields"),
    (HEADER + "1,a,b,1.0,,%\n1,,b,1.0,,%\n", "row 3: found an empty field"),
    (HEADER + "1,a,b,1.0,,%\n1,a,b,2.0,,%\n", "row 3: found .* again"),
    (HEADER + "1,a,b,high,,%\n", "row 2: .*'high'"),
    (HEADER + "1,a,b,inf,,%\n", "row 2: .*'inf'.*finite"),
    (HEADER + "1,a,b,,,%\n", "row 2: .*''"),
    (HEADER + "1,a,b,1.0,wide,%\n", "row 2: .*'wide'"),
])  # fmt: skip
def test_a_damaged_table_is_named_with_its_row(monkeypatch, tmp_path, content, words):
    monkeypatch.setattr(papers, "results_root", lambda: tmp_path)
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper/table01.csv").write_text(content)
    with pytest.raises(DataError, match=words):
        paper_table("table01")
    with pytest.raises(DataError, match="table02.csv"):
        paper_table("table02")
