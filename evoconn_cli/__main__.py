"""Runs the command line as `python -m evoconn_cli`."""

from evoconn_cli.app import main

if __name__ == "__main__":
    main()
