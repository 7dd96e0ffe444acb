"""What the tasks are made of: questions with their passages, words, prose and labelled texts.

Files and hub data sets that users have (SQuAD, NQ-open with retrieved passages, a word list, essays, labelled texts),
or built-in ones that need no download: the docstrings of packages whose versions requirements.txt pins. Scores on the
built-in ones compare models and context lengths with each other, not with published numbers (`comparable` is False).
"""

import ast
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import documents
import text_corpora
from files import identity, parse_table
from text_files import CorpusError, Reading, check_text, decode, kind_of, read_bytes
from utils import fail

PACKAGES = ("datasets", "matplotlib", "numpy", "scikit-learn", "scipy")
ANSWER_WORDS = (3, 12)  # of the first sentence of a docstring, which is the answer
PASSAGE_WORDS = (12, 150)


class Passage(NamedTuple):
    title: str
    text: str


class Question(NamedTuple):
    """`passages`: those retrieved for it, best first; empty where any passage is a distractor."""
    text: str
    answers: tuple
    gold: Passage
    group: str = ""  # distractors of the same group (article, module) come first
    passages: tuple = ()  # of (Passage, relevance: 0 none, more is better; whether it has an answer)


class Source(NamedTuple):
    """`about` is stored with the samples; `comparable`: whether scores can be set beside published ones; `items` are
    Questions, words, sentences or (text, label) pairs."""
    about: dict
    comparable: bool
    items: tuple


def normalise(text):
    """Text with single spaces."""
    return " ".join(text.split())


def holds_answer(text, answers):
    """Whether a text has one of the answers, in any case."""
    text = normalise(text).lower()
    return any(normalise(answer).lower() in text for answer in answers)


def from_file(path, comparable, items, what):
    """A Source read from a user's file; exits with code 2 where it holds nothing."""
    if not items:
        fail(f"{path} has no {what}; look at its format in downstream/README.md")
    return Source({"file": Path(path).name, "sha256": identity(path)}, comparable, tuple(items))


def or_fail(function, *arguments):
    """What a function returns whose CorpusError ends the program with exit code 2 and its line, without its advice,
    which names flags of prepare_data.py."""
    try:
        return function(*arguments)
    except CorpusError as error:
        fail(f"{str(error).partition(';')[0]}; look at the sources in downstream/README.md")


def read_text(path):
    """The text of a file in UTF-8, also of a .gz and the like. Exits with code 2 if it cannot be read."""
    return or_fail(decode, or_fail(read_bytes, str(path)), str(path), Reading())[0]


def is_text(value):
    """Whether a value is a text, without NUL and halves of surrogate pairs, which JSON can spell."""
    try:
        return check_text(value, "", "strict") == (value, 0)
    except CorpusError:
        return False


def read_lines(path, what, fields):
    """(line number, values of these fields) of the objects of a JSONL file. Exits with code 2, naming the line, where
    one has not all of them."""
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
                rows.append((number, tuple(row[field] for field in fields)))
            except (ValueError, KeyError, TypeError, RecursionError):
                fail(f"{what} {path}: line {number} is not JSON with the fields {', '.join(fields)}")
    return rows


# Questions


def question_of(text, answers, gold, group="", passages=()):
    """A Question whose fields are text. Raises TypeError where they are not, or without a list of answers."""
    if not isinstance(answers, list) or not answers:
        raise TypeError(f"{answers!r} is no list of answers")
    for part in (text, *answers, *gold, *(part for passage, *_ in passages for part in passage)):
        if not is_text(part):
            raise TypeError(f"{part!r} is not text")
    return Question(text.strip(), tuple(answers), gold, group, tuple(passages))


