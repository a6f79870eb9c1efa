"""The command `mailserver`."""

import sys


def main() -> None:
    """Run the command line."""
    from mailserver import cli

    sys.exit(cli.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
