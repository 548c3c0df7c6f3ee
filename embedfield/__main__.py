"""``python -m embedfield``: the command line."""

from embedfield.cli import main

main()
