"""The offline scrub: every copy of what an image holds, read and judged."""
