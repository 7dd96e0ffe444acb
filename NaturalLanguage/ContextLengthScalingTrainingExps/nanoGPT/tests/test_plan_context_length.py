"""The one command: the plan and what it refuses inside this process, the whole of it as users run it."""

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

import pilot_runs
import train_cells
from files import lock
from helpers import FOLDER, TIMINGS, bash, make_texts, run_script
from run import run_tag

SMALL = ("--tokenizer", "bpe:300", "--n_layer", 1, "--n_head", 2, "--n_embd", 16, "--tokens_per_step", 512,
         "--max_iters", 12, "--eval_interval", 4, "--device", "cpu")
SMALLEST = (3, 4, 1)  # sizes, lengths, seeds


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A pattern of text files in a folder with a space."""
    return make_texts(tmp_path_factory.mktemp("my texts"), n_words=500)


@pytest.fixture
def planned(texts, tmp_path, monkeypatch):
    """Plan in tmp_path, in this process alone, with made-up times: planned("--hours", 1) -> CompletedProcess.

    planned.timed has the lengths that were timed.
    """
    def prepare(script, *arguments):
        done = run_script(os.path.abspath(script), *arguments, cwd=tmp_path)
        print(done.stderr, file=sys.stderr)
        if done.returncode:
            raise SystemExit(done.returncode)

    def dry_run(length, tokens, flags, slot):
        run.timed.append(length)
        return {"context_length": length, "seconds_a_step": 1 + length / 64, "seconds_an_evaluation": 2.0,
                "peak_memory_gigabytes": 0.1}

    def run(*arguments, target=100_000):
        return run_script("plan_context_length.py", texts, "--target_tokens", target, *SMALL, "--out_dir", "a plan",
                          *arguments, cwd=tmp_path)

    run.timed = []
    monkeypatch.setattr(pilot_runs, "dry_run", dry_run)
    monkeypatch.setattr(pilot_runs, "run_script", prepare)
    monkeypatch.setattr(pilot_runs, "slots", lambda **_: [{}] * 2)
    return run


def one_line(done, message):
    assert done.returncode == 2 and message in done.stderr.strip().splitlines()[-1], done.stderr
    assert "Traceback" not in done.stderr


def test_the_plan_its_cost_and_what_it_refuses(planned, tmp_path):
    """From too few hours to those that it names; kept for the same request, refused for another, replaced if asked."""
    done = planned("--hours", 0.01, "--dry_run")
    one_line(done, "the smallest pilot (3 sizes, 4 lengths, 1 seed): --hours ")
    hours = done.stderr.split("--hours ")[-1].split()[0]
    assert planned.timed == [8, 16, 32, 64] and not (tmp_path / "a plan" / "plan.json").exists()
    done = planned("--hours", hours, "--dry_run")
    assert done.returncode == 0, done.stderr
    plan = json.loads((tmp_path / "a plan" / "plan.json").read_text())
    sizes, lengths = [row["train_tokens"] for row in plan["sizes"]], plan["context_lengths"]
    assert (len(sizes), len(lengths), plan["seeds"]) == SMALLEST and sizes[0] >= 3000 == 10 * 300
    assert f"{plan['hours_at_most']:.2g} hours on 2 slots" in done.stdout and plan["hours_at_most"] < float(hours)
    runs = [12 * (1 + length / 64) + 2.0 * (12 // 4 + 2) for length in lengths]  # --max_iters 12
    assert plan["slot_hours_at_most"] * 3600 == pytest.approx(3 * sum(runs), rel=0.1)
    timed = len(planned.timed)
    assert planned("--hours", hours, "--dry_run").returncode == 0 and len(planned.timed) == timed  # by the same plan
    one_line(planned("--hours", 5), f"hours {float(hours):g}, not 5.0; add --overwrite to plan anew")
    one_line(planned("--hours", hours, target=5), "target_tokens 100000.0, not 5.0")
    one_line(planned("--hours", hours, "--n_layer", 3), "flags of train.py")
    one_line(planned("--hours", hours, "--tokenizer", "bpe:310"), "tokenizer bpe:300, not bpe:310")
    one_line(planned("--hours", 5, "--overwrite", "--dry_run"), "--dry_run replaces no plan")
    (tmp_path / "a plan" / "plan.json").write_text('{"request": 3}')
    one_line(planned("--hours", hours), "a plan with nothing that says what it was made from; add --overwrite")
    with lock(tmp_path / "a plan" / "lock"):
        one_line(planned("--hours", hours, "--overwrite"), "another process plans or trains in a plan")
    assert not (tmp_path / "a plan" / "runs").exists()


def test_with_other_context_lengths_alone_the_plan_keeps_its_sizes_and_seeds(planned, tmp_path, monkeypatch):
    """Where the runs that are added fit the hours; then these alone cost."""
    def end(*_):
        raise SystemExit(9)

    def plan(*arguments):
        done = planned(*arguments)
        assert done.returncode == 9, done.stderr
        found = json.loads((tmp_path / "a plan" / "plan.json").read_text())
        return found, ([row["train_tokens"] for row in found["sizes"]], found["seeds"])

    monkeypatch.setattr(train_cells, "dispatch_runs", end)  # before any run begins
    first, grid = plan("--hours", 0.6, "--context_lengths", 8, 16, 32, 64)
    less, same = plan("--hours", 0.6, "--context_lengths", 4, 8, 16, 32, 64, "--overwrite")
    assert same == grid and less["lengths_of_the_plan_before"] == [8, 16, 32, 64]
    assert less["slot_hours_at_most"] < first["slot_hours_at_most"] / 2 and less["runs"] == first["runs"] * 5 / 4
    other, _ = plan("--hours", 5, "--context_lengths", 4, 8, 16, 32, 64, "--overwrite")
    assert other["lengths_of_the_plan_before"] == []
    # where the validation tokens of the plan before do not suit a length, its runs are not said to be kept
    for lengths, more in (((4, 8, 16, 32), 64), ((2, 4, 8, 16), 32), ((1, 2, 4, 8), 16)):
        before, _ = plan("--hours", 9, "--context_lengths", *lengths, "--overwrite")
        after, _ = plan("--hours", 9, "--context_lengths", *lengths, more, "--overwrite")
        suits = before["flags"]["eval_tokens"] % more == 0
        assert after["lengths_of_the_plan_before"] == (list(lengths) if suits else [])
        assert (after["flags"] == before["flags"]) == suits


def test_planned_anew_the_runs_that_differ_are_removed_even_if_that_was_interrupted(planned, tmp_path, monkeypatch):
    """Runs of the former plan with other flags; the command is stopped as it removes them, and started again."""
    def stop(*_):
        raise SystemExit(9)

    monkeypatch.setattr(train_cells, "dispatch_runs", stop)  # before any run begins
    assert planned("--hours", 1).returncode == 9
    plan = json.loads((tmp_path / "a plan" / "plan.json").read_text())
    tags = [run_tag(length, row["train_tokens"], 0) for length in plan["context_lengths"] for row in plan["sizes"]]
    for tag in tags:
        (tmp_path / "a plan" / "runs" / tag).mkdir(parents=True)
        for name in ("args.json", "final.json"):
            (tmp_path / "a plan" / "runs" / tag / name).write_text('{"arguments": {}, "data": {}, "model": {}}')
    with monkeypatch.context() as patch:
        patch.setattr(pilot_runs, "shutil", SimpleNamespace(rmtree=stop))
        assert planned("--hours", 1, "--overwrite", "--seed_of_nothing").returncode == 2  # nothing has happened
        assert not (tmp_path / "a plan" / pilot_runs.FORMER).exists()
        assert planned("--hours", 1, "--overwrite", "--patience", 3).returncode == 9
    left = [tag for tag in tags if (tmp_path / "a plan" / "runs" / tag / "args.json").exists()]
    assert len(left) == len(tags) - 1 and (tmp_path / "a plan" / pilot_runs.FORMER).exists()
    planned("--hours", 1, "--patience", 3)
    assert not any((tmp_path / "a plan" / "runs" / tag / "args.json").exists() for tag in tags)
    assert not (tmp_path / "a plan" / pilot_runs.FORMER).exists()


def test_files_in_a_folder_whose_name_is_a_pattern(tmp_path):
    folder = tmp_path / "a [1]"
    make_texts(folder, n_files=3)
    (folder / "b[2].txt").write_text("text")
    for text, count in (("*.txt", 4), ("000.txt", 1), ("b[2].txt", 1), (str(tmp_path / "?nother" / "*.txt"), 0)):
        assert len(pilot_runs.files_of([pilot_runs.absolute(text, folder)] * 2)) == count


def test_what_cannot_be_planned(planned, texts, tmp_path):
    for arguments, message in (
            (("--no_such_flag", 1), "no_such_flag"), (("--train_tokens", 5), "--train_tokens is the plan's to choose"),
            (("--collect",), "there is no a plan/plan.json yet"), (("--device", "tpu"), "invalid choice: 'tpu'"),
            (("--context_lengths", 8, 16, 32), "3 context lengths are possible"),
            (("--hours", 1, "more/*.txt"), "more/*.txt stands behind a flag; name all texts first"),
            (("--tokens_per_step", 1000, "--out_dir", "third"), "1,000 tokens of a step"),
            (("--context_lengths", 8, 16, 32, 48), "--context_lengths 48: it must divide the 512"),
            (("--context_lengths", 8, 16, 32, 4096), "--context_lengths 4096: the"),
            (("--context_lengths", 8, 16, 32, 128), "into at least 8"),
            (("--tokenizer", "bpe:90000", "--out_dir", "other"), "the corpus is too small for --tokenizer bpe:90000")):
        one_line(planned(*arguments), message)
    for few, message in (("00[0-6]", "needs 12,500 with a vocabulary of 300"), ("nothing*", "no file matches"),
                         ("00[01]", "give more text")):
        done = run_script("plan_context_length.py", str(texts).replace("*", few), "--target_tokens", 1e6, *SMALL,
                          "--out_dir", few, "--dry_run", cwd=tmp_path)
        one_line(done, message)
    assert not list(tmp_path.glob("*/plan.json"))


def test_texts_with_bytes_of_another_encoding(planned, tmp_path):
    """The flags that the refusal names are those of this command."""
    pattern = make_texts(tmp_path / "odd", n_words=500)
    with open(tmp_path / "odd" / "007.txt", "ab") as file:
        file.write("é".encode("latin-1"))

    def plan(*flags):
        return run_script("plan_context_length.py", pattern, "--target_tokens", 1e5, "--hours", 9, *SMALL, "--dry_run",
                          "--out_dir", "out", *flags, cwd=tmp_path)

    one_line(plan(), "or add --encoding_errors replace")
    for flags, replaced in ((("--encoding_errors", "replace"), 1), (("--encoding", "latin-1", "--out_dir", "new"), 0)):
        assert plan(*flags).returncode == 0
        folder = tmp_path / ("out" if replaced else "new") / "data"
        source = json.loads(next(folder.glob("*train*.json")).read_text())["source"]
        assert source.get("replaced_characters", 0) == replaced


def test_a_tokenizer_for_the_text(monkeypatch):
    assert pilot_runs.choose_tokenizer(10**6, 0) == "bpe:1024" and pilot_runs.choose_tokenizer(10**9, 0) == "bpe:4096"
    monkeypatch.setitem(sys.modules, "tiktoken", None)  # cannot be imported, as it cannot read without a network
    assert pilot_runs.choose_tokenizer(10**9, 1) == "bpe:4096"


def results(folder):
    """What the runs of a plan gave, by tag, and what is said of them."""
    found = {path.parent.name: {name: value for name, value in json.loads(path.read_text()).items()
                                if name not in TIMINGS} for path in folder.glob("runs/*/final.json")}
    return found, (folder / "advice.txt").read_text()


@pytest.mark.slow
def test_from_texts_to_five_lines(tmp_path):
    """As a user does it, from another folder than the scripts'; stopped in the middle, it goes on.

    Texts that suffice for the smallest pilot only.
    """
    caller = tmp_path / "where I am"
    make_texts(caller / "my texts", n_files=14, n_words=500)
    command = [os.environ.get("BASH32", "bash"), FOLDER / "plan_context_length.sh", "my texts/*.txt", "--target_tokens",
               30_000, "--hours", 1, *SMALL, "--out_dir", "my plan"]
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(list(map(str, command)), cwd=caller, env=environment, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    folder = caller / "my plan"
    while len(list(folder.glob("runs/*/final.json"))) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and "start again to go on" in errors.splitlines()[-1]
    before = (folder / "plan.json").read_bytes()
    done = bash(*command[1:], cwd=caller)
    assert done.returncode == 0, done.stderr
    plan = json.loads(before)
    assert (folder / "plan.json").read_bytes() == before and ": finished before" in done.stdout
    tags = {run_tag(length, row["train_tokens"], seed) for length in plan["context_lengths"] for row in plan["sizes"]
            for seed in range(plan["seeds"])}
    found, advice = results(folder)
    assert set(found) == tags and len(tags) == plan["runs"] == 12
    lines = advice.splitlines()
    assert [line[:3] for line in done.stdout.splitlines()[-5:]] == ["1. ", "2. ", "3. ", "4. ", "5. "]
    assert len(lines) == 5 and all(line in done.stdout for line in lines) and "not at their minimum" in lines[4]
    assert {path.stem for path in folder.glob("figures/*.pdf")} == {"optimal_context", "loss_vs_context",
                                                                     "loss_by_position"}
    (folder / "runs" / min(tags) / "final.json").unlink()
    other = folder / "runs" / max(tags) / "args.json"
    other.write_text(other.read_text().replace('"n_layer": 1', '"n_layer": 2'))
    done = bash(*command[1:], "--collect", cwd=caller)
    missing = done.stderr.splitlines()[-1].split()
    assert done.returncode == 1 and missing[0] == "missing:" and set(missing[1:]) == {min(tags), max(tags)}
