"""Where the page is, for examples that are run from this folder."""

from pathlib import Path

TemplatePath = str(Path(__file__).resolve().parent.parent / "templates")
