"""Makes the pages of a site of what is read on GitHub as well (hooks of mkdocs.yml).

The first page is the README. Links that leave docs/ lead to the repository; what they name must be there.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)(#[^)\s]+)?(?=\))")
log = get_plugin_logger(__name__)


def on_files(files, config):
    """The README, beside the pages of docs/."""
    files.append(File.generated(config, "index.md", content=(ROOT / "README.md").read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown, page, config, **_):
    """Links as they must be in the site."""
    is_readme = page.file.src_uri == "index.md"
    here = "" if is_readme else posixpath.join("docs", posixpath.dirname(page.file.src_uri))

    def link(found):
        path = posixpath.normpath(posixpath.join(here, found.group(1)))
        anchor = found.group(2) or ""
        if not (ROOT / path).exists():
            log.warning("%s: there is no '%s'", page.file.src_uri, path)
        if path == "README.md":
            path = "docs/index.md"
        if path.startswith("docs/"):
            return posixpath.relpath(path, "docs" if is_readme else here) + anchor
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"{config.repo_url}/{kind}/main/{path}{anchor}"

    return LINK.sub(link, markdown)
