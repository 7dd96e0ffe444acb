"""The test documents of data/retrieval/prepare.py, for what measures a run on them."""

import json
from collections import defaultdict
from pathlib import Path

import torch

from files import identity, load_json
from utils import fail

TOKENS_AT_ONCE = 16_384  # of a pass that measures a run


def read_test(path):
    """{units: (token ids int64 (documents, length), answers [[at, gold, number, hops] of each document])}."""
    try:
        documents = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
        if not documents:
            raise ValueError("it is empty")
        by_units = defaultdict(list)
        for document in documents:
            by_units[document["units"]].append(document)
        return {units: (torch.tensor([document["ids"] for document in group]),
                        [document["answers"] for document in group]) for units, group in sorted(by_units.items())}
    except OSError as error:
        fail(f"cannot read the test documents {path}: {error.strerror}; make them with data/retrieval/prepare.py")
    except (ValueError, KeyError, TypeError) as error:
        fail(f"{path} holds no test documents ({error!r}); make it again with data/retrieval/prepare.py --overwrite")


def describe_test(path, run_dir):
    """What the JSON beside test documents says of them.

    Exits with code 2 if they are not whole or their tokens are not those of the run.
    """
    about = load_json(Path(path).with_suffix(".json"), "the description of the test documents")
    if about.get("tokenizer", {}).get("sha256") != identity(Path(run_dir) / "tokenizer.json"):
        fail(f"{path} has other symbols than {run_dir}; give the test documents of its own task and sizes")
    if about.get("sha256") != identity(path):
        fail(f"{path} is cut short or was changed; make it again with data/retrieval/prepare.py --overwrite")
    return about
