"""The generated tables are those of the committed results, whose figures are redrawn from them."""

import subprocess

from helpers import FOLDER, error_line, run_main


def test_the_tables_of_the_readme_are_current():
    code, printed, _ = run_main("make_tables", "--check")
    assert code == 0, printed


def test_a_table_that_is_not_current_is_named_and_written_anew(tmp_path):
    whole = (FOLDER / "results" / "README.md").read_text()
    path = tmp_path / "README.md"
    path.write_text(whole.replace("| 256 |", "| 255 |"))
    code, printed, _ = run_main("make_tables", "--check", "--readme", path)
    assert code == 1 and "tables not current: measures small/ctl512, measures small/ctl512_long" in printed
    assert run_main("make_tables", "--readme", path)[0] == 0 and path.read_text() == whole
    path.write_text(whole.replace("table laws", "table lores"))
    assert "marker of a table lores" in error_line(run_main("make_tables", "--readme", path))


def test_the_benchmark_in_a_small_form(tmp_path, monkeypatch):
    """Of the ways, each a process, one is so here."""
    start = subprocess.run

    def run(command, **options):
        if "--way=ours" in command or command[0] == "git":
            return start(command, **options)
        return subprocess.CompletedProcess(command, *run_main("benchmark", *command[2:]))

    monkeypatch.setattr(subprocess, "run", run)
    small = {"vocab_size": 300, "width": 64, "layers": 1, "context_length": 16, "chunks": 4, "kde_n": 300,
             "kde_width": 8, "large_n": 300, "large_width": 8, "rounds": 1}
    flags = [f"--{name}={value}" for name, value in small.items()]
    code, printed, err = run_main("benchmark", *flags, "--out", tmp_path / "a folder" / "benchmark.json")
    assert code == 0 and "times faster" in printed and (tmp_path / "a folder" / "benchmark.json").exists(), err
