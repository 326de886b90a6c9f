"""Every race: ``make bench``, or ``make bench CORPUS=M.img`` with a corpus that is there already.

Without CORPUS the standard corpus is made by the script that BTRIMG_CORPUS_SCRIPT names, by default
``../shared/bench/corpus.sh`` beside the checkout.
"""

from __future__ import annotations

import os
import subprocess
import sys

from . import (
    bench_build,
    bench_cat,
    bench_check,
    bench_du,
    bench_edit,
    bench_extents,
    bench_locate,
    bench_pagecache,
    bench_resolve,
    bench_scrub,
    bench_tables,
    bench_views,
    bench_writeback,
)


def corpus() -> str:
    """Return an image of corpus M, made if it is not there."""
    image = os.environ.get("CORPUS") or os.path.abspath("build/corpus-M.img")
    if not os.path.exists(image):
        script = os.environ.get("BTRIMG_CORPUS_SCRIPT", "../shared/bench/corpus.sh")
        if not os.path.exists(script):
            sys.exit(f"no {script}: name a corpus with CORPUS=IMAGE, or its script with BTRIMG_CORPUS_SCRIPT")
        os.makedirs(os.path.dirname(image), exist_ok=True)
        subprocess.run(["sh", script, "M", image], check=True)
    return image


if __name__ == "__main__":
    image = corpus()
    bench_resolve.main(image)
    bench_extents.main(image)
    bench_check.main(image)
    bench_scrub.main(image)
    bench_du.main(image)
    bench_locate.main(image)
    bench_tables.main(image)
    bench_cat.main()
    bench_build.main()
    bench_edit.main(image)
    bench_writeback.main()
    bench_views.main()
    bench_pagecache.main()