def squad(path):
    """Questions of SQuAD's JSON (v1.1 or v2.0), without the unanswerable; the gold passage is the paragraph."""
    found, number = [], 1
    try:
        for article in json.loads(read_text(path))["data"]:
            for paragraph in article["paragraphs"]:
                for qa in paragraph["qas"]:
                    if not qa.get("is_impossible", False) and qa["answers"]:
                        answers = list(dict.fromkeys(answer["text"] for answer in qa["answers"]))
                        gold = Passage(article["title"], paragraph["context"])
                        found.append(question_of(qa["question"], answers, gold, article["title"]))
                    number += 1
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        fail(f"{path} is not SQuAD's JSON (question {number}: {type(error).__name__}: {error}); give dev-v2.0.json")
    return from_file(path, True, found, "answerable questions")


@cache
def load_rows(name, split):
    """The rows of a data set of the hub or a directory. Exits with code 2 if they cannot be read."""
    return or_fail(text_corpora.load_rows, name, None, split)


def dataset(name, split):
    """Questions of a data set with SQuAD's columns (question, context, title, answers), of the hub or a directory."""
    rows = load_rows(name, split)
    try:
        found = tuple(question_of(row["question"], list(dict.fromkeys(row["answers"]["text"])),
                                  Passage(row["title"], row["context"]), row["title"])
                      for row in rows if row["answers"]["text"])
    except Exception as error:  # whatever the library meets: no such column, a damaged file
        fail(f"cannot read questions from the data set {name}: {error}")
    if not found:
        fail(f"the data set {name} has no answerable questions in {split}; choose with --split")
    return Source({"dataset": name, "split": split}, True, found)


def natural_questions(path):
    """Questions with retrieved passages, best first: JSONL (or .gz) of {question, answers, ctxs}.

    A passage is {title, text} with `isgold`, `hasanswer` (Lost in the Middle's files) or a graded `label` (re-ranking).
    Without `hasanswer` it has an answer if one is a substring of its text.
    """
    found = []
    for number, (text, answers, passages) in read_lines(path, "the questions", ("question", "answers", "ctxs")):
        try:
            ranked = [(Passage(entry.get("title", ""), entry["text"]),
                       int(entry.get("label", entry.get("isgold") or 0)),
                       holds_answer(entry["text"], answers) if entry.get("hasanswer") is None
                       else bool(entry["hasanswer"])) for entry in passages]
            best = max(range(len(ranked)), key=lambda index: (*ranked[index][1:], -index))
            gold, relevance, has_answer = ranked[best]
            ranked[best] = (gold, relevance or 1, has_answer)
            question = question_of(text, answers, gold, "", ranked)
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
            fail(f"the questions {path}: line {number} is not a question and lists of answers and passages (title, "
                 "text), all text")
        if relevance or has_answer:
            found.append(question)
    return from_file(path, True, found, "questions with a gold passage")


# Docstrings of pinned packages


def summary_and_text(docstring):
    """The first sentence and the prose of a docstring up to its first section, or None if it is none of this kind."""
    prose = re.split(r"\n\s*\n(?=[^\n]*\n\s*[-=~^]{3,}|\s*(?:Args|Parameters|Returns|Examples?|\.\. ))", docstring)[0]
    prose = re.sub(r":\w+:`~?([^`]*)`|`{1,2}([^`]*)`{1,2}", lambda found: found[1] or found[2], normalise(prose))
    summary = re.match(r"[A-Z][^.:;]*(?=\.(?: |$))", prose)
    if not summary or not ANSWER_WORDS[0] <= len(summary[0].split()) <= ANSWER_WORDS[1]:
        return None
    words = prose.split()
    if not PASSAGE_WORDS[0] <= len(words) or not prose.isascii() or re.search(r"[<>{}|\\]", prose):
        return None
    return summary[0], " ".join(words[:PASSAGE_WORDS[1]])


