VERSION = "0.1.0"
"""As in pyproject.toml. A constant, because asking the installed package's metadata takes longer than all the rest."""
