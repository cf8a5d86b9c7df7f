"""`python -m midstream` and the console script."""

from __future__ import annotations


def main() -> None:
    from midstream.cli import run_cli

    run_cli()


if __name__ == "__main__":
    main()