@cache
def docstring_entries():
    """(module, name, first sentence, prose) of public functions and classes, in the order of their files."""
    found, seen = [], Counter()
    for distribution in or_fail(documents.installed, PACKAGES).values():
        for file in sorted(distribution.files or [], key=str):
            if file.suffix != ".py" or {"tests", "testing", "test"} & set(file.parts):
                continue
            module = ".".join(part for part in file.with_suffix("").parts
                              if not part.startswith("_")) or file.parts[0]
            nodes = [documents.parse_file(distribution.locate_file(file))]
            for node in nodes:  # those on a level of the file before those within them
                nodes += documents.statements_in(node)
                if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
                    prose = summary_and_text(ast.get_docstring(node) or "")
                    if prose:
                        found.append((module, node.name, *prose))
                        seen.update([(module, node.name), prose[0].lower()])
    return tuple(entry for entry in found if seen[entry[:2]] == seen[entry[2].lower()] == 1)


def about_docstrings():
    """The versions of the packages. Exits with code 2 if one is not installed."""
    return {"docstrings": documents.versions(or_fail(documents.installed, PACKAGES))}


def docstring_questions():
    """"What does NAME of MODULE do?", answered by the first sentence of its docstring."""
    entries = docstring_entries()
    passages = [Passage(f"{module}.{name}", f"{name} of {module}: {prose}") for module, name, _, prose in entries]
    questions = [Question(f"What does {name} of {module} do?", (summary,), passage, module)
                 for (module, name, summary, _), passage in zip(entries, passages)]
    return Source(about_docstrings(), False, tuple(questions))


# Words, prose, labelled texts


def word_list(path):
    """The distinct words of a file, one a line. Without a file: those of the docstrings, 4 to 10 letters."""
    if path:
        words = dict.fromkeys(line.strip() for line in read_text(path).splitlines() if line.strip())
        return from_file(path, True, list(words), "words")
    counts = Counter(word for *_, prose in docstring_entries() for word in re.findall(r"\b[a-z]{4,10}\b", prose))
    return Source(about_docstrings(), False, tuple(sorted(counts)))


def prose(paths):
    """Sentences to hide needles in: of text files, or of the docstrings."""
    if paths:
        sentences = [sentence for path in paths
                     for sentence in re.split(r"(?<=[.!?])\s+", normalise(read_text(path))) if sentence]
        about = {"files": {Path(path).name: identity(path) for path in paths}}
        if not sentences:
            fail(f"there is no text in {' '.join(map(str, paths))}")
        return Source(about, True, tuple(sentences))
    return Source(about_docstrings(), False, tuple(f"{summary}." for _, _, summary, _ in docstring_entries()))


def labelled(path):
    """(text, label) pairs: of a JSONL or CSV file with these columns, or first sentences with their subpackage.

    Built in are the 30 subpackages (scipy.stats, ...) with most docstrings.
    """
    if path:
        if kind_of(str(path)) == ".csv":
            table = parse_table(read_text(path), path, ("text", "label"), "give text and label")
            rows = [(number, (str(row["text"]), str(row["label"]))) for number, row in enumerate(table, start=2)]
        else:
            rows = read_lines(path, "the labelled texts", ("text", "label"))
        for number, (text, label) in rows:
            if not is_text(text) or not is_text(str(label)) or not isinstance(label, (str, int)):
                fail(f"the labelled texts {path}: line {number} has no text with a label")
        return from_file(path, True, [(text.strip(), str(label)) for _, (text, label) in rows], "labelled texts")
    pairs = [(summary, ".".join(module.split(".")[:2])) for module, _, summary, _ in docstring_entries()]
    most = {label for label, _ in Counter(label for _, label in pairs).most_common(30)}
    return Source(about_docstrings(), False, tuple(pair for pair in pairs if pair[1] in most))


def without_special_tokens(source, special):
    """The source without what holds a special token of the tokenizer, which would be read as one (of any item kind).

    A retrieved passage that holds one goes alone, a gold one with its question.
    """
    special = [token for token in special if token.strip()]

    def clean(*texts):
        return not any(token in text for text in texts for token in special)

    def kept(item):
        if isinstance(item, Question):
            return clean(item.text, *item.answers, *item.gold)
        return clean(str(item))

    items = filter(kept, source.items)
    return source._replace(items=tuple(
        item._replace(passages=tuple(entry for entry in item.passages if clean(*entry[0])))
        if isinstance(item, Question) else item for item in items))
