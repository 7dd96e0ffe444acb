"""Helpers of the tests: a made-up corpus, prepared once, and small random models with a tokenizer, saved once;
the same for downstream/: chat models, a model of symbols and files of every source."""

import os
from glob import glob
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tests fill the cores, and threads would wait

from downstream_helpers import make_models, symbol_model, write_sources
from helpers import ARCHITECTURES, chunks_by_hand, make_model, make_texts, make_tokenizer, run_main


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Scripts write below the working directory by default: in the tests that is a folder of their own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def unrendered(monkeypatch):
    """Figures are drawn and saved as empty files, where their rendering, which another test does, is not the point."""
    from matplotlib.figure import Figure
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: Path(path).touch())


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    return make_texts(tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="session")
def models(tmp_path_factory, texts):
    """{architecture: directory} of small random models, all with one tokenizer of 300 tokens."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = make_tokenizer([Path(path).read_text() for path in sorted(glob(texts))], 300)
    for architecture in ARCHITECTURES:
        make_model(architecture, 300).save_pretrained(folder / architecture)
        tokenizer.save_pretrained(folder / architecture)
    return {architecture: folder / architecture for architecture in ARCHITECTURES}


@pytest.fixture(scope="session")
def corpus(tmp_path_factory, texts, models):
    """A data set of prepare_data.py: the made-up texts with more than 150 tokens, most for train."""
    path = tmp_path_factory.mktemp("corpus") / "filtered_dataset"
    code, _, err = run_main("prepare_data", "--source", "text", "--text_files", texts, "--percent", 100,
                            "--min_tokens", 150, "--model_name", models["llama"], "--save_path", path)
    assert code == 0, err
    return path


@pytest.fixture(scope="session")
def loaded(models, corpus):
    """{architecture: (model in float32, chunks of the corpus by hand)}"""
    import torch
    from datasets import load_from_disk
    from transformers import AutoModelForCausalLM, AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(models["llama"])
    chunks = chunks_by_hand(load_from_disk(str(corpus))["train"]["text"], tokenizer)
    return {name: (AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32), chunks)
            for name, path in models.items()}


@pytest.fixture(scope="session")
def two_packages():
    """Built-in sources of two of the packages, whose docstrings are read once: those of all take a quarter minute."""
    from downstream import sources
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "PACKAGES", ("numpy", "scipy"))
        sources.docstring_entries.cache_clear()
        yield
    sources.docstring_entries.cache_clear()


@pytest.fixture(scope="session")
def chat_models(tmp_path_factory):
    """{family: directory} of downstream_helpers.make_models."""
    return make_models(tmp_path_factory.mktemp("chat_models"))


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Flags that name a small file for every source of downstream/."""
    return write_sources(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="session")
def symbols(tmp_path_factory):
    """The directory of a model of symbols."""
    return symbol_model(tmp_path_factory.mktemp("symbols"))
