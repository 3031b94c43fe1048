"""Citations as people write them, such as "Hagos et al. 2023", become links to the bibliography.

The texts stay plain: a lesson is read in Jupyter, too.
"""

import re
from functools import cache
from pathlib import Path, PurePosixPath

from pybtex.database import parse_file

# Code, links and headings stay as they are.
AS_IS = r"```.*?^```|~~~.*?^~~~|`[^`]*`|\[[^\]]*\]\([^)]*\)|<[^>]*>|^ {4}.*?$|^#.*?$"


@cache
def works(path: str) -> dict[str, str]:
    """A pattern of each entry's authors and year, by its key."""
    found = {}
    for key, entry in parse_file(path).entries.items():
        people = entry.persons["author"]
        names = [re.escape(" ".join(one.last_names)) for one in people if str(one) != "others"]
        forms = [names[0] + r"(?:\s+et\s+al\.)?"]
        if len(names) > 1:
            forms.append(r",\s+".join(names[:-1]) + r"\s+and\s+" + names[-1])
        authors = "|".join(sorted(forms, key=len, reverse=True)).replace(r"\ ", r"\s+")
        found[key] = rf"(?:{authors})(?P<{key}>,?\s+\(?{entry.fields['year']})(?![0-9])"
    return found


def linked(text: str, docname: str, bibliography: str) -> str:
    """Markdown `text` of the page `docname`, its citations linked to the page `bibliography`."""
    known = works(str(Path(__file__).with_name("references.bib")))
    up = "../" * (len(PurePosixPath(docname).parts) - 1)

    def link(found: re.Match) -> str:
        key = found.lastgroup
        if key is None:
            return found[0]
        year = found[key][-4:]
        return f'{found[0][:-4]}<a href="{up}{bibliography}.html#{key}">{year}</a>'

    either = "|".join([AS_IS, *(f"(?<![A-Za-z]){one}" for one in known.values())])
    return re.sub(either, link, text, flags=re.DOTALL | re.MULTILINE)
