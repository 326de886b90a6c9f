#!python
"""The program ``btrimg``, and ``python -m btrimg``."""

try:
    from btrimg.cli.main import main

    main()
except KeyboardInterrupt:  # before main heeds it
    raise SystemExit(130) from None
