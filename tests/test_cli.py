from stages.cli import show_table


def test_a_title_stands_on_one_line_however_narrow_its_table(capsys):
    title = "photos [1]/" + "a long name " * 20
    show_table(title, ["a", "b"], [(1, 2)])
    assert capsys.readouterr().out.splitlines()[0] == title
