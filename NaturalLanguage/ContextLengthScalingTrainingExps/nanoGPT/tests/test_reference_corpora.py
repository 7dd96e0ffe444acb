"""The corpus that needs no download is that of the committed results: its packages are pinned, its text is compared."""

import json
import platform
import re
from importlib.metadata import PackageNotFoundError, version

import pytest

import corpora
from helpers import FOLDER

REPOSITORY = FOLDER.parents[2]


def pinned():
    """{package: version} of requirements.txt."""
    return dict(re.findall(r"^([\w-]+)==(\S+)$", (REPOSITORY / "requirements.txt").read_text(), re.MULTILINE))


def test_the_packages_of_the_docstrings_corpus_are_those_that_are_pinned():
    reference = json.loads(corpora.REFERENCE.read_text())
    packages = {name: release for name, release in pinned().items() if not name.startswith("pytest")}
    assert reference["packages"] == packages and set(corpora.DOCSTRING_PACKAGES) == packages.keys()
    assert set(corpora.VALIDATION_PACKAGES) < packages.keys()


def test_another_corpus_than_that_of_the_committed_results_is_said(capsys):
    reference = json.loads(corpora.REFERENCE.read_text())
    there = reference["packages"]
    source = {"name": "docstrings", "packages": there | {"torch": there["torch"] + "+cpu"},
              "text_sha256": reference["text_sha256"]["docstrings"]}
    corpora.compare_with_reference(source)
    corpora.compare_with_reference({"name": "docstrings", "packages": {"tqdm": "1.0"}, "text_sha256": "0"})
    corpora.compare_with_reference({"name": "text", "text_sha256": "0"})
    assert capsys.readouterr().out == ""
    corpora.compare_with_reference(source | {"packages": source["packages"] | {"numpy": "1.0"}, "text_sha256": "0"})
    printed = capsys.readouterr().out
    assert printed.startswith("the corpus differs") and f"numpy 1.0 (there {pinned()['numpy']})" in printed
    assert "torch" not in printed and printed.count("\n") == 1


def installed_as_pinned():
    try:
        return all(version(name).partition("+")[0] == release for name, release in pinned().items()
                   if not name.startswith("pytest")) and platform.python_version().startswith("3.11.")
    except PackageNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not installed_as_pinned(), reason="other packages than requirements.txt pins, or not Python 3.11")
@pytest.mark.parametrize("name", ["code", "docstrings"])
def test_the_corpus_of_the_committed_results_comes_out_again(name):
    """The text of the pinned packages: 20 s of two cores for the docstrings."""
    extract = {"code": corpora.code_of, "docstrings": corpora.docstrings_of}[name]
    found = corpora.modules(corpora.installed(corpora.DOCSTRING_PACKAGES), extract)
    expected = json.loads(corpora.REFERENCE.read_text())["text_sha256"][name]
    assert corpora.text_hash(text for _, text in found) == expected
