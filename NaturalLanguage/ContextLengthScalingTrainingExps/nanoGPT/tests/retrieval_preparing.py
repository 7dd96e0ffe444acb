"""Running data/retrieval/prepare.py in the process of the tests."""

import contextlib
import importlib.util
import io
import sys
from types import SimpleNamespace
from unittest.mock import patch

from helpers import FOLDER

PREPARE = FOLDER / "data" / "retrieval" / "prepare.py"


def load_script():
    """prepare.py as a module of another name than that of data/openwebtext; it imports task_sequences.py."""
    spec = importlib.util.spec_from_file_location("prepare_retrieval", PREPARE)
    module = importlib.util.module_from_spec(spec)
    with patch.object(sys, "path", [str(PREPARE.parent), *sys.path]):
        spec.loader.exec_module(module)
    return module


SCRIPT = load_script()


def prepare(folder, *flags, code=0):
    """Run prepare.py's main(); its exit code, stdout and stderr."""
    argv = [str(PREPARE), "--out_dir", str(folder), "--test_documents", "20", *map(str, flags)]
    out, err, returned = io.StringIO(), io.StringIO(), 0
    with patch.object(sys, "argv", argv), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            SCRIPT.main()
        except SystemExit as end:
            returned = end.code
    assert returned == code, err.getvalue()
    return SimpleNamespace(stdout=out.getvalue(), stderr=err.getvalue())
