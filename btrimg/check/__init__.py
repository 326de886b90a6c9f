"""The checker: relations of the whole image judged by rules, each one SQL query in ``rules/``."""
