"""What every test may use: the oracles, and images that the kernel wrote, each made once a session."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from support import images, powerloss
from support.bases import BASES
from support.oracles import require_kernel, require_progs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

P = ParamSpec("P")
T = TypeVar("T")

# How long examples take to draw says more of the machine, and of who else works there, than of the test.
_UNTIMED: Any = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("local", **_UNTIMED)
settings.register_profile("ci", derandomize=True, **_UNTIMED)
settings.load_profile("ci" if os.environ.get("BTRIMG_REQUIRE_ORACLES") == "1" else "local")

# Children inherit what is ignored: nohup and `&` in a script ignore these, and commands told to stop would go on.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Hold back tests whose oracle this machine lacks, before their fixtures are made; report who judges a test."""
    for oracle, require in (("kernel", require_kernel), ("progs", require_progs)):
        if item.get_closest_marker(oracle):
            item.user_properties.append(("oracle", oracle))  # into --junitxml, for .ci/oracle_tests.py
            require()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep together what needs the same images when tests run side by side (``-n``)."""
    from support.workers import ByImage

    return ByImage(config, log)


@pytest.fixture(scope="session")
def image_directory() -> Iterator[str]:
    """Hold the session's images; not pytest's tmp_path, which keeps those of three sessions."""
    with tempfile.TemporaryDirectory(prefix="btrimg-images-") as directory:
        yield directory


@pytest.fixture(scope="session")
def kernel_image(image_directory: str) -> Callable[..., images.KernelImage]:
    """Give ``make_image(**options)``, made once per session and set of options; for ``kernel`` tests."""
    return _once_each(images.make_image, image_directory)


@pytest.fixture(scope="session")
def cut_image(image_directory: str) -> Callable[..., powerloss.CutImage]:
    """Give ``make_cut_image(**options)``, made once per session and set of options; for ``kernel`` tests."""
    return _once_each(powerloss.make_cut_image, image_directory)


@pytest.fixture(scope="session")
def base_image(image_directory: str) -> Callable[[str], Sequence[str]]:
    """Give the devices of a good image of ``bases.BASES``, made once; who edits them takes the edits back."""
    return _once_each(lambda directory, name: BASES[name](directory), image_directory)


@pytest.fixture(scope="session")
def demo_image() -> str:
    """Give the image of ``make demo``, where the docs have it; it needs no oracle. Do not write to it."""
    image, packed = os.path.join(ROOT, "build/demo.img"), os.path.join(ROOT, "fixtures/demo.img.xz")
    if not os.path.exists(image) or os.path.getmtime(image) < os.path.getmtime(packed):
        subprocess.run([sys.executable, os.path.join(ROOT, "fixtures/unpack.py"), packed, image], check=True)
    return image


@pytest.fixture
def forged(demo_image: str, tmp_path: Path) -> str:
    """Give a copy of the demo's image, to be changed."""
    return images.copy_sparse([demo_image], str(tmp_path / "forged"))[0]


def _once_each(make: Callable[Concatenate[str, P], T], directory: str) -> Callable[P, T]:
    made: dict[str, T] = {}

    def get(*args: P.args, **options: P.kwargs) -> T:
        key = repr((args, sorted(options.items())))
        if key not in made:
            made[key] = make(tempfile.mkdtemp(dir=directory), *args, **options)
        return made[key]

    return get
