"""Sizes and alignment: the numbers that people type and read, and rounding."""

from __future__ import annotations

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

_SUFFIXES = "KMGTPE"


def parse_size(text: str) -> int:
    """Return the number of bytes that *text* means: 4096, 0x1000, 4K, 4KiB and 1M are powers of 1024.

    Raises ValueError with a sentence that says what is accepted.
    """
    body = text.strip().upper()
    scale = 1
    if not body.startswith("0X"):
        body = body.removesuffix("B").removesuffix("I")
        if body and body[-1] in _SUFFIXES:
            scale = 1 << 10 * (_SUFFIXES.index(body[-1]) + 1)
            body = body[:-1]
    try:
        value = int(body, 16) if body.startswith("0X") else int(body, 10)
    except ValueError:
        raise ValueError(f"{text!r} is not a size; write 4096, 0x1000, 4K or 1MiB") from None
    if value < 0:
        raise ValueError(f"{text!r} is negative")
    return value * scale


def format_size(count: int) -> str:
    """Return *count* bytes with two decimals and a binary unit, as btrfs-progs writes it (``16.00KiB``)."""
    value, suffix = float(count), ""
    for letter in _SUFFIXES:
        if value < 1024:
            break
        value, suffix = value / 1024, letter + "i"
    return f"{value:.2f}{suffix}B"


def round_down(value: int, step: int) -> int:
    """Return the largest multiple of *step* that is not above *value*."""
    return value - value % step


def round_up(value: int, step: int) -> int:
    """Return the smallest multiple of *step* that is not below *value*."""
    return -(-value // step) * step
