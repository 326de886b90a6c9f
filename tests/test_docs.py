"""The pages say what the program does today: outputs, commands, names of modules."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from btrimg.cli.main import COMMANDS

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def load(script: str) -> Any:
    spec = importlib.util.spec_from_file_location(os.path.basename(script)[:-3], os.path.join(ROOT, script))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


consoles = load("docs/consoles.py")


def read(page: str) -> str:
    with open(os.path.join(ROOT, page), encoding="utf-8") as file:
        return file.read()


@pytest.mark.parametrize("page", consoles.PAGES)
@pytest.mark.usefixtures("demo_image")
def test_a_page_shows_what_commands_print_now(page: str) -> None:
    assert read(page) == consoles.refresh(read(page)), "stale: make generate"


@pytest.mark.usefixtures("demo_image")
def test_the_library_example_prints_what_stands_below_it() -> None:
    example, expected = re.findall(r"```(?:python|text)\n(.*?)```", read("README.md"), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", example], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == expected


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_is_in_the_manual_with_its_help(words: tuple[str, ...]) -> None:
    assert f"$ btrimg {' '.join(words)} --help\nUsage: btrimg {' '.join(words)} " in read("docs/cli.md")


@pytest.mark.parametrize(
    "page", ["README.md", *sorted(f"docs/{page}" for page in os.listdir(f"{ROOT}/docs") if page.endswith(".md"))]
)
def test_files_that_a_page_names_are_there(page: str) -> None:
    folder = os.path.dirname(page)
    linked = [os.path.join(folder, path) for path in re.findall(r"\]\(([^)#:]+)\)", read(page))]
    named = re.findall(r"\b(?:tests|docs|btrimg|fixtures)/[\w/]+\.\w+", read(page))
    assert [path for path in linked + named if not os.path.exists(os.path.join(ROOT, path))] == []


def test_an_output_is_replaced_up_to_the_next_command_remark_or_fence() -> None:
    page = "$ btrimg --version\nold\nolder\n# remark\n$ btrimg --version\n```\nprose\n"
    line = consoles.output_of("btrimg --version")
    assert line.startswith("btrimg 0")
    assert consoles.refresh(page) == f"$ btrimg --version\n{line}# remark\n$ btrimg --version\n{line}```\nprose\n"
