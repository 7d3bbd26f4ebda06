"""What MkDocs does not do by itself: pages from files outside docs/, their links, and the commands' own help.

The texts stand once. README.md, CHANGELOG.md and kernels/README.md are read where GitHub shows them; links between all
of them are written for GitHub and turned here into links of the site.
"""

import json
import os
import posixpath
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "kernels/README.md": "kernels.md",
    "SECURITY.md": "security.md",
}  # file: page
PAGES |= {
    f"examples/{path.name}": f"examples/{path.stem}.md"
    for path in (ROOT / "examples").iterdir()
    if path.suffix in (".py", ".ipynb")
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:\s]+)(#[^)\s]*)?\)")
HELP = re.compile(r"<!-- help: lac-(\w+) -->")
MODULES = {"eval": "evaluate"}  # of the commands whose module has another name


def on_files(files: Files, config: Any) -> Files:
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        if source.endswith(".py"):
            text = f"# {source}\n\n```python\n{text}```\n"
        if source.endswith(".ipynb"):
            text = "\n".join(map(_cell, json.loads(text)["cells"]))
        files.append(File.generated(config, page, content=text))
    return files


def _cell(cell: dict[str, Any]) -> str:
    """A cell of a notebook, with what it has printed and drawn."""
    text = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return f"{text}\n"
    parts = [f"```python\n{text}\n```\n"]
    for output in cell["outputs"]:
        data = output.get("data", {})
        if "image/png" in data:
            parts.append(f'<img alt="what the cell draws" src="data:image/png;base64,{data["image/png"].strip()}">\n')
        elif printed := "".join(output.get("text", data.get("text/plain", ""))).rstrip():
            parts.append(f"```text\n{printed}\n```\n")
    return "\n".join(parts)


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    here = page.file.src_uri
    source = next((source for source, name in PAGES.items() if name == here), f"docs/{here}")
    markdown = LINK.sub(lambda link: _link(link, here, source), markdown)
    return HELP.sub(lambda match: _help(match[1]), markdown)


def _link(link: re.Match[str], here: str, source: str) -> str:
    """A link as it stands in the file `source`, for the page `here`; the text alone where the site has no such page."""
    mark, text, address, anchor = link.groups()
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), address))
    page = PAGES.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else None)
    if page is None:
        return text
    return f"{mark}[{text}]({posixpath.relpath(page, posixpath.dirname(here) or '.')}{anchor or ''})"


def _help(command: str) -> str:
    """What `lac-COMMAND --help` prints."""
    module = f"lac.cli.{MODULES.get(command, command)}"
    environment = {**os.environ, "COLUMNS": "100", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"}
    run = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"lac-{command} --help failed: {done.stderr}")
    return f"```text\n$ lac-{command} --help\n{done.stdout}```"
