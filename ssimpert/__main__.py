"""``python -m ssimpert`` is the command line."""

from ssimpert.cli import main

main()
