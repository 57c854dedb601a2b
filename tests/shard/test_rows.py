import polars as pl
import pytest

from stages.cli import InputError
from stages.shard import rows

HEADER = "id,latitude,longitude,thumb,country,sequence,captured_at,region,sub-region,city"


@pytest.fixture
def read(tmp_path):
    """A function that reads a CSV's text or bytes with its coordinates checked."""

    def read(text, header=HEADER):
        path = tmp_path / "train.csv"
        path.write_bytes(text if isinstance(text, bytes) else f"{header}\n{text}".encode())
        return pl.concat([rows.check_coordinates(batch, path) for batch in rows.read_rows(path)])

    return read


def test_a_row_keeps_its_text_and_empty_cells_are_null(read):
    table = read("00012345678901234567,1.5,-2,url,NA,s1,1550000000000,,Côte-d'Or,\n")
    assert table.row(0, named=True) == {
        "row": 2,
        "id": "00012345678901234567",
        "latitude": 1.5,
        "longitude": -2.0,
        "country": "NA",
        "region": None,
        "sub_region": "Côte-d'Or",
        "city": None,
        "sequence": "s1",
        "captured_at": "1550000000000",
        "reason": None,
    }


def test_byte_order_mark_quotes_commas_and_newlines_in_cells_are_read(read):
    text = f'\ufeff{HEADER}\r\n"1",1,2,,FR,,,"a, b","say ""x""","two\nlines"\r\n2,3,4,,,,,,,\r\n'
    table = read(text.encode())
    assert table["id"].to_list() == ["1", "2"]
    assert table.row(0)[5:8] == ("a, b", 'say "x"', "two\nlines")


def test_columns_are_found_by_name_in_any_order(read):
    table = read(
        "9,x,x,x,x,c,51,x,x,8\n",
        header="longitude,city,region,sub-region,sequence,id,latitude,country,captured_at,more",
    )
    assert table.select("id", "latitude", "longitude").row(0) == ("c", 51.0, 9.0)


@pytest.mark.parametrize(
    ("latitude", "longitude", "reason"),
    [
        ("90", "180", None),
        ("-90", "-180", None),
        ("0", "1e-9", None),
        (" 12.5 ", "3", None),
        ("", "5", "coordinates missing"),
        ("5", "NaN", "coordinates missing"),
        ("5", "east", "coordinates not numbers"),
        ("5", "inf", "coordinates out of range"),
        ("90.0001", "5", "coordinates out of range"),
        ("5", "-180.5", "coordinates out of range"),
        ("0", "0", "coordinates 0,0"),
        ("-0.0", "0.000", "coordinates 0,0"),
    ],
)
def test_coordinates_are_checked(read, latitude, longitude, reason):
    assert read(f"1,{latitude},{longitude},,,,,,,\n")["reason"].to_list() == [reason]


def test_a_row_without_id_has_a_reason(read):
    assert read(",1,2,,,,,,,\n")["reason"].to_list() == ["id missing"]


def test_rows_are_numbered_across_batches(read, monkeypatch):
    monkeypatch.setattr(rows, "BLOCK_BYTES", 1000)
    table = read("".join(f"id{i},1,2,,,,,,,\n" for i in range(500)))
    assert table["row"].to_list() == list(range(2, 502))
    assert table["id"].to_list() == [f"id{i}" for i in range(500)]


@pytest.mark.parametrize(
    ("text", "header", "message"),
    [
        ("1,2\n", "id,lat", r"train\.csv has no column 'latitude', 'longitude'.*only id, lat;"),
        ('1,"35,82",3,,,,,,,\n', HEADER, r"latitude 35,82 in row 2 of .*train\.csv has a decimal comma; write 35\.82"),
        ("7,1,2,,,,,,,\n2.53e+15,1,3,,,,,,,\n", HEADER, r"id 2\.53e\+15 in row 3 .* is a float.*dtype"),
        ("2530355460130539.0,1,3,,,,,,,\n", HEADER, r"id 2530355460130539\.0 in row 2 .* is a float"),
        ("1,2,3\n", HEADER, r"train\.csv is not.* CSV.*Expected 10 columns, got 3"),
        (b"", HEADER, r"train\.csv is not a CSV in UTF-8: Empty CSV file"),
        (f"{HEADER}\n1,1,2,,,,,,,\n".encode("utf-16"), HEADER, r"train\.csv is not a CSV in UTF-8: .*save it as one"),
        (HEADER.encode() + b"\n1,1,1,,FR,,,\xff\xfe,,\n", HEADER, r"train\.csv is not the CSV.*UTF8"),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_wrong(read, text, header, message):
    with pytest.raises(InputError, match=message):
        read(text, header)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.csv is missing; .*dvc repro download"):
        list(rows.read_rows(tmp_path / "nowhere.csv"))
