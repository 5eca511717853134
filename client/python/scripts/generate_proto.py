"""Generates src/gradtape/_proto from proto/gradtape/v1.

python scripts/generate_proto.py            # writes the modules
python scripts/generate_proto.py --check    # fails if they are not up to date
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "gradtape" / "_proto"
PROTO = Path(__file__).resolve().parents[3] / "proto"
HEADER = '"""Generated from proto/gradtape/v1 by scripts/generate_proto.py."""\n'


def generate() -> dict[str, str]:
    """Returns the text of every module of the package, by file name."""
    sources = sorted((PROTO / "gradtape" / "v1").glob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        status = protoc.main(
            [
                "protoc",
                f"--proto_path={PROTO}",
                f"--proto_path={files('grpc_tools') / '_proto'}",
                f"--python_out={folder}",
                f"--pyi_out={folder}",
                f"--grpc_python_out={folder}",
                *map(str, sources),
            ]
        )
        if status != 0:
            raise SystemExit(status)
        modules = {"__init__.py": HEADER}
        for path in sorted((Path(folder) / "gradtape" / "v1").iterdir()):
            text = path.read_text()
            # protoc writes imports for a package `gradtape.v1`; the modules live in this one.
            text = re.sub(r"^from gradtape\.v1 import", "from . import", text, flags=re.M)
            if path.stem.endswith("_grpc") and "_SERVICE" not in text and "class " not in text:
                continue  # A file without services has no stubs.
            modules[path.name] = text
        return modules


def main() -> int:
    """Writes or checks the modules."""
    parser = argparse.ArgumentParser(description="Generates the protobuf modules of the package.")
    parser.add_argument("--check", action="store_true", help="only compare; exit with 1 if stale")
    check = parser.parse_args().check
    modules = generate()
    present = {path.name for path in PACKAGE.glob("*.py*") if path.is_file()}
    stale = sorted(
        (present - modules.keys())
        | {
            name
            for name, text in modules.items()
            if name not in present or (PACKAGE / name).read_text() != text
        }
    )
    if check:
        for name in stale:
            print(f"stale: {PACKAGE / name}", file=sys.stderr)
        return 1 if stale else 0
    PACKAGE.mkdir(parents=True, exist_ok=True)
    for name in present - modules.keys():
        (PACKAGE / name).unlink()
    for name, text in modules.items():
        (PACKAGE / name).write_text(text)
    print(f"wrote {len(modules)} modules to {PACKAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
