"""Tables of READMEs that are made from results: what stands between <!-- table NAME --> and <!-- end -->."""

import re
from argparse import BooleanOptionalAction
from pathlib import Path

from files import replacing
from utils import Parser, fail


def markdown(header, rows):
    """A Markdown table, as text, of the names of its columns and a list of cells for each row."""
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (header, ["---"] * len(header), *rows))


def table_maker(tables, name, path):
    """What makes the table `name` of a README, of {name: function}; None for the summary of another part.

    Exits with code 2 at an unknown name.
    """
    if name not in tables and not name.startswith("summary_"):
        fail(f"{path} has the marker of a table {name}, but there is no kind of table {name}; there are "
             f"{', '.join(tables)}")
    return tables.get(name)


def rewrite(path, make, check=False):
    """Write the tables of a file anew, or with `check` compare them alone; returns the names of those not current.

    make(NAME) gives a table as text, or None for one that is to stay as it is.
    """
    outdated = []

    def table(found):
        made = make(found["name"])
        block = found[0] if made is None else f"<!-- table {found['name']} -->\n\n{made}\n\n<!-- end -->"
        outdated.extend([found["name"]] if block != found[0] else [])
        return block

    text = Path(path).read_text(encoding="utf-8")
    text = re.sub(r"<!-- table (?P<name>.+?) -->.*?<!-- end -->", table, text, flags=re.S)
    if outdated and not check:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return outdated


def run_make_tables(description, readmes, make):
    """The main() of a make_tables.py. make(NAME, path of the README) is as for rewrite."""
    parser = Parser(description)
    parser.add_argument("--check", action=BooleanOptionalAction, default=False, help="change nothing; 1 if one differs")
    parser.add_argument("--readme", nargs="+", default=[path for path in readmes if path.exists()],
                        help="files with tables")
    args = parser.parse_args()
    outdated = [name for path in map(Path, args.readme)
                for name in rewrite(path, lambda name, path=path: make(name, path), args.check)]
    print(f"tables {'not current' if args.check else 'written anew'}: {', '.join(outdated) or 'none'}")
    raise SystemExit(args.check and bool(outdated))
