"""Generated pages say what the catalogues say."""

import subprocess
import sys

from tests.conftest import ROOT


def test_generated_pages_are_up_to_date():
    done = subprocess.run(
        [sys.executable, "tools/write_docs.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_readme_shows_the_published_number():
    assert "1794.34" in (ROOT / "README.md").read_text("utf-8")
