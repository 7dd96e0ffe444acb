"""Mixes of long and short documents, and the documents and rows that training reads off them."""

import json
import sys

import numpy as np
import pytest
import torch

import attention
import documents
import mix
import model as gpt
from helpers import start_script
from token_files import TokenFile

END, WINDOW = 2, 16  # end-of-text token, tokens of a window


def write_tokens(folder, name, lengths, first, **about):
    """A token file of documents of these lengths, whose tokens are `first` or above and never repeat."""
    numbers, rows = iter(range(first, 60_000)), []
    for length in lengths:
        rows += [next(numbers) for _ in range(length)] + [END]
    path = folder / f"{name}.bin"
    np.array(rows, np.uint16).tofile(path)
    (folder / "tokenizer.json").write_text("{}")
    path.with_suffix(".json").write_text(json.dumps({
        "split": "train", "dtype": "uint16", "vocabulary_size": 60_000, "tokens": len(rows), "sha256": name,
        "tokenizer": {"name": "made", "file": "tokenizer.json",
                      "sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}, **about}))
    return path


@pytest.fixture
def sources(tmp_path):
    generator = np.random.default_rng(0)
    long = write_tokens(tmp_path, "long", generator.integers(20, 90, 30), 10_000)
    return long, write_tokens(tmp_path, "short", generator.integers(1, 9, 250), 30_000)


@pytest.fixture
def run_mix(sources, tmp_path, monkeypatch, capsys):
    """Run mix.py in this process: run_mix(*flags) -> (exit code, stdout, stderr)."""

    def run(*flags, long=sources[0], short=sources[1]):
        monkeypatch.setattr(sys, "argv", ["mix.py", *map(str, ("--long", long, "--short", short, "--window", WINDOW,
                                                               "--out_dir", tmp_path / "mixes", *flags))])
        code = 0
        try:
            mix.main()
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


def read_mix(tmp_path, share):
    return TokenFile(tmp_path / "mixes" / f"MIX_train_L{share}_W{WINDOW}.bin")


def test_every_mix_has_its_share_and_shows_no_token_twice(run_mix, sources, tmp_path):
    assert run_mix("--long_share", 0, 0.3, 1) == (0, *run_mix("--overwrite", "--long_share", 0, 0.3, 1)[1:])
    sizes = set()
    for share in ("0", "0.3", "1"):
        file = read_mix(tmp_path, share)
        windows = np.array(file.tokens).reshape(-1, WINDOW)
        assert (windows[:, -1] == END).all()
        content = windows[windows != END]
        assert len(np.unique(content)) == len(content)
        long = (windows[:, 0] >= 10_000) & (windows[:, 0] < 30_000)
        for row, kind in zip(windows, long):  # a window is of one source
            row = row[row != END]
            assert ((row < 30_000) == kind).all()
        assert long.sum() == round(float(share) * len(windows)) == file.about["long_tokens"] / WINDOW
        assert file.about["documents"] == (windows == END).sum()
        for source, rows in zip(sources, (windows[long], windows[~long])):  # in the order of the source, none left out
            whole = np.fromfile(source, np.uint16)
            whole, taken = whole[whole != END], rows[rows != END]
            assert (whole[:len(taken)] == taken).all()
        sizes.add(len(windows))
    assert len(sizes) == 1


def test_a_mix_that_is_there_is_kept_and_another_is_refused(run_mix):
    assert run_mix("--long_share", 0.5)[0] == 0
    code, out, _ = run_mix("--long_share", 0.5)
    assert code == 0 and "mixed before" in out
    code, _, error = run_mix("--long_share", 0.5, "--seed", 1)
    assert code == 2 and "--overwrite" in error and error.count("\n") == 1
    assert run_mix("--long_share", 0.5, "--seed", 1, "--overwrite")[0] == 0


def test_a_mix_that_is_missing_or_cut_short_is_made_again(run_mix, tmp_path):
    run_mix("--long_share", 0.5)
    for path in (tmp_path / "mixes").iterdir():
        whole = path.read_bytes()
        for damage in (lambda path=path, whole=whole: path.write_bytes(whole[:-2]), path.unlink):
            damage()
            assert run_mix("--long_share", 0.5)[0] == 0 and path.read_bytes() == whole


@pytest.mark.parametrize("flags, message", [
    (("--tokens", 10 * WINDOW + 1), "multiple"), (("--tokens", 10_000 * WINDOW), "lower --tokens"),
    (("--long_share", 1.2), "from 0 to 1"), (("--window", 1), "at least 2"),
    (("--long", "nothing.bin"), "cannot read"),
])
def test_bad_input_is_one_line(run_mix, flags, message):
    code, _, error = run_mix(*flags)
    assert code == 2 and message in error and error.count("\n") == 1


def test_other_tokenizers_and_cut_files_are_refused(run_mix, sources, tmp_path):
    code, _, error = run_mix(short=write_tokens(tmp_path, "valid", [5] * 250, 30_000, split="val"))
    assert code == 2 and "is of the split train" in error and "mix files of one split" in error
    other = write_tokens(tmp_path, "other", [5, 5], 100, tokenizer={"name": "b", "file": "t", "sha256": "0"})
    code, _, error = run_mix(short=other)
    assert code == 2 and "different tokenizers" in error
    sources[0].write_bytes(sources[0].read_bytes()[:-2])
    code, _, error = run_mix()
    assert code == 2 and "bytes" in error


def test_the_numbers_of_documents_are_counted_from_their_ends():
    generator = np.random.default_rng(1)
    tokens = np.where(generator.random(200) < 0.1, END, generator.integers(3, 9, 200))
    tokens[-1] = END
    starts = np.array([0, 37, 150, 195])
    found = documents.Documents(tokens, END).ids(starts, 20)
    for row, start in zip(found, starts):
        for place, number in enumerate(row.tolist()):
            assert number == (tokens[:(start + place) % 200] == END).sum()


def test_rows_go_on_where_they_ended_and_an_epoch_shows_every_token():
    tokens, rows, length = np.arange(480), 4, 8
    windows = documents.SequentialWindows(tokens, length, seed=3, rows=rows)
    steps = [windows.batch(range(rows * step, rows * step + rows)) for step in range(15)]
    for (before, targets), (after, _) in zip(steps, steps[1:]):
        assert torch.equal(targets[:, -1], after[:, 0]) and ((after - before) % 480 == length).all()
    assert sorted(torch.cat([targets for _, targets in steps]).flatten().tolist()) == list(range(480))
    assert windows.starts(range(6, 8)).tolist() == windows.starts(range(8))[6:].tolist()
    assert documents.SequentialWindows(tokens, length, seed=4, rows=rows).starts(range(1)) != windows.starts(range(1))


def test_validation_rows_are_stretches_in_order():
    steps = list(documents.rows_in_order(np.arange(0, 110, 10), 4))
    assert [step.tolist() for step in steps] == [[0, 30, 60, 90], [10, 40, 70, 100], [20, 50, 80]]
    assert [step.tolist() for step in documents.rows_in_order(np.arange(3), 8)] == [[0, 1, 2]]


def test_with_a_document_mask_a_packed_document_is_read_as_if_it_were_alone(run_mix, tmp_path):
    """Rotary positions are relative, so a document's states do not depend on what is packed before it."""
    run_mix("--long_share", 0.5)
    file = read_mix(tmp_path, "0.5")
    assert documents.end_of_text(file) == END
    window = torch.from_numpy(np.array(file.tokens[:4 * WINDOW]).astype(np.int64))[None] % 97
    ids = documents.Documents(file.tokens, END).ids([0], 4 * WINDOW)
    torch.manual_seed(0)
    small = gpt.GPT(97, 2, 2, 16)
    with torch.no_grad():
        states = small.hidden(window, documents=ids)[0]
        for number in ids.unique():
            alone = small.hidden(window[:, ids[0] == number])[0]
            torch.testing.assert_close(states[ids[0] == number], alone, rtol=1e-4, atol=1e-5)
    assert attention.visible(ids).sum() < 4 * WINDOW * (4 * WINDOW + 1) / 2


def test_it_runs_as_users_run_it(sources, tmp_path):
    process = start_script("data/mix.py", "--long", sources[0], "--short", sources[1], "--window", WINDOW,
                           "--long_share", 0.3, cwd=tmp_path)
    out, error = process.communicate()
    assert process.returncode == 0 and not error and f"MIX_train_L0.3_W{WINDOW}.bin" in out
    assert (tmp_path / "data" / "mixes" / f"MIX_train_L0.3_W{WINDOW}.json").exists()
