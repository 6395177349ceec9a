"""Check every link of a built site: pages, anchors, pictures, scripts; with --external the web ones too.

python workflow/check_links.py book/_build/html [--external]
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests
from bs4 import BeautifulSoup

NOT_LINKS = ("mailto:", "javascript:", "data:")
WEB = ("http://", "https://", "//")


@cache
def page(path: Path) -> tuple[list[str], set[str]]:
    """All link targets and all anchors of a page."""
    soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    targets = [tag[key] for key in ("href", "src", "data") for tag in soup.find_all(attrs={key: True})]
    anchors = {tag[key] for key in ("id", "name") for tag in soup.find_all(attrs={key: True})}
    return [target for target in targets if not target.startswith(NOT_LINKS)], anchors


def fault(site: Path, path: Path, target: str) -> str | None:
    """Why this internal link does not lead anywhere, or None."""
    parts = urlsplit(target)
    goal = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
    if target.startswith("/"):
        return "absolute: breaks when the site does not stand at the root"
    if goal.is_dir():
        goal = goal / "index.html"
    if not goal.is_file():
        return "no such file"
    if not goal.is_relative_to(site):
        return "leaves the site"
    if parts.fragment and goal.suffix == ".html" and unquote(parts.fragment) not in page(goal)[1]:
        return "no such anchor"
    return None


def web_fault(url: str) -> str | None:
    try:
        answer = requests.get(url if ":" in url else f"https:{url}", timeout=20, stream=True)
    except requests.RequestException as error:
        return type(error).__name__
    return f"status {answer.status_code}" if answer.status_code in (404, 410) else None


def check(site: Path, external: bool = False) -> tuple[list[str], int]:
    """The faults, as ``page: link: reason``, and the number of links looked at."""
    site, faults, web, count = site.resolve(), [], {}, 0
    pages = sorted(path for path in site.rglob("*.html") if "_static" not in path.relative_to(site).parts)
    if not pages:
        return [f"{site.name}: no pages; build the site first"], 0
    for path in pages:
        for target in page(path)[0]:
            if target.startswith(WEB):
                web.setdefault(target, path)
                continue
            count += 1
            if reason := fault(site, path, target):
                faults.append(f"{path.relative_to(site)}: {target}: {reason}")
    if external:
        with ThreadPoolExecutor(8) as pool:
            for (target, path), reason in zip(web.items(), pool.map(web_fault, web), strict=True):
                if reason:
                    faults.append(f"{path.relative_to(site)}: {target}: {reason}")
        count += len(web)
    return sorted(set(faults)), count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path)
    parser.add_argument("--external", action="store_true")
    args = parser.parse_args()
    faults, count = check(args.site, args.external)
    print("\n".join([*faults, f"{count} links, {len(faults)} broken"]))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
