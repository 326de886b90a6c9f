#!python
"""The program ``btrimg``, and ``python -m btrimg``."""

from btrimg.cli.main import main

main()
