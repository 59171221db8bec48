"""`python -m tests.reference`: write REFERENCE.md."""

from __future__ import annotations

from tests.reference.page import PATH, build_page

if __name__ == "__main__":
    PATH.write_text(build_page())
