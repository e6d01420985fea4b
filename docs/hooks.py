"""For mkdocs: links out of the docs folder work on the repository's page only, so here their text stays."""

import re


def on_page_markdown(markdown: str, **_: object) -> str:
    outside = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?!api/)[^)]*\)")
    return re.sub(r"\[([^\]]+)\]\(evidence/(?:credit/)?\)", r"\1", outside.sub(r"\1", markdown))
