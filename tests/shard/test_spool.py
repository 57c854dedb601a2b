"""Rows on disk come back by archive, whatever their order and however many wait before they are written."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from stages.shard import spool


@given(st.lists(st.lists(st.sampled_from([0, 1, 5, None]), max_size=9), min_size=1).filter(any), st.integers(1, 12))
def test_an_archives_rows_come_back_in_their_order(tmp_path_factory, archives_of_batches, at_a_time):
    batches, n = [], 0
    for archives in archives_of_batches:
        columns = {"id": [f"id{n + i}" for i in range(len(archives))], "row": range(n, n + len(archives))}
        batches.append(
            pl.DataFrame(columns | {"archive": archives}, {"id": str, "row": pl.UInt32, "archive": pl.UInt16})
        )
        n += len(archives)
    rows = spool.Spool(tmp_path_factory.mktemp("spool") / "rows.arrow", 6)
    rows.at_a_time = at_a_time
    with rows:
        for batch in batches:
            rows.write(batch)
    whole = pl.concat(batches)
    for archive in (0, 1, 5):
        assert rows.rows_of(archive).equals(whole.filter(pl.col("archive") == archive).drop("archive"))
    without = rows.ids_without_photo().collect(engine="streaming")["id"].to_list()
    assert sorted(without) == sorted(whole.filter(pl.col("archive").is_null())["id"])
