"""`python -m reknit` and the `reknit` command."""

from __future__ import annotations


def main() -> None:
    """Run the command line; ends the process with its exit status."""
    from reknit.cli import app

    app(prog_name="reknit")


if __name__ == "__main__":
    main()
