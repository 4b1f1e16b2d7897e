import pytest

from limbeck import show


def test_without_a_terminal_there_is_a_line_now_and_then(capsys, monkeypatch):
    clock = iter(range(0, 10_000, 7))
    monkeypatch.setattr(show.time, "monotonic", lambda: float(next(clock)))
    with show.bar("student", 100) as bar:
        for step in range(1, 31):
            bar.note = "loss 1.234"
            bar.advance(step)
    said = capsys.readouterr().err.splitlines()
    assert 3 <= len(said) < 30
    assert said[0].startswith("student: ")
    assert "/100 steps" in said[0]
    assert "s left  loss 1.234" in said[0]


def test_short_jobs_say_nothing(capsys):
    with show.bar("check", 3, unit="images") as bar:
        for done in range(1, 4):
            bar.advance(done)
    assert capsys.readouterr() == ("", "")


def test_the_rate_counts_from_where_it_began(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(show.time, "monotonic", lambda: now[0])
    with show.bar("student", 100, done=40) as bar:
        assert bar.rate == 0
        now[0] = 5.0
        bar.advance(50)
        assert bar.rate == pytest.approx(2.0)


def test_a_line_is_said_as_it_is(capsys):
    show.say("weights [bold]x[/bold]: 3 of 4")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "weights [bold]x[/bold]: 3 of 4\n"


def test_only_the_first_process_speaks(capsys, monkeypatch):
    assert show.is_first_process()
    monkeypatch.setenv("RANK", "1")
    assert not show.is_first_process()
    show.say("hello")
    with show.bar("student", 3) as bar:
        bar.advance(1)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("RANK", "0")
    show.say("hello")
    assert capsys.readouterr().err == "hello\n"


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(show.sys.stderr, "isatty", lambda: True)
    with show.bar("student", 10) as bar:
        bar.note = "loss 0.5"
        bar.advance(10)
    assert capsys.readouterr().out == ""
