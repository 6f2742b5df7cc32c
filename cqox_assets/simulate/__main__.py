"""Write the seeded sample studies: ``python -m cqox_assets.simulate --out data``."""

import argparse
from pathlib import Path

from cqox_assets.simulate import finance, healthcare, manufacturing, retail_jp

STUDIES = (healthcare, finance, manufacturing, retail_jp)


def main() -> None:
    """Write every file of every seeded study below the given folder."""
    parser = argparse.ArgumentParser(prog="python -m cqox_assets.simulate", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data"), help="folder that holds the sample studies")
    out = parser.parse_args().out
    for study in STUDIES:
        for name, content in study.files().items():
            path = out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            print(path)


if __name__ == "__main__":
    main()
